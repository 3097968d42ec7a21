"""The official scores of captions in Python; the two that need Java are in :mod:`.java`.

Captions are tokens separated by spaces, as :func:`.tokenise.tokenise` returns them: for each image a candidate and its
references. Each score also has a value for each image.
"""

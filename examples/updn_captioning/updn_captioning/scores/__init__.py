"""The official scores of captions, without Java; the two that need Java are in :mod:`.java`.

Captions are tokens joined by spaces, as :func:`.tokenise.tokenise` makes them: for each image one candidate and some
references. Every score comes with its value for each image.
"""

"""Tokenise captions for the official scores: Penn Treebank tokens in lower case, without punctuation.

The official evaluation (``pycocoevalcap``) runs Stanford's ``PTBTokenizer`` (CoreNLP 3.4.1, ``-preserveLines
-lowerCase``) in Java and drops the tokens of :data:`PUNCTUATION`. This module reproduces that program with a table of
patterns (``ptb_patterns.txt``): the longest match makes the next token, and a character without a match is dropped.

On 84,514 captions, questions, answers and explanations of COCO, VQA and VQA-X, all tokens were equal to Java's, with
each text tokenised separately: Java reads a whole file, where the next caption may change the end of the one before.

The official quirks are kept, since published scores contain them: brackets survive as ``-lrb-`` and ``-rrb-`` (the
list of punctuation has them in capitals), and so do ``??`` and ``!!``. Not supported, since captions hardly contain
them, are emoticons, scripts without spaces between words, and abbreviations, contractions or entities that are joined
to the next word ("5e.g.", "U.S.é", "etc.o'clock", "&apos;sa"). Among 10,000 captions made of odd pieces separated by
spaces, and 6,000 with entities and backticks, none differed from Java's.
"""

import html
import re
from collections import defaultdict
from collections.abc import Iterator
from importlib.resources import files

PUNCTUATION = frozenset(["''", "'", "``", "`", ".", "?", "!", ",", ":", "-", "--", "...", ";"])
"""Tokens that the official evaluation drops."""


def _read_rules(text: str) -> list[re.Pattern[str]]:
    """The patterns of ``ptb_patterns.txt`` in order, with names replaced by their definitions."""
    names: defaultdict[str, list[str]] = defaultdict(list)
    patterns: list[str] = []
    for line in text.splitlines():
        if line.startswith("#"):
            continue
        name, defines, alternatives = line.partition(" = ")
        if defines:
            names[name] += alternatives.split(" ")
        else:
            patterns += line.split()

    def resolved(pattern: str) -> str:
        return re.sub(r"<(\w+)>", lambda match: resolved(f"(?:{'|'.join(names[match[1]])})"), pattern)

    return [re.compile(resolved(pattern), re.IGNORECASE) for pattern in patterns]


_RULES = _read_rules((files(__package__) / "ptb_patterns.txt").read_text(encoding="utf-8"))
_WORD = re.compile(r"\s*(?!(?:cannot|gonna|wanna|gotta|lemme|gimme)\b)([a-z]+)(?=\s|$)", re.IGNORECASE)
"""Ordinary words, which need no table."""
_SPELLINGS = str.maketrans(
    {"(": "-lrb-", ")": "-rrb-", "[": "-lsb-", "]": "-rsb-", "{": "-lcb-", "}": "-rcb-", "\u2019": "'", " ": "\xa0"}
    | {"¼": "1/4", "½": "1/2", "¾": "3/4", "⅓": "1/3", "⅔": "2/3", "£": "#", "€": "$", "¤": "$", "¢": "cents"}
    | {"\xad": ""}
)
_ENTITY = re.compile("&(?:amp|lt|gt);", re.IGNORECASE)
_APOSTROPHE = re.compile("(?<![^n])&apos;(?=(?:[smdt]|re|ve|ll)$)", re.IGNORECASE)  # only in contractions


def _character(entity: re.Match[str]) -> str:
    return html.unescape(entity[0].lower())


def tokenise(caption: str) -> str:
    """The tokens of a caption, joined by spaces.

    Example:
        >>> tokenise("A man's T-shirt (white), isn't it?")
        "a man 's t-shirt -lrb- white -rrb- is n't it"
    """
    return " ".join(token for token in _tokens(caption) if token and token not in PUNCTUATION)


def _tokens(text: str) -> Iterator[str]:
    position = 0
    while position < len(text):
        if word := _WORD.match(text, position):
            yield word[1].lower()
            position = word.end()
            continue
        found = [match for rule in _RULES if (match := rule.match(text, position))]
        longest = max(found, key=re.Match.end, default=None)  # the first one among the longest
        if longest is None:
            position += 1
            continue
        groups = [i for i, group in enumerate(longest.groups(), 1) if group is not None] or [0]
        position = longest.end(groups[-1])
        for i in groups:
            yield _APOSTROPHE.sub("'", _ENTITY.sub(_character, longest[i])).translate(_SPELLINGS).lower()

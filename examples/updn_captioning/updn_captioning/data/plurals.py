"""English plurals of nouns."""

_UNCHANGED = frozenset(
    ("aircraft", "baggage", "bison", "broccoli", "cattle", "luggage", "people", "scissors", "shears", "sheep", "skis")
)
_IRREGULAR = {
    "calf": "calves",
    "child": "children",
    "goose": "geese",
    "grandchild": "grandchildren",
    "human": "humans",
    "knife": "knives",
    "mouse": "mice",
    "ox": "oxen",
    "person": "people",
    "pocketknife": "pocketknives",
    "shelf": "shelves",
    "wife": "wives",
}


def plural(phrase: str) -> str:
    """The plural of a noun, or of a phrase's noun: its last word, or the one before "of".

    Example:
        >>> [plural(phrase) for phrase in ("hot dog", "glass of wine", "policeman", "puppy", "bench", "computer mouse")]
        ['hot dogs', 'glasses of wine', 'policemen', 'puppies', 'benches', 'computer mice']
    """
    head, of, rest = phrase.partition(" of ")
    *before, noun = head.split(" ")
    return " ".join([*before, _plural(noun)]) + of + rest


def _plural(noun: str) -> str:
    if noun in _UNCHANGED:
        return noun
    if noun in _IRREGULAR:
        return _IRREGULAR[noun]
    if noun.endswith("man"):
        return noun.removesuffix("man") + "men"
    if noun.endswith(("s", "x", "z", "ch", "sh")):
        return noun + "es"
    if noun.endswith("y") and noun[-2:-1] not in ("", *"aeiou"):
        return noun[:-1] + "ies"
    return noun + "s"

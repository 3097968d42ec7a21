"""The one exception that a command shows its user without a traceback."""


class InputError(ValueError):
    """Something the user gave is wrong: the message names it, the value found, and the remedy."""

"""Consoles that print text literally: names such as ``run[seed=1]`` look like Rich's markup."""

from rich.console import Console


def plain_console(*, stderr: bool = False, soft_wrap: bool = False) -> Console:
    """A console without markup and emoji.

    Args:
        stderr: Print on stderr instead of stdout.
        soft_wrap: Leave the wrapping of long lines to the terminal, so that paths are not broken.
    """
    return Console(stderr=stderr, soft_wrap=soft_wrap, markup=False, emoji=False)

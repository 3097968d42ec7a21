"""Consoles that print text as it is: a name may look like Rich's markup, ``run[seed=1]`` or ``[/what]``."""

from rich.console import Console


def plain_console(*, stderr: bool = False, soft_wrap: bool = False) -> Console:
    """A console without markup and emoji.

    Args:
        stderr: Print there instead of on stdout.
        soft_wrap: Leave long lines to the terminal, so that paths stay whole.
    """
    return Console(stderr=stderr, soft_wrap=soft_wrap, markup=False, emoji=False)

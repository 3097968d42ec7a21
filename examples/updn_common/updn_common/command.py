"""How a command of a pipeline runs and ends: what the user gave wrong is told without a traceback."""

import sys
from collections.abc import Callable, Mapping
from typing import Any

from torch import distributed

from updn_common.errors import InputError


def run_command(commands: Mapping[type, Callable[[Any], None]], config: object) -> None:
    """Run the command that takes options of this type, in each process.

    Args:
        commands: Each command by the type of its options.
        config: Options from the command line.

    Raises:
        SystemExit: The command raised an InputError, whose message this shows.
    """
    try:
        commands[type(config)](config)
    except InputError as error:
        sys.exit(f"error: {error}")
    if distributed.is_initialized():
        distributed.destroy_process_group()  # else its threads, outliving Python, may abort a run that was done

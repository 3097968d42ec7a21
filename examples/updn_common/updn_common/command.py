"""Run a command of a pipeline, and end it with a message instead of a traceback if the user can repair the error."""

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from torch import distributed

from updn_common.errors import InputError
from updn_common.files.writing import is_disk_full


def run_command(commands: Mapping[type, Callable[[Any], None]], config: object) -> None:
    """Run the command that takes options of this type.

    Args:
        commands: The commands, by the type of their options.
        config: Options from the command line.

    Raises:
        SystemExit: The command raised an InputError, the disk was full, or the command was interrupted (status 130, as
            in shells).
    """
    try:
        commands[type(config)](config)
    except InputError as error:
        sys.exit(f"error: {error}")
    except (OSError, SafetensorError) as error:
        if not is_disk_full(error):
            raise
        what = getattr(error, "filename", None) or "a file"
        sys.exit(f"error: {what} could not be written: the disk is full. Free some space or choose another disk.")
    except KeyboardInterrupt:
        out = getattr(config, "out", None) if hasattr(config, "resume") else None
        resumable = isinstance(out, Path) and (out / "last.safetensors").is_file()
        remedy = " with --resume: it continues from the last checkpoint" if resumable else ""
        sys.stderr.write(f"interrupted; run the same command again{remedy}.\n")
        sys.exit(130)
    if distributed.is_initialized():
        distributed.destroy_process_group()  # otherwise its threads may outlive Python and abort a finished run

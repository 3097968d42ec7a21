"""How a command of a pipeline runs and ends: what the user gave wrong is told without a traceback."""

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from torch import distributed

from updn_common.errors import InputError
from updn_common.files.writing import is_disk_full


def run_command(commands: Mapping[type, Callable[[Any], None]], config: object) -> None:
    """Run the command that takes options of this type, in each process.

    Args:
        commands: Each command by the type of its options.
        config: Options from the command line.

    Raises:
        SystemExit: The command raised an InputError, whose message this shows, met a full disk, or was interrupted
            (with the status 130, as by a shell's convention).
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
        remedy = " with --resume: it goes on from the last checkpoint" if resumable else ""
        sys.stderr.write(f"interrupted; run the same command again{remedy}.\n")
        sys.exit(130)
    if distributed.is_initialized():
        distributed.destroy_process_group()  # else its threads, outliving Python, may abort a run that was done

"""The command line of a pipeline: its commands, and how one of them ends when something is wrong."""

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Union

import tyro
from safetensors import SafetensorError
from torch import distributed

from updn_common.errors import InputError
from updn_common.files.writing import is_disk_full

Command = tuple[type[Any], Callable[[Any], None]]
"""The class of a command's options, and the function that takes them."""


def run_command_line(program: str, description: str | None, commands: Mapping[str, Command]) -> None:
    """Run the command that the command line names.

    Args:
        program: Name of the program.
        description: What the help says about it.
        commands: The commands, by their names.

    Raises:
        SystemExit: The command line is wrong, or the command ended early, as in `run_command`.
    """
    config = parse_command_line(program, description, commands)
    run_command(next(run for options, run in commands.values() if options is type(config)), config)


def parse_command_line(
    program: str, description: str | None, commands: Mapping[str, Command], arguments: Sequence[str] | None = None
) -> Any:
    """The options of the command that the arguments name, by default those of the process."""
    subcommands = tuple(Annotated[options, tyro.conf.subcommand(name)] for name, (options, _) in commands.items())
    choice: Any = Union[subcommands]  # noqa: UP007 (a tuple has no |)
    # Options of a command may stand before or after its subcommands, and have short names.
    markers = (tyro.conf.CascadeSubcommandArgs, tyro.conf.OmitSubcommandPrefixes)
    return tyro.cli(choice, prog=program, description=description, args=arguments, config=markers)


def run_command(command: Callable[[Any], None], config: object) -> None:
    """Run a command, in each process.

    Args:
        command: The command.
        config: Its options.

    Raises:
        SystemExit: The command raised an InputError, whose message this shows; the disk is full; or the command was
            interrupted (with status 130, as shells do).
    """
    try:
        command(config)
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
        distributed.destroy_process_group()  # its threads could outlive Python, and abort a run that has succeeded

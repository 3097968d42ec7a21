"""The command ``human-study``: from two runs to a blinded study, its answers, and an honest analysis of them."""

from collections.abc import Callable
from typing import Annotated, Any

import tyro

from human_study.analysis.analyse import AnalyseConfig, analyse
from human_study.analysis.power import PowerConfig, power
from human_study.analysis.preregister import PreregisterConfig, preregister
from human_study.folder.build import BuildConfig, build
from human_study.server.export import ExportConfig, export
from human_study.server.serve import ServeConfig, serve
from human_study.server.static_site import StaticConfig, write_static
from human_study.server.take_in import ImportConfig, take_in
from human_study.server.withdraw import WithdrawConfig, withdraw
from human_study.simulation.simulate import SimulateConfig, simulate
from updn_common.command import run_command

COMMANDS: dict[type, Callable[[Any], None]] = {
    BuildConfig: build,
    ServeConfig: serve,
    StaticConfig: write_static,
    ImportConfig: take_in,
    WithdrawConfig: withdraw,
    ExportConfig: export,
    AnalyseConfig: analyse,
    SimulateConfig: simulate,
    PowerConfig: power,
    PreregisterConfig: preregister,
}
Command = (
    Annotated[BuildConfig, tyro.conf.subcommand("build")]
    | Annotated[ServeConfig, tyro.conf.subcommand("serve")]
    | Annotated[StaticConfig, tyro.conf.subcommand("static")]
    | Annotated[ImportConfig, tyro.conf.subcommand("import")]
    | Annotated[WithdrawConfig, tyro.conf.subcommand("withdraw")]
    | Annotated[ExportConfig, tyro.conf.subcommand("export")]
    | Annotated[AnalyseConfig, tyro.conf.subcommand("analyse")]
    | Annotated[SimulateConfig, tyro.conf.subcommand("simulate")]
    | Annotated[PowerConfig, tyro.conf.subcommand("power")]
    | Annotated[PreregisterConfig, tyro.conf.subcommand("preregister")]
)
OPTIONS = (tyro.conf.OmitSubcommandPrefixes,)


def main() -> None:
    """Run the command line."""
    run_command(COMMANDS, tyro.cli(Command, prog="human-study", description=__doc__, config=OPTIONS))


if __name__ == "__main__":
    main()

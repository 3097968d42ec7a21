"""The command ``human-study``: from two runs to a blinded study, its answers, and an honest analysis of them."""

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
from updn_common.command import Command, run_command_line

COMMANDS: dict[str, Command] = {
    "build": (BuildConfig, build),
    "serve": (ServeConfig, serve),
    "static": (StaticConfig, write_static),
    "import": (ImportConfig, take_in),
    "withdraw": (WithdrawConfig, withdraw),
    "export": (ExportConfig, export),
    "analyse": (AnalyseConfig, analyse),
    "simulate": (SimulateConfig, simulate),
    "power": (PowerConfig, power),
    "preregister": (PreregisterConfig, preregister),
}


def main() -> None:
    """Run the command line."""
    run_command_line("human-study", __doc__, COMMANDS)


if __name__ == "__main__":
    main()

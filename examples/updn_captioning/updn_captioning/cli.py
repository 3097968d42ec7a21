"""The command ``updn-captioning``: from official files to a trained network, its scores, and pictures of why."""

from collections.abc import Callable
from typing import Annotated, Any

import tyro

from updn_captioning.data.data_command import show_data
from updn_captioning.data.prepare import prepare
from updn_captioning.data.prepare_config import PrepareConfig
from updn_captioning.evaluation.evaluate import EvaluateConfig, evaluate
from updn_captioning.evaluation.explain import ExplainConfig, explain
from updn_captioning.studies.compare import CompareConfig, compare
from updn_captioning.studies.study import StudyConfig, study
from updn_captioning.training.config import TrainConfig
from updn_captioning.training.train import train
from updn_common.command import run_command
from updn_common.data.data_command import DataConfig

COMMANDS: dict[type, Callable[[Any], None]] = {
    DataConfig: show_data,
    PrepareConfig: prepare,
    TrainConfig: train,
    EvaluateConfig: evaluate,
    CompareConfig: compare,
    ExplainConfig: explain,
    StudyConfig: study,
}
Command = (
    Annotated[DataConfig, tyro.conf.subcommand("data")]
    | Annotated[PrepareConfig, tyro.conf.subcommand("prepare")]
    | Annotated[TrainConfig, tyro.conf.subcommand("train")]
    | Annotated[EvaluateConfig, tyro.conf.subcommand("evaluate")]
    | Annotated[CompareConfig, tyro.conf.subcommand("compare")]
    | Annotated[ExplainConfig, tyro.conf.subcommand("explain")]
    | Annotated[StudyConfig, tyro.conf.subcommand("study")]
)
OPTIONS = (tyro.conf.CascadeSubcommandArgs, tyro.conf.OmitSubcommandPrefixes)
"""Options of a command may stand before or after METHOD and SCALE, and go by short names."""


def main() -> None:
    """Run the command line."""
    run_command(COMMANDS, tyro.cli(Command, prog="updn-captioning", description=__doc__, config=OPTIONS))


if __name__ == "__main__":
    main()

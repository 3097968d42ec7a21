"""The command ``updn-vqa``: from official files to a trained network, its accuracy, and pictures of why."""

from collections.abc import Callable
from typing import Annotated, Any

import tyro

from updn_common.command import run_command
from updn_common.data.data_command import DataConfig
from updn_vqa.data.data_command import show_data
from updn_vqa.data.prepare import prepare
from updn_vqa.data.prepare_config import PrepareConfig
from updn_vqa.data.rebuild import RebuildConfig, rebuild
from updn_vqa.evaluation.evaluate import EvaluateConfig, evaluate
from updn_vqa.evaluation.explain import ExplainConfig, explain
from updn_vqa.evaluation.predict import PredictConfig, predict
from updn_vqa.studies.compare import CompareConfig, compare
from updn_vqa.studies.study import StudyConfig, study
from updn_vqa.training.config import TrainConfig
from updn_vqa.training.train import train

COMMANDS: dict[type, Callable[[Any], None]] = {
    DataConfig: show_data,
    RebuildConfig: rebuild,
    PrepareConfig: prepare,
    TrainConfig: train,
    EvaluateConfig: evaluate,
    PredictConfig: predict,
    CompareConfig: compare,
    ExplainConfig: explain,
    StudyConfig: study,
}
Command = (
    Annotated[DataConfig, tyro.conf.subcommand("data")]
    | Annotated[RebuildConfig, tyro.conf.subcommand("rebuild-cp")]
    | Annotated[PrepareConfig, tyro.conf.subcommand("prepare")]
    | Annotated[TrainConfig, tyro.conf.subcommand("train")]
    | Annotated[EvaluateConfig, tyro.conf.subcommand("evaluate")]
    | Annotated[PredictConfig, tyro.conf.subcommand("predict")]
    | Annotated[CompareConfig, tyro.conf.subcommand("compare")]
    | Annotated[ExplainConfig, tyro.conf.subcommand("explain")]
    | Annotated[StudyConfig, tyro.conf.subcommand("study")]
)
OPTIONS = (tyro.conf.CascadeSubcommandArgs, tyro.conf.OmitSubcommandPrefixes)
"""Options of a command may stand before or after METHOD and SCALE, and go by short names."""


def main() -> None:
    """Run the command line."""
    run_command(COMMANDS, tyro.cli(Command, prog="updn-vqa", description=__doc__, config=OPTIONS))


if __name__ == "__main__":
    main()

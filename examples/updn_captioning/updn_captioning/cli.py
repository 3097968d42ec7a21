"""The command ``updn-captioning``: from official files to a trained network, its scores, and pictures of why."""

from updn_captioning.data.data_command import show_data
from updn_captioning.data.prepare import prepare
from updn_captioning.data.prepare_config import PrepareConfig
from updn_captioning.evaluation.evaluate import EvaluateConfig, evaluate
from updn_captioning.evaluation.explain import ExplainConfig, explain
from updn_captioning.studies.compare import CompareConfig, compare
from updn_captioning.studies.study import StudyConfig, study
from updn_captioning.training.config import TrainConfig
from updn_captioning.training.train import train
from updn_common.command import Command, run_command_line
from updn_common.data.data_command import DataConfig

COMMANDS: dict[str, Command] = {
    "data": (DataConfig, show_data),
    "prepare": (PrepareConfig, prepare),
    "train": (TrainConfig, train),
    "evaluate": (EvaluateConfig, evaluate),
    "compare": (CompareConfig, compare),
    "explain": (ExplainConfig, explain),
    "study": (StudyConfig, study),
}


def main() -> None:
    """Run the command line."""
    run_command_line("updn-captioning", __doc__, COMMANDS)


if __name__ == "__main__":
    main()

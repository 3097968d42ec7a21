"""The command ``updn-vqa``: from official files to a trained network, its accuracy, and pictures of why."""

from updn_common.command import Command, run_command_line
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

COMMANDS: dict[str, Command] = {
    "data": (DataConfig, show_data),
    "rebuild-cp": (RebuildConfig, rebuild),
    "prepare": (PrepareConfig, prepare),
    "train": (TrainConfig, train),
    "evaluate": (EvaluateConfig, evaluate),
    "predict": (PredictConfig, predict),
    "compare": (CompareConfig, compare),
    "explain": (ExplainConfig, explain),
    "study": (StudyConfig, study),
}


def main() -> None:
    """Run the command line."""
    run_command_line("updn-vqa", __doc__, COMMANDS)


if __name__ == "__main__":
    main()

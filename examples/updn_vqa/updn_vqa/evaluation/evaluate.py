"""Official accuracy and grounding of a run, or the accuracy of given answers: ``updn-vqa evaluate``."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.table import Table

from updn_common.console import plain_console
from updn_common.errors import InputError
from updn_common.files.writing import write_json
from updn_common.reports.bootstrap import Number
from updn_common.reports.tables import format_number
from updn_common.runs.importance import Importance, trained_importance
from updn_common.runs.measurements import CheckpointName
from updn_common.runs.processes import make_accelerator
from updn_vqa.data.accuracy import AccuracyVersion
from updn_vqa.data.prepared import PreparedData, VqaSplit
from updn_vqa.data.questions import check_same_questions, read_results, write_results
from updn_vqa.evaluation.measures import (
    Evaluation,
    evaluate_answers,
    evaluate_run,
    numbers,
    relevant_by,
)

NAMES = {
    "rank_correlation": "rank correlation",
    "pointing": "pointing (%)",
    "fpvg": "FPVG: well grounded (%)",
    "ggc": "  and correct, GGC (%)",
    "ggw": "  and wrong, GGW (%)",
    "bgc": "badly grounded, correct, BGC (%)",
    "bgw": "badly grounded, wrong, BGW (%)",
    "sufficiency": "sufficiency (low is faithful)",
    "comprehensiveness": "comprehensiveness (high is)",
    "flips_irrelevant": "flips with irrelevant ones swapped (%)",
    "flips_relevant": "flips with relevant ones swapped (%)",
}
"""Labels of the measures of grounding."""


@dataclass(frozen=True)
class EvaluateConfig:
    """Which answers to evaluate, and on which split.

    Attributes:
        data: The prepared directory.
        run: Path of the run to evaluate; results are written to its folder ``evaluation``.
        results: Instead of --run: a file of answers by any model, in the official results format.
        split: Name of the split to answer.
        checkpoint: The best checkpoint on the development split, or the last.
        cpu: Evaluate on the CPU even where there is a GPU.
    """

    data: Path
    run: Path | None = None
    results: Path | None = None
    split: str = "test"
    checkpoint: CheckpointName = "best"
    cpu: bool = False


def evaluate(config: EvaluateConfig) -> None:
    """Print the official accuracy on a split, in both versions, and a run's grounding, with confidence intervals.

    For a run, also write ``evaluation/<split>/results.json``, which any official evaluator reads, ``accuracy.json``,
    and the measurements on each question.

    Raises:
        InputError: The run, the split or the checkpoint does not exist or does not belong to this data; the results
            are for other questions; both a run and results are given, or neither.
    """
    if (config.run is None) == (config.results is None):
        raise InputError("Give either --run, to answer the split, or --results, to score answers to it.")
    data = PreparedData.open(config.data)
    split = data.split(config.split)
    if config.results is not None:
        results = _read_results(config.results, data, split)
        evaluation = evaluate_answers([results[question_id] for question_id in split.question_ids], split)
        _print(f"{config.results} on {config.split}", _accuracy(evaluation), {})
    if config.run is not None:
        accelerator = make_accelerator(cpu=config.cpu)
        evaluation = evaluate_run(config.run, data, split, accelerator, checkpoint=config.checkpoint)
        if accelerator.is_main_process:
            _write(config, config.run, data, split, evaluation)


def _read_results(path: Path, data: PreparedData, split: VqaSplit) -> dict[int, str]:
    """Read a results file with one answer to each question of the split."""
    results, asked = read_results(path), split.question_ids
    if results and results.keys().isdisjoint(asked):
        for other in data.split_names:
            if results.keys() <= set(data.split(other).question_ids):
                raise InputError(
                    f"{path} answers questions of the split {other!r}, none of {split.name!r}. Give --split {other}."
                )
    check_same_questions(results, asked, str(path))
    return results


def _write(config: EvaluateConfig, run: Path, data: PreparedData, split: VqaSplit, evaluation: Evaluation) -> None:
    accuracy, grounding = _accuracy(evaluation), numbers(evaluation.grounding(), evaluation.images)
    out = run / "evaluation" / config.split
    write_results(out / "results.json", zip(split.question_ids, evaluation.answers, strict=True))
    record = {
        "accuracy": {version: asdict(report) for version, report in evaluation.reports.items()},
        **dict.fromkeys(NAMES),
        **{name: number.value for name, number in grounding.items()},
        "relevant_by": relevant_by(data, split.name),
        "importance": trained_importance(run),
        "intervals": {
            "accuracy": {version: _intervals(found) for version, found in accuracy.items()},
            **_intervals(grounding),
        },
    }
    write_json(out / "accuracy.json", record, indent=1)
    _print(f"{run} on {config.split}", accuracy, grounding, trained_importance(run))


def _accuracy(evaluation: Evaluation) -> dict[AccuracyVersion, dict[str, Number]]:
    return {version: numbers(evaluation.accuracy(version), evaluation.images) for version in evaluation.reports}


def _intervals(found: Mapping[str, Number]) -> dict[str, list[float]]:
    return {name: list(number.interval) for name, number in found.items()}


def _print(
    title: str,
    accuracy: Mapping[AccuracyVersion, Mapping[str, Number]],
    grounding: Mapping[str, Number],
    importance: Importance = "sum",
) -> None:
    """Print a table of accuracy and, if it is known, a table of grounding."""
    caption = "in brackets: 95 % confidence intervals, over images"
    table = Table(title=f"{title}: official VQA accuracy", caption=caption)
    table.add_column("questions")
    for version in accuracy:
        table.add_column(f"rules of {version} (%)", justify="right")
    sections = {name: name.startswith('"') for name in next(iter(accuracy.values()))}
    for i, name in enumerate(sections):
        following = list(sections)[i + 1 : i + 2]
        ends = name == "all" or any(sections[name] != sections[other] for other in following)
        table.add_row(name, *(format_number(found[name], 2) for found in accuracy.values()), end_section=ends)
    plain_console().print(table)
    if grounding:
        table = Table(title=f"{title}: grounding", caption=f"importance: the gradient's {importance}, as in training")
        table.add_column("measure")
        table.add_column("mean", justify="right")
        for name, number in grounding.items():
            table.add_row(NAMES[name], format_number(number, 2 if "%" in NAMES[name] else 3))
        plain_console().print(table)

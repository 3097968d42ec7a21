"""The official accuracy of a run, or of given answers, on a split: ``updn-vqa evaluate``."""

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from accelerate import Accelerator
from rich.console import Console
from rich.table import Table

from updn_common.errors import InputError
from updn_common.files import write_json
from updn_vqa.accuracy import AccuracyReport, AccuracyVersion
from updn_vqa.accuracy import evaluate as official_accuracy
from updn_vqa.data import PreparedData, VqaSplit
from updn_vqa.measure import load_model, measure
from updn_vqa.questions import check_same_questions, read_results, write_results

VERSIONS: tuple[AccuracyVersion, ...] = ("2016", "2021")
UNITS = {"rank_correlation": "", "pointing": " %"}


@dataclass(frozen=True)
class EvaluateConfig:
    """Which answers to evaluate on what.

    Attributes:
        data: The prepared directory.
        run: The run's directory; results go into its folder ``evaluation``.
        results: Instead of a run: answers in the official results shape, by whatever model, to score.
        split: The split to answer.
        checkpoint: The best on the development split, or the last.
        cpu: Evaluate on the CPU even where there is a GPU.
    """

    data: Path
    run: Path | None = None
    results: Path | None = None
    split: str = "test"
    checkpoint: Literal["best", "last"] = "best"
    cpu: bool = False


def evaluate(config: EvaluateConfig) -> None:
    """Print the official accuracy on a split, both versions, and a run's grounding.

    Of a run, writes ``evaluation/<split>/results.json``, which any official evaluator reads, and ``accuracy.json``.

    Raises:
        InputError: The run, the split or the checkpoint does not exist or does not belong to this data; the results
            are not of the split's questions; both a run and results are given, or neither.
    """
    if (config.run is None) == (config.results is None):
        raise InputError("Give either --run, to answer the split, or --results, to score answers to it.")
    data = PreparedData.open(config.data)
    split = data.split(config.split)
    if config.results is not None:
        reports = _reports(_read_results(config.results, data, split), split)
        Console().print(_table(f"{config.results} on {config.split}", reports, {}))
    if config.run is not None:
        _evaluate_run(config, config.run, data, split)


def _read_results(path: Path, data: PreparedData, split: VqaSplit) -> dict[int, str]:
    """The answers in a results file, which should be to the questions of the split."""
    results, asked = read_results(path), split.question_ids
    if results and results.keys().isdisjoint(asked):
        for other in data.split_names:
            if results.keys() <= set(data.split(other).question_ids):
                raise InputError(
                    f"{path} answers questions of the split {other!r}, none of {split.name!r}. Give --split {other}."
                )
    check_same_questions(results, asked, str(path))
    return results


def _evaluate_run(config: EvaluateConfig, run: Path, data: PreparedData, split: VqaSplit) -> None:
    accelerator = Accelerator(cpu=config.cpu)
    model = load_model(run, data, config.checkpoint).to(accelerator.device)
    measured = measure(model, split, accelerator)
    if not accelerator.is_main_process:
        return
    answers = [data.answers.answers[index] for index in measured.answers.tolist()]
    results = dict(zip(split.question_ids, answers, strict=True))
    reports = _reports(results, split)
    grounding = {k: v for k, v in measured.summary().items() if k != "accuracy"}

    out = run / "evaluation" / config.split
    out.mkdir(parents=True, exist_ok=True)
    write_results(out / "results.json", results.items())
    write_json(out / "accuracy.json", {"accuracy": {v: asdict(r) for v, r in reports.items()}, **grounding}, indent=1)
    Console().print(_table(f"{run} on {config.split}", reports, grounding))


def _reports(results: dict[int, str], split: VqaSplit) -> dict[AccuracyVersion, AccuracyReport]:
    return {version: official_accuracy(results, split.annotations, version=version) for version in VERSIONS}


def _table(title: str, reports: dict[AccuracyVersion, AccuracyReport], grounding: dict[str, float]) -> Table:
    known = {name: value for name, value in grounding.items() if math.isfinite(value)}
    caption = ", ".join(f"{name.replace('_', ' ')} {value:.2f}{UNITS[name]}" for name, value in known.items())
    table = Table(title=f"{title}: official VQA accuracy", caption=caption)
    table.add_column("questions")
    for version in reports:
        table.add_column(f"rules of {version} (%)", justify="right")
    columns = list(reports.values())
    table.add_row("all", *(f"{report.overall:.2f}" for report in columns), end_section=True)
    for name in columns[0].by_answer_type:
        table.add_row(name, *(f"{report.by_answer_type[name]:.2f}" for report in columns))
    table.add_section()
    for name in columns[0].by_question_type:
        table.add_row(f'"{name}"', *(f"{report.by_question_type[name]:.2f}" for report in columns))
    return table

"""The result of an evaluation, as tables and as a record."""

from collections.abc import Mapping
from typing import Any

from rich.table import Table

from updn_captioning.evaluation.grounding import CaptionKind
from updn_captioning.evaluation.measures import Evaluation
from updn_captioning.scores.java import JavaScores
from updn_common.console import plain_console
from updn_common.reports.bootstrap import Number, estimate
from updn_common.reports.tables import format_number

NAMES = {
    **{f"Bleu_{n}": f"BLEU-{n}" for n in (1, 2, 3, 4)},
    "ROUGE_L": "ROUGE-L",
    "CIDEr": "CIDEr-D",
    "CHAIRi": "CHAIRi: hallucinated mentions (%)",
    "CHAIRs": "CHAIRs: captions with any (%)",
}
"""Labels of the scores of captions."""
GROUNDING = {
    "gradient_rank_correlation": "gradient: rank correlation",
    "gradient_pointing": "gradient: pointing (%)",
    "attention_rank_correlation": "attention: rank correlation",
    "attention_pointing": "attention: pointing (%)",
}
"""Labels of the measures of visual words."""
KIND_NAMES: dict[CaptionKind, str] = {"reference": "references", "generated": "own captions"}


def record(evaluation: Evaluation, java: Mapping[str, JavaScores]) -> dict[str, Any]:
    """The whole result as JSON values."""
    numbers = estimate(evaluation.statistics).numbers()
    by_image = {**evaluation.by_image} | {name: scores.by_image for name, scores in java.items()}
    return {
        "images": len(evaluation.captions),
        "scores": {name: number.value for name, number in numbers.items()}
        | {name: scores.corpus for name, scores in java.items()},
        "intervals": {name: list(number.interval) for name, number in numbers.items()},
        "words": {kind: len(words.images) for kind, words in evaluation.words.items()},
        "words_by_measure": {kind: words.counts() for kind, words in evaluation.words.items()},
        "by_category": {kind: words.by_category(evaluation.categories) for kind, words in evaluation.words.items()},
        "by_image": {
            image_id: {name: scores[i] for name, scores in by_image.items()}
            for i, image_id in enumerate(evaluation.captions)
        },
    }


def print_evaluation(evaluation: Evaluation, java: Mapping[str, JavaScores], title: str, objects: str) -> None:
    """Print a table of scores and, if visual words were measured, a table of grounding."""
    console, numbers = plain_console(), estimate(evaluation.statistics).numbers()
    console.print(f"{title}: {len(evaluation.captions):,} captions", soft_wrap=True)
    table = Table()
    table.add_column("score")
    table.add_column("value", justify="right")
    for name, label in NAMES.items():
        if name in numbers:
            table.add_row(
                label, format_number(numbers[name], 2 if "%" in label else 3), end_section=name == "CIDEr" and not java
            )
        if name == "CIDEr":
            for other, scores in java.items():
                table.add_row(other, f"{scores.corpus:.3f}", end_section=other == list(java)[-1])
    console.print(table)
    if _measured(evaluation):
        console.print(_grounding(evaluation, numbers))
    console.print(*_notes(evaluation, objects), sep="\n", highlight=False)


def _notes(evaluation: Evaluation, objects: str) -> list[str]:
    lines = ["In brackets: 95 % confidence intervals, over images."]
    if empty := sum(not caption for caption in evaluation.captions.values()):
        lines.append(f"{empty:,} captions have no words, and score 0.")
    if objects:
        lines.append(f"CHAIR: an object is there if it is {objects}. Words: {evaluation.chair_words}.")
    if _measured(evaluation):
        lines.append(
            "Pointing is measured on words whose category some proposal shows: it overlaps such an object by more than "
            "half (intersection over union)."
        )
    return lines


def _measured(evaluation: Evaluation) -> bool:
    return any(len(words.images) for words in evaluation.words.values())


def _grounding(evaluation: Evaluation, numbers: Mapping[str, Number]) -> Table:
    table = Table()
    table.add_column("visual words")
    for kind in evaluation.words:
        table.add_column(f"of {KIND_NAMES[kind]}", justify="right")
    measured = evaluation.words.values()
    table.add_row("words", *(f"{len(words.images):,}" for words in measured))
    table.add_row("words with pointing", *(f"{words.counts()['gradient_pointing']:,}" for words in measured))
    table.add_section()
    for name, label in GROUNDING.items():
        found = [numbers.get(f"{kind}_{name}") for kind in evaluation.words]
        table.add_row(label, *(format_number(number, 2 if "%" in label else 3) if number else "-" for number in found))
    return table

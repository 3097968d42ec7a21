"""Official scores of captions, and the grounding of a run's visual words: ``updn-captioning evaluate``."""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

from updn_captioning.data.instances import Instances
from updn_captioning.data.prepared import CaptionSplit, PreparedData
from updn_captioning.data.results import check_captioned, read_references, read_results, write_results
from updn_captioning.data.tokenise import tokenise
from updn_captioning.data.visual_words import VisualWords
from updn_captioning.evaluation.evaluate_report import print_evaluation, record
from updn_captioning.evaluation.measures import Evaluation, evaluate_captions, evaluate_on_split, evaluate_run
from updn_captioning.networks.generate import Decoding
from updn_captioning.scores.chair import Finder
from updn_captioning.scores.chair_words import ChairWords
from updn_captioning.scores.java import JavaScores, meteor, spice
from updn_common.errors import InputError
from updn_common.files.writing import write_json
from updn_common.runs.importance import trained_importance
from updn_common.runs.measurements import CheckpointName
from updn_common.runs.processes import make_accelerator

JavaName = Literal["METEOR", "SPICE"]
_JAVA = {"METEOR": meteor, "SPICE": spice}
ANNOTATED = "annotated or named by a reference"
"""For CHAIR, how an object is known to be in an image."""


@dataclass(frozen=True)
class EvaluateConfig:
    """Which captions to evaluate: those of a run on a prepared split, or those of any model.

    Attributes:
        data: The prepared directory.
        run: Path of the run to evaluate; results are written to its folder ``evaluation``.
        results: Instead of --run: a file of captions by any model, in the official results format.
        references: Instead of --data: COCO caption files of the same images, such as captions_val2014.json.
        instances: With --references: COCO instance files, which CHAIR needs.
        chair_words: With --results: the list of CHAIR's authors, synonyms.txt, to count words as they do.
        subset: With --references: leave out images without a caption, instead of stopping.
        tokenised: With --references: all captions are tokenised already, as by the official tokeniser.
        out: With --results: a file to write all scores to.
        split: Name of the split of --data.
        checkpoint: The best checkpoint on the development split, or the last.
        decoding: How a run's captions are generated.
        java: Scores that need Java and further packages: METEOR, SPICE.
        cpu: Evaluate on the CPU even where there is a GPU.
    """

    data: Path | None = None
    run: Path | None = None
    results: Path | None = None
    references: tuple[Path, ...] = ()
    instances: tuple[Path, ...] = ()
    chair_words: Path | None = None
    subset: bool = False
    tokenised: bool = False
    out: Path | None = None
    split: str = "test"
    checkpoint: CheckpointName = "best"
    decoding: Decoding = field(default_factory=Decoding)
    java: tuple[JavaName, ...] = ()
    cpu: bool = False

    def check(self) -> None:
        """Check that the options go together.

        Raises:
            InputError: They do not, or an option is out of range.
        """
        self.decoding.check()
        if (self.run is None) == (self.results is None):
            raise InputError("Give either --run, to caption a split, or --results, to score captions.")
        if (self.data is None) == (not self.references):
            raise InputError("Give either --data, a prepared directory, or --references, official caption files.")
        if self.run is not None and self.data is None:
            raise InputError("--run needs --data, the directory that was prepared for it, instead of --references.")
        if self.run is not None and self.out is not None:
            raise InputError("--out is for --results: the scores of a run are written to its own directory.")
        if self.chair_words is not None and self.results is None:
            raise InputError(
                "--chair-words is for --results: give a run's captions, evaluation/SPLIT/results.json in its directory."
            )
        if self.chair_words is not None and self.references and not self.instances:
            raise InputError("--chair-words needs --instances, which list the objects in each image.")
        given = {"--instances": self.instances, "--subset": self.subset, "--tokenised": self.tokenised}
        for name in (name for name, value in given.items() if value and self.data is not None):
            raise InputError(f"{name} is for --references: a prepared directory needs no such option.")


def evaluate(config: EvaluateConfig) -> None:
    """Print the official scores of captions, CHAIR, and a run's grounding, with confidence intervals.

    For a run, also write ``evaluation/<split>/results.json``, which any official evaluator reads, ``scores.json``, and
    the measurements on each visual word.

    Raises:
        InputError: Options do not go together; a file is wrong; the run, the split or the checkpoint does not exist or
            does not belong to this data; results, references and instances are not of the same images; a Java program
            is missing.
    """
    config.check()
    if config.results is not None and config.data is None:
        objects = ANNOTATED if config.instances else ""
        _report(config, _evaluate_files(config, config.results), config.out, str(config.results), objects)
    if config.data is not None:
        _evaluate_prepared(config, PreparedData.open(config.data))


def _evaluate_files(config: EvaluateConfig, path: Path) -> Evaluation:
    """Evaluate captions against official files."""
    results, references = read_results(path), read_references(config.references, tokenised=config.tokenised)
    where = " and ".join(map(str, config.references))
    if config.subset:
        references = {image_id: captions for image_id, captions in references.items() if image_id in results}
    check_captioned(results, references, str(path), where, "Caption them, or leave them out with --subset.")
    tokens = {
        image_id: results[image_id] if config.tokenised else tokenise(results[image_id]) for image_id in references
    }
    words: Finder = VisualWords.read_list()
    annotated = None
    if config.instances:
        instances = Instances.read(config.instances)
        listed = " and ".join(map(str, config.instances))
        remedy = "Add their file to --instances, or leave --instances out: then there is no CHAIR."
        instances.check_listed(tokens, "images with captions", listed, remedy)
        words = VisualWords.for_instances(instances.categories)
        if config.chair_words is not None:
            words = ChairWords.read(config.chair_words, instances.categories)
        annotated = [(image_id, category) for image_id in tokens for category in instances.present(image_id)]
    return evaluate_captions(tokens, references, annotated, words)


def _evaluate_prepared(config: EvaluateConfig, data: PreparedData) -> None:
    """Evaluate captions of a prepared split, given ones or those of a run."""
    split = data.split(config.split)
    annotated = data.record["hints"] != "none"
    objects = ""
    if data.categories:
        objects = ANNOTATED if annotated else "named by a reference"
    if config.results is not None:
        words = ChairWords.read(config.chair_words, data.categories) if config.chair_words else None
        evaluation = evaluate_on_split(_results_of_split(config.results, data, split), data, split, words)
        _report(config, evaluation, config.out, f"{config.results} on {split.name}", objects)
    if config.run is not None:
        accelerator = make_accelerator(cpu=config.cpu)
        evaluation = evaluate_run(
            config.run, data, split, accelerator, checkpoint=config.checkpoint, decoding=config.decoding
        )
        if accelerator.is_main_process:
            out = config.run / "evaluation" / split.name
            write_results(out / "results.json", evaluation.captions)
            title = f"{config.run} on {split.name} (importance: the gradient's {trained_importance(config.run)})"
            _report(config, evaluation, out / "scores.json", title, objects)


def _results_of_split(path: Path, data: PreparedData, split: CaptionSplit) -> dict[int, str]:
    """Read a results file with a caption of each image of the split."""
    results = read_results(path)
    if results.keys().isdisjoint(split.image_ids):
        for other in data.split_names:
            if results.keys() <= set(data.split(other).image_ids):
                raise InputError(
                    f"{path} captions images of the split {other!r}, none of {split.name!r}. Give --split {other}."
                )
    check_captioned(results, split.image_ids, str(path), str(split.directory), "Caption all images of the split.")
    return results


def _report(config: EvaluateConfig, evaluation: Evaluation, out: Path | None, title: str, objects: str) -> None:
    """Compute the Java scores, print all scores, and write them to a file."""
    java: dict[str, JavaScores] = {
        name: _JAVA[name](evaluation.captions, evaluation.references) for name in config.java
    }
    if out is not None:
        found = record(evaluation, java)
        if objects:
            found |= {"chair_objects": objects, "chair_words": evaluation.chair_words}
        if config.run is not None:
            found["decoding"] = asdict(config.decoding)
            found["importance"] = trained_importance(config.run)
        write_json(out, found, indent=1)
    print_evaluation(evaluation, java, title, objects)

"""What a run is trained with: its options, their record in the run's directory, and what differs from that record."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from updn_captioning.data.vocabulary import CaptionVocabulary
from updn_captioning.training.methods import Method, MethodChoice, Scale, ScaleChoice
from updn_common.errors import InputError, check_range
from updn_common.runs.training import check_clip, flat, options_changed, options_record


@dataclass(frozen=True)
class TrainConfig:
    """What to train, on what.

    Attributes:
        data: The prepared directory.
        out: The run's directory.
        method: How captions are learned, and what from hints: one row of a table of results.
        scale: Sizes of the network and the schedule.
        start_from: A run whose best checkpoint to start from, as HINT and self-critical training do; default: random
            weights.
        hint_share: Use the hints for this share of the train images (at most for those that have any): 0.06 is 6 %.
        seed: Of the weights, the order of captions, which words are drawn, dropout, and which hints are used.
        micro_batches: Split each process's share of a step, for less memory; the result is the same.
        precision: Of the forward pass.
        workers: Processes that load proposals.
        cpu: Train on the CPU even where there is a GPU.
        resume: Continue the run in --out from its last checkpoint.
    """

    data: Path
    out: Path
    method: MethodChoice
    scale: ScaleChoice
    start_from: Path | None = None
    hint_share: float = 1.0
    seed: int = 0
    micro_batches: int = 1
    precision: Literal["no", "bf16"] = "no"
    workers: int = 0
    cpu: bool = False
    resume: bool = False

    def check(self) -> None:
        """Check the options that can be judged without the data.

        Raises:
            InputError: one makes no sense.
        """
        method, scale, sizes = self.method, self.scale, self.scale.model
        check_range(1, steps=scale.steps, evaluate_every=scale.evaluate_every, micro_batches=self.micro_batches)
        check_range(1, batch_size=scale.batch_size)
        check_range(1, **{f"model.{name}": getattr(sizes, name) for name in ("embedding", "hidden", "attention")})
        check_range(0, seed=self.seed, workers=self.workers, learning_rate=scale.learning_rate)
        check_clip(scale.clip)
        check_range(0, probes=method.probes)
        check_range(0, weight=method.weight, margin=method.margin, min_gap=method.min_gap)
        check_range(0, 1, **{"model.dropout": sizes.dropout})
        if not 0 < self.hint_share <= 1:
            raise InputError(f"--hint-share should be a share in (0, 1], found {self.hint_share:g}: 6 % is 0.06.")

    def record(self, processes: int) -> dict[str, Any]:
        """The resolved configuration as JSON values, and which words the network's indices stand for."""
        vocabulary = CaptionVocabulary.read(self.data / "vocabulary.json")
        return options_record(self, processes) | {"vocabulary": vocabulary.checksum}

    def differences(self, processes: int = 1) -> list[str]:
        """What the run in ``out`` was trained with instead, such as ``"seed = 0, not 1"``; empty if with the same.

        An option that its revision of this code did not know had its default. Options without an effect do not count.

        Raises:
            InputError: there is no run.
        """
        now, defaults = self.record(processes), replace(self, method=Method(), scale=Scale()).record(processes=1)
        unused = {"out", "workers", "cpu", "resume"}
        if self.method.supervision == "none":
            used = {"method.task", "method.supervision"}
            unused |= {name for name in flat(now) if name.startswith("method.")} - used | {"hint_share"}
        return options_changed(self.out, now, defaults, unused=unused)

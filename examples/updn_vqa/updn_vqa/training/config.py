"""What a run is trained with: its options, their record in the run's directory, and what differs from that record."""

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from updn_common.errors import InputError, check_range
from updn_common.runs.training import check_clip, flat, options_changed, options_record
from updn_vqa.data.vocabulary import prepared_checksum
from updn_vqa.training.methods import Method, MethodChoice, Scale, ScaleChoice


@dataclass(frozen=True)
class TrainConfig:
    """What to train, on what.

    Attributes:
        data: The prepared directory.
        out: The run's directory.
        method: What is learned from hints: one row of a table of results.
        scale: Sizes of the network and the schedule.
        start_from: A run whose best checkpoint to start from, as HINT does; default: random weights.
        hint_share: Use hints for this share of the train questions (at most for those that have one): 0.06 is 6 %.
        seed: Of the weights, the order of questions, dropout, and which hints are used.
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
        check_range(1, batch_size=scale.batch_size, hint_batch_size=scale.hint_batch_size)
        check_range(1, **{"model.embedding": sizes.embedding, "model.hidden": sizes.hidden})
        check_range(0, seed=self.seed, workers=self.workers, learning_rate=scale.learning_rate)
        check_clip(scale.clip)
        check_range(0, weight=method.weight, margin=method.margin, min_gap=method.min_gap, critical=method.critical)
        check_range(0, probes=method.probes)
        check_range(0, adversary=method.adversary, entropy_gap=method.entropy_gap)
        check_range(0, **{f"visfis.{name}": weight for name, weight in asdict(method.visfis).items()})
        check_range(0, 1, threshold=method.threshold, kept=scale.kept)
        dropout = {"attention": sizes.attention_dropout, "classifier": sizes.classifier_dropout}
        check_range(0, 1, **{f"model.{name}_dropout": share for name, share in dropout.items()})
        if not 0 < self.hint_share <= 1:
            raise InputError(f"--hint-share should be a share in (0, 1], found {self.hint_share:g}: 6 % is 0.06.")

    def record(self, processes: int) -> dict[str, Any]:
        """The resolved configuration as JSON values, and which answers and words the network's indices stand for."""
        return options_record(self, processes) | {"vocabulary": prepared_checksum(self.data)}

    def differences(self, processes: int = 1) -> list[str]:
        """What the run in ``out`` was trained with instead, such as ``"seed = 0, not 1"``; empty if with the same.

        An option that its revision of this code did not know had its default. Options without an effect do not count.

        Raises:
            InputError: there is no run.
        """
        now, defaults = self.record(processes), replace(self, method=Method(), scale=Scale()).record(processes=1)
        unused = {"out", "workers", "cpu", "resume"}
        if self.method.supervision == "none":
            without_hints = {f"method.{name}" for name in ("supervision", "task_on", "adversary", "entropy_gap")}
            unused |= {name for name in flat(now) if name.startswith("method.")} - without_hints
            if self.method.task_on == "all":
                unused.add("hint_share")
        return options_changed(self.out, now, defaults, unused=unused)

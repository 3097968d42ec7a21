"""The options of ``updn-vqa train``."""

from dataclasses import dataclass

from updn_common.runs.options import RunOptions
from updn_vqa.data.vocabulary import prepared_checksum
from updn_vqa.training.methods import MethodChoice, ScaleChoice

WITHOUT_HINTS = ("method.supervision", "method.task_on", "method.adversary", "method.entropy_gap")
"""Options of a method that matter without hints."""


@dataclass(frozen=True)
class TrainConfig(RunOptions):
    """What to train, and on which data.

    Attributes:
        method: What is learned from hints: one row of a table of results.
    """

    method: MethodChoice
    scale: ScaleChoice

    def vocabulary_checksum(self) -> str:
        """Checksum of the answers and words."""
        return prepared_checksum(self.data)

    def matters(self, option: str) -> bool:
        """Whether an option changes what is learned: without hints, most options of a method do not."""
        if self.method.supervision != "none":
            return True
        if option == "hint_share":
            return self.method.task_on == "hinted"
        return not option.startswith("method.") or option in WITHOUT_HINTS

"""The options of ``updn-captioning train``."""

from dataclasses import dataclass

from updn_captioning.data.vocabulary import CaptionVocabulary
from updn_captioning.training.methods import MethodChoice, ScaleChoice
from updn_common.runs.options import RunOptions


@dataclass(frozen=True)
class TrainConfig(RunOptions):
    """What to train, and on which data.

    Attributes:
        method: How captions are learned, and what from hints: one row of a table of results.
    """

    method: MethodChoice
    scale: ScaleChoice

    def vocabulary_checksum(self) -> str:
        """Checksum of the words."""
        return CaptionVocabulary.read(self.data / "vocabulary.json").checksum

    def matters(self, option: str) -> bool:
        """Whether an option changes what is learned: without hints, most options of a method do not."""
        if self.method.supervision != "none" or option in ("method.task", "method.supervision"):
            return True
        return option != "hint_share" and not option.startswith("method.")

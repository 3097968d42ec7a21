"""What a comparison needs to know about a run."""

from updn_captioning.data.prepared import PreparedData
from updn_captioning.studies.published import ROWS, published_data_set
from updn_captioning.training.methods import METHODS, Method, Scale
from updn_common.studies import compared_runs


class ComparedRun(compared_runs.ComparedRun[PreparedData]):
    """A run, and the split whose images it captions."""

    presets = METHODS
    default_method = Method()
    default_scale = Scale()

    @property
    def share(self) -> float:
        """The share of the train images whose hints the run used; 0 if it used none."""
        return float(self.description["hint_share"])

    @property
    def name(self) -> str:
        name = self.preset or self.path.name
        return f"{name} {100 * self.share:.3g} %" if 0 < self.share < 1 else name

    @property
    def data_set(self) -> str | None:
        return published_data_set(self.data.record, self.split)

    @property
    def published_row(self) -> str | None:
        return ROWS.get(self.preset) if self.share in (0, 1) else None

"""What the configuration of a run says about it for a comparison."""

from functools import cached_property

from updn_captioning.data.prepared import PreparedData
from updn_captioning.studies.published import ROWS, published_data_set
from updn_captioning.training.methods import METHODS, Method, Scale
from updn_common.studies import compared_runs
from updn_common.studies.compared_runs import Config, Description, describe_run, preset_name


class ComparedRun(compared_runs.ComparedRun[PreparedData]):
    """A run, and the split whose images it captions."""

    def describe(self, config: Config) -> Description:
        """How a run with this configuration was trained."""
        return describe_run(config, Method(), Scale(), lambda method: bool(method["supervision"] != "none"))

    @cached_property
    def preset(self) -> str:
        """The name of the preset that the method is; empty if it is none of them."""
        return preset_name(METHODS, self.description)

    @property
    def share(self) -> float:
        """The share of the train images whose hints the run used; 0 if it used none."""
        return float(self.description["hint_share"])

    @property
    def name(self) -> str:
        """The method and, unless all hints are used, their share, such as ``"hint 6 %"``."""
        name = self.preset or self.path.name
        return f"{name} {100 * self.share:.3g} %" if 0 < self.share < 1 else name

    @property
    def data_set(self) -> str | None:
        """The test set of the paper that the split is; None for any other."""
        return published_data_set(self.data.record, self.split)

    @property
    def published_row(self) -> str | None:
        """The result of the paper that the run reproduces; with all hints, if it uses any."""
        return ROWS.get(self.preset) if self.share in (0, 1) else None

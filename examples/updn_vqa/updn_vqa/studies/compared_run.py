"""What the configuration of a run says about it for a comparison."""

from functools import cached_property

from updn_common.studies import compared_runs
from updn_common.studies.compared_runs import Config, Description, describe_run, preset_name
from updn_vqa.data.prepared import PreparedData
from updn_vqa.studies.published import ROWS, published_data_set
from updn_vqa.training.methods import METHODS, Method, Scale


class ComparedRun(compared_runs.ComparedRun[PreparedData]):
    """A run, and the split whose questions it answers."""

    def describe(self, config: Config) -> Description:
        """How a run with this configuration was trained."""

        def uses_hints(method: Config) -> bool:
            return (method["supervision"], method["task_on"]) != ("none", "all")

        return describe_run(config, Method(), Scale(), uses_hints)

    @cached_property
    def preset(self) -> str:
        """The name of the preset that the method is; empty if it is none of them."""
        return preset_name(METHODS, self.description)

    @property
    def network(self) -> str:
        """Name of the network."""
        network: str = self.description["scale"]["model"]["network"]
        return network

    @property
    def share(self) -> float:
        """The share of the train questions whose hints the run used; 0 if it used none."""
        train = self._train_counts
        return min(float(self.description["hint_share"]), train["hinted"] / train["questions"])

    @property
    def method(self) -> str:
        """Such as ``"hint"`` or ``"san base"``; empty if the method is no preset."""
        return self.preset if not self.preset or self.network == "updn" else f"{self.network} {self.preset}"

    @property
    def name(self) -> str:
        """The method and the share of hints, such as ``"hint 6 %"``."""
        name = self.method or self.path.name
        return f"{name} {100 * self.share:.3g} %" if self.share else name

    @property
    def data_set(self) -> str | None:
        """The data set of the paper's table that the split is; None for any other."""
        return published_data_set(self.data.record, self.split)

    @property
    def published_row(self) -> str | None:
        """The row of the paper's table that the run reproduces; with all available hints, if it uses any."""
        train, share = self._train_counts, self.description["hint_share"]
        all_hints = not share or round(share * train["questions"]) >= train["hinted"]
        return ROWS.get((self.network, self.preset)) if all_hints else None

    @property
    def _train_counts(self) -> dict[str, int]:
        counts: dict[str, int] = self.data.record["splits"]["train"]
        return counts

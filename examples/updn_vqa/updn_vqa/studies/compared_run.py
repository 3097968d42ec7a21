"""What a comparison needs to know about a run."""

from collections.abc import Mapping
from typing import Any

from updn_common.studies import compared_runs
from updn_vqa.data.prepared import PreparedData
from updn_vqa.studies.published import ROWS, published_data_set
from updn_vqa.training.methods import METHODS, Method, Scale


class ComparedRun(compared_runs.ComparedRun[PreparedData]):
    """A run, and the split whose questions it answers."""

    presets = METHODS
    default_method = Method()
    default_scale = Scale()

    def uses_hints(self, method: Mapping[str, Any]) -> bool:
        return super().uses_hints(method) or method["task_on"] == "hinted"

    @property
    def network(self) -> str:
        return str(self.description["scale"]["model"]["network"])

    @property
    def share(self) -> float:
        """The share of the train questions whose hints the run used; 0 if it used none."""
        train = self.data.record["splits"]["train"]
        return float(min(self.description["hint_share"], train["hinted"] / train["questions"]))

    @property
    def method(self) -> str:
        """The network and the preset, such as ``"hint"`` or ``"san base"``; empty if the method is no preset."""
        return self.preset if not self.preset or self.network == "updn" else f"{self.network} {self.preset}"

    @property
    def name(self) -> str:
        name = self.method or self.path.name
        return f"{name} {100 * self.share:.3g} %" if self.share else name

    @property
    def data_set(self) -> str | None:
        return published_data_set(self.data.record, self.split)

    @property
    def published_row(self) -> str | None:
        train, share = self.data.record["splits"]["train"], self.description["hint_share"]
        all_hints = not share or round(share * train["questions"]) >= train["hinted"]
        return ROWS.get((self.network, self.preset)) if all_hints else None

"""Options of a run beside their record."""

from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from updn_common.errors import InputError
from updn_common.files.writing import write_json
from updn_common.runs.importance import HintOptions
from updn_common.runs.options import RunOptions, Schedule, flat


@dataclass(frozen=True)
class Sizes:
    hidden: int = 8


@dataclass(frozen=True)
class Scale(Schedule):
    learning_rate: float = 0.1
    clip: float = 1.0
    steps: int = 10
    evaluate_every: int = 5
    batch_size: int = 4
    model: Sizes = field(default_factory=Sizes)


@dataclass(frozen=True)
class Options(RunOptions):
    method: HintOptions = field(default_factory=HintOptions)
    scale: Scale = field(default_factory=Scale)

    def vocabulary_checksum(self) -> str:
        return "words"

    def matters(self, option: str) -> bool:
        return option != "method.probes"


@pytest.fixture
def options(tmp_path: Path) -> Options:
    (tmp_path / "run").mkdir()
    return Options(Path("data"), tmp_path / "run")


def test_record_holds_json_values(options: Options) -> None:
    record = options.record(processes=2)
    assert record["out"] == str(options.out)
    assert record["scale"]["model"] == {"hidden": 8}
    assert (record["processes"], record["vocabulary"]) == (2, "words")


def test_differences_from_the_record(options: Options) -> None:
    write_json(options.out / "config.json", {"config": options.record(processes=2)})
    assert options.differences(processes=2) == []
    now = replace(options, seed=4, method=HintOptions(weight=2.0, probes=3), cpu=True, workers=2, resume=True)
    assert replace(now, scale=Scale(model=Sizes(9))).differences() == [
        "method.weight = 30.0, not 2.0",
        "scale.model.hidden = 8, not 9",
        "seed = 0, not 4",
        "processes = 2, not 1",
    ]


def test_options_that_are_not_recorded_had_their_defaults(options: Options) -> None:
    record = options.record(processes=1)
    del record["method"]["weight"], record["vocabulary"]
    write_json(options.out / "config.json", {"config": record})
    assert options.differences() == []
    assert replace(options, method=HintOptions(weight=5.0)).differences() == ["method.weight = 30.0, not 5.0"]


def test_a_run_without_a_directory_has_no_differences_to_report(options: Options) -> None:
    with pytest.raises(InputError, match="does not exist"):
        options.differences()


def test_flat() -> None:
    assert flat({"a": 1, "b": {"c": {"d": 2}, "e": None}}) == {"a": 1, "b.c.d": 2, "b.e": None}


NAN = float("nan")
SHARE = "--hint-share should be a share in (0, 1], found {}: 6 % is 0.06."
CLIP = "--clip should be above 0, found {}: give inf to leave gradients as they are."


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"micro_batches": 0}, "--micro-batches should be at least 1, found 0."),
        ({"workers": -1}, "--workers should be at least 0, found -1."),
        ({"seed": -1}, "--seed should be at least 0, found -1."),
        ({"hint_share": 6.0}, SHARE.format(6)),
        ({"hint_share": 0.0}, SHARE.format(0)),
        ({"hint_share": NAN}, SHARE.format("nan")),
        ({"scale": Scale(steps=0)}, "--steps should be at least 1, found 0."),
        ({"scale": Scale(evaluate_every=0)}, "--evaluate-every should be at least 1, found 0."),
        ({"scale": Scale(batch_size=0)}, "--batch-size should be at least 1, found 0."),
        ({"scale": Scale(learning_rate=NAN)}, "--learning-rate should be at least 0, found nan."),
        ({"scale": Scale(clip=0.0)}, CLIP.format(0)),
        ({"scale": Scale(clip=NAN)}, CLIP.format("nan")),
        ({"method": HintOptions(weight=-1.0)}, "--weight should be at least 0, found -1.0."),
        ({"method": HintOptions(margin=-0.1)}, "--margin should be at least 0, found -0.1."),
        ({"method": HintOptions(min_gap=NAN)}, "--min-gap should be at least 0, found nan."),
        ({"method": HintOptions(probes=-1)}, "--probes should be at least 0, found -1."),
    ],
)
def test_options_out_of_range(options: Options, changes: dict[str, object], message: str) -> None:
    options.check()
    with pytest.raises(InputError) as error:
        replace(options, **changes).check()  # type: ignore[arg-type]
    assert str(error.value) == message

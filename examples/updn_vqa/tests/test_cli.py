"""The help and the errors of the command line."""

import sys
from pathlib import Path

import pytest

from updn_vqa.cli import main
from updn_vqa.training.methods import METHOD_HELP, METHODS, SCALE_HELP, SCALES


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> object:
    """Run ``updn-vqa``, and return its exit status."""
    monkeypatch.setattr(sys, "argv", ["updn-vqa", *arguments])
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit) as error:
        main()
    return error.value.code


def test_every_method_and_scale_has_one_line_of_help(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert METHOD_HELP.keys() == METHODS.keys()
    assert SCALE_HELP.keys() == SCALES.keys()
    for arguments, shown in (((), METHOD_HELP | SCALE_HELP), (("hint",), SCALE_HELP)):
        assert run(monkeypatch, "train", *arguments, "--help") == 0
        lines = [line.strip("│ ").removeprefix("• ").split(maxsplit=1) for line in capsys.readouterr().out.splitlines()]
        assert {tuple(line) for line in lines} >= set(shown.items())


def test_errors_have_no_traceback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = ("--data", str(tmp_path), "--out", str(tmp_path / "run"))
    assert run(monkeypatch, "train", "hint", "shapes", *options) == (
        f"error: {tmp_path / 'prepared.json'} does not exist; expected a directory that `updn-vqa prepare` wrote."
    )

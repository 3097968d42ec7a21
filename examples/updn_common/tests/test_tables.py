"""Numbers and tables as text."""

import pytest

from updn_common.reports.bootstrap import Interval, Number
from updn_common.reports.tables import Block, Line, format_number, format_values, print_blocks

BLOCK = Block(
    "test of a world: some title that is longer than the table",
    ["method", "all", "yes/no", "number", "other"],
    [
        Line("base", [("31.00 ± 0.12", "[30.00, 32.00]"), ("-", ""), ("3", ""), ("4", "")]),
        Line("paper", [("1", ""), ("2", ""), ("3", ""), ("4", "")], "published"),
    ],
)


def test_formats_of_numbers() -> None:
    assert format_values([]) == "-"
    assert format_values([1.25], digits=2) == "1.25"
    assert format_values([1.0, 2.0, 6.0]) == "3.0 ± 2.6"  # the standard deviation of a sample: n - 1
    assert format_number(Number(50.0, Interval(49.0, 51.25)), 1) == "50.0 [49.0, 51.2]"
    assert format_number(Number(50.0, Interval(float("nan"), float("nan"))), 1) == "50.0 [-]"


def test_a_number_is_printed_above_its_interval(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    print_blocks([BLOCK])
    assert [line.rstrip() for line in capsys.readouterr().out.splitlines()] == [
        BLOCK.title,
        "method            all yes/no number other",
        "base     31.00 ± 0.12      -      3     4",
        "       [30.00, 32.00]",
        "paper               1      2      3     4",
        "",
    ]


@pytest.mark.parametrize(("first", "width", "columns"), [(1, 3, [1, 3]), (2, 1, [2, 1, 1]), (4, 3, [4])])
def test_pieces_have_all_columns_once(first: int, width: int, columns: list[int]) -> None:
    pieces = list(BLOCK.pieces(first, width))
    assert [len(piece.header) - 1 for piece in pieces] == columns
    assert [name for piece in pieces for name in piece.header[1:]] == BLOCK.header[1:]
    for i, line in enumerate(BLOCK.lines):
        assert [cell for piece in pieces for cell in piece.lines[i].cells] == line.cells
        assert {(piece.lines[i].name, piece.lines[i].style) for piece in pieces} == {(line.name, line.style)}

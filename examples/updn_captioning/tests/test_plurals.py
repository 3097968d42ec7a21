import pytest

from updn_captioning.data.plurals import plural


@pytest.mark.parametrize(
    ("singular", "expected"),
    [
        *(("cat", "cats"), ("bus", "buses"), ("bench", "benches"), ("toothbrush", "toothbrushes"), ("box", "boxes")),
        *(("pony", "ponies"), ("donkey", "donkeys"), ("tv", "tvs"), ("y", "ys"), ("snowman", "snowmen")),
        *(("human", "humans"), ("person", "people"), ("man", "men"), ("ox", "oxen"), ("fox", "foxes")),
        *(
            ("knife", "knives"),
            ("giraffe", "giraffes"),
            ("mouse", "mice"),
            ("sheep", "sheep"),
            ("scissors", "scissors"),
        ),
        *(("wine glass", "wine glasses"), ("glass of wine", "glasses of wine"), ("baby goose", "baby geese")),
    ],
)
def test_plurals(singular: str, expected: str) -> None:
    assert plural(singular) == expected

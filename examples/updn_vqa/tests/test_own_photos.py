"""The trial run of the README on ten photos."""

import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from updn_common.errors import InputError
from updn_vqa.cli import main
from updn_vqa.data.own_photos import make_data_set

README = (Path(__file__).parents[1] / "README.md").read_text()
REHEARSAL = re.search("## Rehearse on ten photos of your own\n(.*?)\n## ", README, re.DOTALL)
COLOURS = {"red": (200, 30, 30), "blue": (30, 30, 200)}


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Ten photos of a rectangle on grass with two questions each; one photo is stored rotated."""
    folder = tmp_path / "photos"
    folder.mkdir()
    rng = np.random.default_rng(0)
    with (folder / "questions.csv").open("w", newline="") as file:
        lines = csv.writer(file)
        lines.writerow(["photo", "question", "answer", "x1", "y1", "x2", "y2"])
        for number in range(1, 11):
            colour, x, y = list(COLOURS)[number % 2], *rng.integers(10, 60, size=2).tolist()
            image = Image.new("RGB", (120, 90), (40, 160, 40))
            image.paste(COLOURS[colour], (x, y, x + 40, y + 20))
            exif = Image.Exif()
            if number == 9:  # a test photo, which is also drawn
                image = image.transpose(Image.Transpose.ROTATE_90)
                exif[0x0112] = 6
            image.save(folder / f"{number}.png", exif=exif)
            lines.writerow([number, "What color is the box?", colour, x, y, x + 40, y + 20])
            lines.writerow([number, "Is the box red?", "yes" if colour == "red" else "no", "", "", "", ""])
    return folder


def test_commands_of_the_readme(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert REHEARSAL
    lines = [line.split() for line in REHEARSAL[1].splitlines() if line.startswith(("python ", "updn-vqa "))]
    own, *commands = lines
    assert own[:3] == ["python", "-m", "updn_vqa.data.own_photos"]
    assert [words[1] for words in commands] == ["data", "prepare", "train", "train", "evaluate", "compare", "explain"]
    monkeypatch.chdir(tmp_path)
    make_data_set(*map(Path, own[3:]))
    for words in commands:
        monkeypatch.setattr("sys.argv", words)
        main()
    record = json.loads(Path("ten-prepared/prepared.json").read_text())
    counted = {name: (split["questions"], split["hinted"]) for name, split in record["splits"].items()}
    assert counted == {"train": (10, 5), "dev": (4, 2), "test": (6, 3)}
    assert sorted(path.name for path in Path("ten-page").glob("*.png"))[:2] == ["10019.png", "10020.png"]
    accuracy = json.loads(Path("ten-hint/evaluation/test/accuracy.json").read_text())
    assert 0 <= accuracy["accuracy"]["2016"]["overall"] <= 100


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("photo,question,answer\none,Why?,so\n", "question 1: 'photo' is 'one'"),
        ("photo,question\n1,Why?\n", "question 1: 'answer' is missing"),
        ("photo,question,answer,x1,y1,x2,y2\n1,Why?,so,1,2,3,\n", "question 1: the box is [1.0, 2.0, 3.0]"),
        ("photo,question,answer\n11,Why?,so\n", "has no photo 11, such as 11.jpg."),
        ("photo,question,answer\n1,Why?,so\n", "questions about 1 photos. At least 5 are needed: 3 are for testing."),
    ],
)
def test_malformed_questions(photos: Path, tmp_path: Path, lines: str, message: str) -> None:
    (photos / "questions.csv").write_text(lines)
    with pytest.raises(InputError) as error:
        make_data_set(photos, tmp_path / "ten")
    assert message in str(error.value)
    assert not (tmp_path / "ten").exists()

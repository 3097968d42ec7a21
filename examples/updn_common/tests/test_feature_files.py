"""Feature files with unusual or damaged content: they are read, or the error names the cause."""

import base64
import gzip
import re
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from updn_common.errors import InputError
from updn_common.files.finding import find_features
from updn_common.proposals.conversion import FeatureOptions, convert
from updn_common.proposals.image_proposals import ImageProposals
from updn_common.proposals.readers import read_proposals
from updn_common.proposals.store import ProposalStore

MakeImage = Callable[..., ImageProposals]
TsvCells = Callable[..., list[str]]
AssertSame = Callable[[ImageProposals, ImageProposals], None]

DEFAULT = FeatureOptions()


@pytest.fixture
def rows(make_image: MakeImage, tsv_cells: TsvCells) -> list[str]:
    """Lines of a TSV with images 1 to 4."""
    return ["\t".join(tsv_cells(make_image(i))) + "\n" for i in range(1, 5)]


def fails(path: Path) -> str:
    with pytest.raises(InputError) as error:
        list(read_proposals(path))
    return str(error.value)


def stored(
    tmp_path: Path, lines: list[str], wanted: range = range(1, 5), options: FeatureOptions = DEFAULT
) -> ProposalStore:
    path = tmp_path / "a.tsv"
    path.write_text("".join(lines))
    return convert(tmp_path / "store", [path], wanted, options)


def lxmert(image: ImageProposals, tsv_cells: TsvCells) -> str:
    name, width, height, n, boxes, features = tsv_cells(image)
    objects = base64.b64encode(np.zeros(len(image.boxes), dtype="<i8").tobytes()).decode()
    return "\t".join([name, height, width, objects, "", "", "", n, boxes, features]) + "\n"


@pytest.mark.parametrize(
    "header",
    [
        "",
        "image_id\timage_w\timage_h\tnum_boxes\tboxes\tfeatures\n",
        "img_id\tw\th\tn\tb\tf\n",
        "image_id\twidth\theight\tnum_boxes\tboxes\tfeatures\r\n",
    ],
)
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_byte_order_mark_and_header_are_skipped(
    tmp_path: Path, rows: list[str], make_image: MakeImage, assert_same_image: AssertSame, header: str, mark: bytes
) -> None:
    path = tmp_path / "a.tsv"
    path.write_bytes(mark + "".join([header, *rows]).encode())
    for found, expected in zip(read_proposals(path), map(make_image, range(1, 5)), strict=True):
        assert_same_image(found, expected)


def test_header_of_ten_columns(
    tmp_path: Path, make_image: MakeImage, tsv_cells: TsvCells, assert_same_image: AssertSame
) -> None:
    path, image = tmp_path / "a.tsv", make_image(1)
    names = "img_id\timg_h\timg_w\tobjects_id\tobjects_conf\tattrs_id\tattrs_conf\tnum_boxes\tboxes\tfeatures\n"
    path.write_text(names + lxmert(image, tsv_cells))
    (found,) = read_proposals(path)
    assert_same_image(found, image)
    path.write_text(names.replace("img_h\timg_w", "img_w\timg_h") + lxmert(image, tsv_cells))
    assert fails(path).startswith(f"{path}, line 1: the header has 'img_w' where image_h should be; expected image_id,")


@pytest.mark.parametrize("line", ["1\t2\t3\t4\t5\t6\n", "a\tb\tc\n", "a b\tw\th\tn\tb\tf\n"])
def test_other_first_lines_are_not_headers(tmp_path: Path, rows: list[str], line: str) -> None:
    path = tmp_path / "a.tsv"
    path.write_text(line + rows[0])
    assert f"{path}, line 1: " in fails(path)


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ("b'{}'", "cells are Python's b'...' of bytes: call .decode() on base64 when the file is written."),
        ('b"{}"', 'cells are Python\'s b"..." of bytes: call .decode() on base64 when the file is written.'),
        ('"{}"', 'cells are in quotes ("..."): use csv.QUOTE_NONE, and base64 without line breaks, when the file is'),
        ('"{}\n"', 'cells are in quotes ("..."): use csv.QUOTE_NONE, and base64 without line breaks, when the file is'),
    ],
)
def test_wrongly_written_cells_are_explained(tmp_path: Path, rows: list[str], cell: str, message: str) -> None:
    path = tmp_path / "a.tsv"
    *cells, features = rows[1].strip().split("\t")
    path.write_text(rows[0] + "\t".join([*cells, cell.format(features)]) + "\n")
    assert fails(path).startswith(f"{path}, line 2: {message}")


@pytest.mark.parametrize("name", ["a.tsv", "a.hdf5", "1.npz"])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty: fetch it again."),
        (b" \n\n", "empty: fetch it again."),
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\n",
            "a Git LFS pointer: fetch the file itself with `git lfs pull`.",
        ),
        (b"<?xml version='1.0'?><Error/>", "an HTML or XML page, such as a server's error: fetch it again."),
        (b"\n<!DOCTYPE html>\n<html>", "an HTML or XML page, such as a server's error: fetch it again."),
        (b"\xef\xbb\xbf<html lang='en'>", "an HTML or XML page, such as a server's error: fetch it again."),
        (gzip.compress(b"1", mtime=0), "compressed with gzip: unpack it."),
        (b"BZh91AY", "compressed with bzip2: unpack it."),
    ],
)
def test_stand_ins_for_a_file_are_named(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    found = fails(tmp_path if name.endswith(".npz") else path)
    assert found == f"{path}{':' if name.endswith('.npz') else ' is'} {message}" or (
        name.endswith(".npz") and "unpack" in message and f"{path}: not a readable npz" in found
    )


def test_zip_archive_is_named(tmp_path: Path, rows: list[str]) -> None:
    with zipfile.ZipFile(tmp_path / "a.tsv", "w") as archive:
        archive.writestr("b.tsv", rows[0])
    assert fails(tmp_path / "a.tsv") == f"{tmp_path / 'a.tsv'} is a zip archive: unpack it."


def test_folder_with_a_tsv_names_it(tmp_path: Path, rows: list[str]) -> None:
    folder = tmp_path / "trainval_36"
    folder.mkdir()
    (folder / "trainval.tsv").write_text(rows[0])
    assert fails(folder) == (
        f"{folder} holds no .npz file; expected one for each image; give {folder / 'trainval.tsv'} instead."
    )


def test_companion_files_of_macos_are_skipped(tmp_path: Path, rows: list[str], make_image: MakeImage) -> None:
    (tmp_path / "a.tsv").write_text(rows[0])
    (tmp_path / "._a.tsv").write_bytes(b"\0\5\26\7Mac OS X")
    assert find_features(tmp_path) == [tmp_path / "a.tsv"]
    folder, image = tmp_path / "npz", make_image(1)
    folder.mkdir()
    size = {"image_w": image.width, "image_h": image.height, "num_bbox": len(image.boxes)}
    np.savez(folder / "1.npz", x=image.features, bbox=image.boxes, **size)  # type: ignore[arg-type]
    (folder / "._1.npz").write_bytes(b"\0\5\26\7Mac OS X")
    assert [found.image_id for found in read_proposals(folder)] == [1]


def test_images_that_are_not_wanted_are_not_parsed(
    tmp_path: Path, rows: list[str], make_image: MakeImage, tsv_cells: TsvCells
) -> None:
    """Names of other data sets, truncated rows, other feature sizes."""
    other = "\t".join(tsv_cells(make_image(7, feature_size=5))) + "\n"
    store = stored(tmp_path, [rows[0], rows[1][:40] + "\n", "n161313\t90\n", other, *rows[2:]], range(1, 5, 2))
    assert store.image_ids.tolist() == [1, 3]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([0, 1, -1, 2, 3], "a.tsv, line 3: 4 columns; expected 6"),
        ([0, 1, 0, 2, 3], "image 1 occurs twice, at {folder}/a.tsv, line 1 and {folder}/a.tsv, line 3; give each"),
    ],
)
def test_damaged_and_repeated_images_can_be_left_out(
    tmp_path: Path, rows: list[str], capsys: pytest.CaptureFixture[str], lines: list[int], message: str
) -> None:
    """A truncated row before the complete row of the same image, as in the published test2014; and an image twice."""
    cut = rows[2][: rows[2].index("\t", 8) + 1] + "\n"
    chosen = [rows[i] if i >= 0 else cut for i in lines]
    with pytest.raises(InputError) as error:
        stored(tmp_path, chosen)
    assert message.format(folder=tmp_path) in str(error.value)
    assert str(error.value).endswith(" Or leave such images out with --skip-damaged-features.")
    store = stored(tmp_path, chosen, options=FeatureOptions(skip_damaged=True))
    assert store.image_ids.tolist() == [1, 2, 3, 4]
    printed = capsys.readouterr().err
    assert "warning: left out 1 damaged or repeated images, the first: " in printed
    assert message.format(folder=tmp_path) in printed


def test_features_must_have_the_requested_size(tmp_path: Path, rows: list[str]) -> None:
    assert stored(tmp_path, rows, options=FeatureOptions(size=4)).feature_size == 4
    with pytest.raises(InputError, match=r"a.tsv, line 1: features of 4 numbers, not of --feature-size 2048\."):
        stored(tmp_path, rows, options=FeatureOptions(size=2048))


@pytest.mark.parametrize(("dtype", "message"), [("<f2", "a feature is "), ("<f8", "(a feature is |.* are not finite)")])
def test_features_of_another_type_are_refused(
    tmp_path: Path, make_image: MakeImage, tsv_cells: TsvCells, dtype: str, message: str
) -> None:
    """The features are like those of a detector: mostly near 0, a few above 16."""
    features = np.abs(np.random.default_rng(0).normal(0, 8, (3, 2048))).astype(dtype)
    cells = tsv_cells(make_image(1), features=base64.b64encode(features.tobytes()).decode())
    path = tmp_path / "a.tsv"
    path.write_text("\t".join(cells) + "\n")
    assert re.match(f"{re.escape(str(path))}, line 1: {message}", fails(path))


def test_error_names_an_image_of_the_file(tmp_path: Path, rows: list[str]) -> None:
    with pytest.raises(
        InputError, match=r"none of the images is among the 3 wanted ones\. It holds others, such as '1'"
    ):
        stored(tmp_path, rows, range(7, 10))

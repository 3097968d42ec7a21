"""``updn-captioning prepare``: convert the official files to one directory that training reads.

The directory holds::

    prepared.json               options, checksums of all sources, counts
    proposals/                  the proposal store
    vocabulary.json             the words, from the train split alone
    visual_words.json           the categories and the phrases that name them
    <split>/captions.json       the captions as they were written, as an official file
    <split>/references.json     the tokenised captions of each image, for scores
    <split>/arrays.safetensors  the input of models, see updn_captioning.data.split_arrays

It is either complete or absent. Converting features takes longest: after an interruption, the proposals that were
converted stay in ``<out>.partial``, and the same command continues from there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from updn_captioning.data.coco import SPLITS, Caption
from updn_captioning.data.instances import Instances
from updn_captioning.data.official_files import find_instances
from updn_captioning.data.prepare_config import PrepareConfig
from updn_captioning.data.prepared import PreparedData
from updn_captioning.data.split_arrays import Arrays, caption_arrays, pair_arrays, split_counts
from updn_captioning.data.splits import hold_out_development, keep_images, read_data
from updn_captioning.data.tokenise import tokenise
from updn_captioning.data.visual_words import VisualWords
from updn_captioning.data.vocabulary import CaptionVocabulary
from updn_common.data.prepared_writer import print_summary, write_arrays, write_record
from updn_common.errors import InputError
from updn_common.files.writing import new_directory, write_json
from updn_common.progress import track
from updn_common.proposals.conversion import FeatureOptions, store_proposals

COLUMNS: Mapping[str, str | tuple[str, str]] = {
    "images": "images",
    "captions": "captions",
    "hinted captions": "hinted_captions",
    "visual words": "visual_words",
    "hinted": ("hinted_words", "visual_words"),
    "unknown words": ("unknown_words", "words"),
}
"""Columns of the printed table; see `print_summary`."""


def prepare(config: PrepareConfig) -> None:
    """Write a prepared directory and print a summary.

    Raises:
        InputError: An option or a file is wrong; nothing is left behind.
    """
    config.check()
    with new_directory(config.out, keep="proposals") as out:
        record = _write(config, out)
    print_summary(f"{config.out}: {record['words']:,} words", COLUMNS, record["splits"], _notes(record))


def _write(config: PrepareConfig, out: Path) -> dict[str, Any]:
    """Write everything and return the content of ``prepared.json``."""
    data = read_data(config.data, config.split)
    instance_files = find_instances(config.data) if config.hints == "instances" else []
    instances = Instances.read(instance_files)
    visual_words = VisualWords.for_instances(instances.categories, config.visual_words)
    wanted = {image_id for images in data.splits.values() for image_id in images}
    if instance_files:
        listed = " and ".join(map(str, instance_files))
        remedy = "Add the instances of these images, or use --hints none."
        instances.check_listed(wanted, "images of the split", listed, remedy)

    features = config.feature_files()
    options = FeatureOptions(config.feature_dtype, config.feature_size, config.skip_damaged_features)
    store = store_proposals(out / "proposals", features, wanted, options)
    source = ", ".join(map(str, features))
    drop = config.drop_images_without_proposals
    splits, dropped = keep_images(data.splits, set(store.image_ids.tolist()), source, drop=drop)
    splits = hold_out_development(splits, config.development_share, config.seed)
    splits = {name: splits[name] for name in SPLITS if name in splits}

    captions = {name: [_tokenised(data.captions[i]) for i in images] for name, images in splits.items()}
    train = (caption.tokens for of_image in captions["train"] for caption in of_image)
    vocabulary = CaptionVocabulary.build(train, config.min_word_occurrences)
    vocabulary.write(out / "vocabulary.json")
    visual_words.write(out / "visual_words.json")

    length = min(config.caption_length, max(len(c.tokens) for of_image in captions["train"] for c in of_image))
    arrays = {}
    for name, images in splits.items():
        arrays[name] = {"image_ids": np.array(images, dtype=np.int64), "image_rows": store.rows(images)}
        arrays[name] |= caption_arrays(captions[name], vocabulary, visual_words, length)
        arrays[name] |= pair_arrays(
            arrays[name], store.geometry, instances, store.max_proposals, named_only=name == "train"
        )
    counts = {name: split_counts(split) for name, split in arrays.items()}
    if instance_files and not any(split["hinted_words"] for split in counts.values()):
        raise InputError(f"No caption names an object in {listed}. Check --visual-words, or use --hints none.")
    for name in track(splits, "splits"):
        _write_split(out / name, captions[name], arrays[name])

    sources = [*data.files, *instance_files, *([config.visual_words] if config.visual_words else [])]
    details = {
        "hints": "masks of COCO's instances" if instance_files else "none",
        "feature_size": store.feature_size,
        "ambiguous_visual_words": visual_words.ambiguous,
        "dropped_images": dropped,
        "images_in_no_split": len(data.captions.keys() - wanted),
        "words": len(vocabulary.words),
    }
    return write_record(out, PreparedData.FORMAT_VERSION, config, sources, store, details, counts)


def _tokenised(captions: Sequence[Caption]) -> list[Caption]:
    return [
        caption if caption.tokens else replace(caption, tokens=tuple(tokenise(caption.text).split()))
        for caption in captions
    ]


def _write_split(directory: Path, captions: Sequence[Sequence[Caption]], arrays: Arrays) -> None:
    directory.mkdir()
    records = [
        {"image_id": caption.image_id, "id": caption.caption_id, "caption": caption.text}
        for of_image in captions
        for caption in of_image
    ]
    images = [{"id": image_id} for image_id in arrays["image_ids"].tolist()]
    write_json(directory / "captions.json", {"images": images, "annotations": records})
    references = {of_image[0].image_id: [tokenise(caption.text) for caption in of_image] for of_image in captions}
    write_json(directory / "references.json", references)
    write_arrays(directory, arrays)


def _notes(record: Mapping[str, Any]) -> Iterator[str]:
    """What the summary says below the table."""
    yield f"Features: {record['feature_size']:,} numbers per proposal."
    if record["hints"] != "none":
        unhinted = sum(split["visual_words_without_an_object"] for split in record["splits"].values())
        yield f"Hints: {record['hints']}. {unhinted:,} visual words have none: their images have no such object."
    if words := record["ambiguous_visual_words"]:
        yield f"In several lines of --visual-words, taken for the first category: {words}."
    if record["dropped_images"]:
        yield f"{record['dropped_images']:,} images were dropped: they have no proposals."
    if record["images_in_no_split"]:
        yield f"{record['images_in_no_split']:,} images with captions are in no split."

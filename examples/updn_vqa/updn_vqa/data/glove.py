"""Pretrained word vectors such as GloVe's: read for a vocabulary, and copied into networks before training."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from jaxtyping import Float32
from safetensors.torch import load_file
from torch import nn

from updn_common.console import plain_console
from updn_common.errors import InputError
from updn_common.progress import open_tracked
from updn_vqa.data.vocabulary import QuestionVocabulary

FILE = "embeddings.safetensors"


def read_word_vectors(path: Path, words: QuestionVocabulary) -> tuple[Float32[np.ndarray, "N D"], int]:
    """Read the vectors of a vocabulary's words from text such as GloVe's, with a word and its D numbers in each line.

    Returns:
        A vector for each of the N token ids, and the number of words that the file has. Vectors of other words, of
        padding and of the unknown word are zero, as in the reference code.

    Raises:
        InputError: A line is malformed, or the file has none of the words.
    """
    with open_tracked(path, f"word vectors of {path.name}") as file:
        size = _size(path, file)
        vectors = np.zeros((len(words), size), dtype=np.float32)
        found: set[int] = set()
        for number, line in enumerate(file, start=1):
            word, *numbers = line.rstrip().rsplit(b" ", size)  # some words of GloVe contain spaces
            if len(numbers) != size:
                if number == 1 and len(numbers) == 1:
                    continue  # word2vec's header
                raise InputError(f"{path}, line {number}: {len(numbers)} numbers; the first line of a word has {size}.")
            index = words.index.get(word.decode("utf-8", "replace"))
            if index is not None and index not in found:
                vectors[index] = _floats(numbers, f"{path}, line {number}")
                found.add(index)
    if not found:
        raise InputError(f"{path} has a vector for none of the {len(words.words)} words of the train questions.")
    return vectors, len(found)


def _size(path: Path, file: BinaryIO) -> int:
    """The number of numbers per word; moves back to the beginning of the file."""
    first, second = file.readline(), file.readline()
    file.seek(0)
    line = second if len(first.split()) == 2 else first
    if (size := len(line.split()) - 1) < 2:
        raise InputError(f"{path} does not hold word vectors: expected a word and its numbers in each line.")
    return size


def _floats(numbers: list[bytes], where: str) -> Float32[np.ndarray, " D"]:
    try:
        vector = np.array([float(number) for number in numbers], dtype=np.float32)
    except ValueError as error:
        raise InputError(f"{where}: {error}.") from None
    if not np.isfinite(vector).all():
        raise InputError(f"{where}: a number is not finite.")
    return vector


def start_from_word_vectors(network: nn.Module, prepared: Path) -> None:
    """Copy the word vectors of a prepared directory, if it has any, into the embeddings of the same shape.

    If an untrained network has no such embedding, a note is printed on stderr.
    """
    if not (prepared / FILE).exists():
        return
    vectors = load_file(prepared / FILE)["vectors"]
    embeddings = [layer for layer in network.modules() if isinstance(layer, nn.Embedding)]
    fitting = [layer for layer in embeddings if layer.weight.shape == vectors.shape]
    with torch.no_grad():
        for layer in fitting:
            layer.weight.copy_(vectors)
    if not fitting:
        sizes = ", ".join(str(layer.embedding_dim) for layer in embeddings) or "none"
        plain_console(stderr=True, soft_wrap=True).print(
            f"note: the word vectors in {prepared} have {vectors.shape[1]} numbers, but the network's {sizes}: they "
            f"are not used. Give --model.embedding {vectors.shape[1]} for them."
        )

"""Grounding of visual words: are gradients and attention highest on the proposals that show what a word names?

For a visual word, the network reads the caption up to it. Its *gradient* is the importance that HINT trains, for its
log-probability (for several tokens, their joint log-probability); its *attention* is the mean attention over its steps.
Both are compared with the objects of the category in the image, by the rank correlation (Spearman's) with human
importance, and by whether the most important proposal overlaps one of the objects (the pointing game).

A word is measured if either measure is defined. Pointing needs a proposal that overlaps an object of the category by
more than half (intersection over union): thin or small objects often have none, and their words only have a rank
correlation. An object that is too small to cover the centre of a pixel has an empty mask, and its words only have
pointing. So each measure has its own number of words.

*Reference* words are those of people's captions, *generated* words those of the network's own captions. A generated
word whose category is not in the image is not measured here; CHAIR counts it.
"""

from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

import numpy as np
import torch
from accelerate import Accelerator
from jaxtyping import Float64, Int64
from torch import Tensor

from hint_loss import pointing_game, rank_correlation
from updn_captioning.data.prepared import CaptionBatch, CaptionSplit
from updn_captioning.data.visual_words import VisualWord, VisualWords
from updn_captioning.data.vocabulary import BEGIN, END, PAD, CaptionVocabulary
from updn_captioning.networks.updn import UpDnCaptioner
from updn_captioning.training.objective import word_attention, word_importance, word_scores
from updn_common.reports.bootstrap import Statistic, ratio
from updn_common.runs.importance import require_importance
from updn_common.runs.networks import evaluating
from updn_common.runs.processes import over_processes

CaptionKind = Literal["reference", "generated"]
MEASURES = ("gradient_rank_correlation", "gradient_pointing", "attention_rank_correlation", "attention_pointing")
BATCH_SIZE = 64

Rows = list[list[float]]


class Words(NamedTuple):
    """Measurements on each of M visual words whose category is in the image."""

    images: Int64[Tensor, " M"]
    """Position of each word's image in the split."""
    categories: Int64[Tensor, " M"]
    measures: Float64[Tensor, "M 4"]
    """The measures in `MEASURES`, pointing in percent; NaN where undefined."""

    def statistics(self, kind: CaptionKind, images: int) -> dict[str, Statistic]:
        """Means over words, with intervals from resampling whole images, of which the split has the given number."""
        return {f"{kind}_{name}": ratio(*self._sums(self.measures[:, i], images)) for i, name in enumerate(MEASURES)}

    def counts(self) -> dict[str, int]:
        """Number of words for which each measure is defined."""
        return dict(zip(MEASURES, (~self.measures.isnan()).sum(0).tolist(), strict=True))

    def by_category(self, categories: Sequence[str]) -> dict[str, dict[str, float]]:
        """For each category with words: number of words, number of words with pointing, and mean measures."""
        rows = {name: self.measures[self.categories == index] for index, name in enumerate(categories)}
        return {
            name: {
                "words": len(found),
                "words_with_pointing": int((~found[:, MEASURES.index("gradient_pointing")].isnan()).sum()),
                **dict(zip(MEASURES, found.nanmean(0).tolist(), strict=True)),
            }
            for name, found in rows.items()
            if len(found)
        }

    def _sums(
        self, column: Float64[Tensor, " M"], images: int
    ) -> tuple[Float64[np.ndarray, " I"], Int64[np.ndarray, " I"]]:
        known = ~column.isnan()
        rows, values = self.images[known].numpy(), column[known].numpy()
        return np.bincount(rows, values, minlength=images), np.bincount(rows, minlength=images)


def measure_references(model: UpDnCaptioner, split: CaptionSplit, accelerator: Accelerator) -> Words:
    """Measure the visual words of people's captions; processes share the work."""
    comparable = split.comparable_indices

    def rows(positions: Tensor) -> Iterable[Rows]:
        return _measure(model, split.batch(comparable[positions]), accelerator)

    return _words(over_processes(rows, len(comparable), accelerator, BATCH_SIZE, "words of references"), split)


def measure_generated(
    model: UpDnCaptioner,
    split: CaptionSplit,
    captions: Sequence[Sequence[int]],
    vocabulary: CaptionVocabulary,
    words: VisualWords,
    accelerator: Accelerator,
) -> Words:
    """Measure the visual words of a network's own caption of each image; processes share the work."""
    named = [words.find(vocabulary.decode(caption).split()) for caption in captions]
    some = [i for i, found in enumerate(named) if found]

    def rows(positions: Tensor) -> Iterable[Rows]:
        at = [some[i] for i in positions.tolist()]
        batch = generated_batch(split, at, [captions[i] for i in at], [named[i] for i in at])
        return _measure(model, batch, accelerator)

    return _words(over_processes(rows, len(some), accelerator, BATCH_SIZE, "words of captions"), split)


def generated_batch(
    split: CaptionSplit,
    positions: Sequence[int],
    captions: Sequence[Sequence[int]],
    named: Sequence[Sequence[VisualWord]],
) -> CaptionBatch:
    """Make a batch of generated captions.

    Args:
        split: The split.
        positions: Positions of B images in the split.
        captions: A caption of each image: indices of its words, without BEGIN and END.
        named: Visual words of each caption.
    """
    images = split.images(positions)
    B, K = images.mask.shape
    T, W = max(map(len, captions)), max(map(len, named))
    tokens = torch.full((B, T + 2), PAD)
    spans, categories = torch.full((B, W, 2), -1), torch.full((B, W), -1)
    human, relevant = torch.full((B, W, K), torch.nan), torch.zeros(B, W, K, dtype=torch.bool)
    image_ids = [split.image_ids[i] for i in positions]
    for b, (image_id, caption, found) in enumerate(zip(image_ids, captions, named, strict=True)):
        tokens[b, : len(caption) + 2] = torch.tensor([BEGIN, *caption, END])
        for w, word in enumerate(found):
            spans[b, w], categories[b, w] = torch.tensor([word.begin, word.end]), word.category
            if (row := split.pair_rows.get((image_id, word.category))) is not None:
                human[b, w], relevant[b, w] = split.hints[row, :K], split.relevant[row, :K]
    return CaptionBatch(
        image_ids=torch.tensor(image_ids),
        caption_ids=torch.full((B,), -1),
        features=images.features,
        boxes=images.boxes,
        mask=images.mask,
        sizes=images.sizes,
        tokens=tokens,
        word_spans=spans,
        word_categories=categories,
        human=human,
        relevant=relevant,
    )


class WordWeights(NamedTuple):
    """Importance and attention of the proposals for each visual word of a batch."""

    gradient: Float64[Tensor, "B W K"]
    attention: Float64[Tensor, "B W K"]


def word_weights(model: UpDnCaptioner, batch: CaptionBatch) -> WordWeights:
    """Compute exact importance, and attention; both are 0 for a word that is padding."""
    features = require_importance(batch.features, model.explained_by, probes=0)
    with torch.enable_grad():
        output = model(batch.tokens[:, :-1], features, batch.mask)
        scores = word_scores(model, output, batch)
        alpha = word_importance(scores, features, model.explained_by, differentiable=False)
    attention = word_attention(output.attention.detach(), batch.word_spans).nan_to_num()
    # Metrics are in float64 on the CPU, which not every device has.
    return WordWeights(*(x.double().cpu() for x in (alpha, attention)))


def _measure(model: UpDnCaptioner, batch: CaptionBatch, accelerator: Accelerator) -> list[Rows]:
    """Image, category and measures of those words of each caption for which any measure is defined."""
    with evaluating(model), accelerator.autocast():
        found = word_weights(model, batch.to(accelerator.device))
    columns = [batch.image_ids[:, None].expand_as(batch.word_categories).double(), batch.word_categories.double()]
    for alpha in found:
        columns += [
            rank_correlation(alpha, batch.human.double(), mask=~batch.human.isnan()),
            100 * pointing_game(alpha, batch.relevant, mask=batch.mask[:, None].expand_as(batch.relevant)),
        ]
    known = batch.hinted | batch.relevant.any(-1)
    return [rows[some].tolist() for rows, some in zip(torch.stack(columns, -1), known, strict=True)]


def _words(captions: Iterable[Rows], split: CaptionSplit) -> Words:
    table = [row for rows in captions for row in rows]
    measures = torch.tensor([row[2:] for row in table], dtype=torch.float64).reshape(-1, len(MEASURES))
    images, categories = ([int(row[i]) for row in table] for i in (0, 1))
    return Words(split.positions(images).long(), torch.tensor(categories, dtype=torch.int64), measures)

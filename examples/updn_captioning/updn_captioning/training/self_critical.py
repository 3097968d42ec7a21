r"""Self-critical sequence training (Rennie et al., CVPR 2017): learn captions that score more than the greedy one.

For each image the network samples a caption :math:`w`, and decodes a greedy caption :math:`\hat w`. With reward r,

.. math:: \nabla L = -(r(w) - r(\hat w))\, \nabla \log p(w)

is in expectation the gradient of minus the expected reward. The reward is CIDEr-D against the image's references, with
document frequencies of all references of the training split. As in widely used implementations, the end of captions and
references is a word: otherwise captions that stop in the middle of a phrase would score as high.
"""

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from updn_captioning.data.prepared import CaptionBatch
from updn_captioning.data.vocabulary import BEGIN, END, PAD, CaptionVocabulary
from updn_captioning.networks.decode import MAX_LENGTH, beam_search
from updn_captioning.networks.updn import UpDnCaptioner
from updn_captioning.scores.cider import CiderD, DocumentFrequencies, Vector
from updn_captioning.training.objective import SampledCaptions
from updn_common.runs.networks import evaluating

STOP = "</s>"
"""Word for the end of a caption; no tokeniser makes it."""


class Critic:
    """Samples captions of a batch's images, and computes their advantage over the greedy captions."""

    def __init__(self, references: Mapping[int, Sequence[str]], vocabulary: CaptionVocabulary) -> None:
        """Count the n-grams of tokenised references, in which words are separated by spaces."""
        self.vocabulary = vocabulary
        self._references = {image: [[*text.split(), STOP] for text in texts] for image, texts in references.items()}
        self.cider = CiderD(DocumentFrequencies.of(self._references.values()))
        self._vectors: dict[int, list[Vector]] = {}

    @torch.no_grad()
    def __call__(self, model: UpDnCaptioner, batch: CaptionBatch, chance: Float[Tensor, "B T"]) -> SampledCaptions:
        """Sample captions without dropout, which only the forward pass of the gradient has.

        Args:
            model: The network.
            batch: Batch with the images to caption.
            chance: Random numbers, uniform in [0, 1), that decide each word.
        """
        with evaluating(model):
            tokens = sample(model, batch.features, batch.mask, chance)
            greedy = beam_search(model, batch.features, batch.mask, beam_size=1)
        image_ids, baseline = batch.image_ids.tolist(), [_with_end(decoded.tokens) for decoded in greedy]
        advantage = self.rewards(image_ids, tokens.tolist()) - self.rewards(image_ids, baseline)
        return SampledCaptions(tokens, advantage.to(batch.features))

    def rewards(self, image_ids: Sequence[int], captions: Sequence[Sequence[int]]) -> Float[Tensor, " B"]:
        """Rewards of captions, given as token ids, one for each image."""
        return torch.tensor(
            [
                self.cider.consensus(self.cider.vector(self._words(caption)), self._vectors_of(image))
                for image, caption in zip(image_ids, captions, strict=True)
            ],
            dtype=torch.float64,
        )

    def _words(self, caption: Sequence[int]) -> list[str]:
        words = self.vocabulary.decode(caption).split()
        return [*words, STOP] if END in caption else words

    def _vectors_of(self, image: int) -> list[Vector]:
        if image not in self._vectors:
            self._vectors[image] = [self.cider.vector(caption) for caption in self._references[image]]
        return self._vectors[image]


def _with_end(words: list[int]) -> list[int]:
    """Append END to a decoded caption unless it was cut."""
    return [*words, END] if len(words) < MAX_LENGTH else words


@torch.no_grad()
def sample(
    model: UpDnCaptioner, features: Float[Tensor, "B K D"], mask: Bool[Tensor, "B K"], chance: Float[Tensor, "B T"]
) -> Int[Tensor, "B T+1"]:
    """Sample captions word by word, from BEGIN to END (unless the caption is cut) and PAD.

    Args:
        model: The network.
        features: Features of the proposals.
        mask: True for existing proposals.
        chance: Random numbers, uniform in [0, 1), which choose words by the inverse of their distribution function.
    """
    memory, state = model.start(features, mask)
    tokens = [torch.full((len(mask),), BEGIN, device=mask.device)]
    ended = torch.zeros_like(tokens[0], dtype=torch.bool)
    for chosen in chance.double().unbind(1):
        if ended.all():
            break
        step = model.step(tokens[-1], memory, state)
        distribution = step.log_probs.double().exp().cumsum(1)
        drawn = torch.searchsorted(distribution, chosen[:, None] * distribution[:, -1:], right=True)
        drawn = drawn.squeeze(1).clamp(max=distribution.shape[1] - 1)  # the product may be rounded up
        tokens.append(torch.where(ended, PAD, drawn))
        ended |= drawn == END
        state = step.state
    return torch.stack(tokens, 1)

"""
Captions: one decision for each word
====================================

A caption is a series of decisions, and each visual word may have its own hint: the mask
of the object that it names. A score of shape ``(B, T)`` gives an importance
``(B, T, K)``, for each word the proposals that moved it.
"""

# %%
# Two words, four objects
# -----------------------
# A caption names two objects: one among the first four proposals, one among the others.
# Beside each stands a companion, which is easier to see. In training an object always
# has the same companion, in the test any.
import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from torch import nn

from hint_loss import (
    HintRankingLoss,
    pointing_game,
    proposal_importance,
    track_proposals,
)

KINDS, FEATURES, PLACES = 6, 24, 8
random = torch.Generator().manual_seed(7)
objects = torch.randn(KINDS, FEATURES, generator=random)
companions = 2 * torch.randn(KINDS, FEATURES, generator=random)


def make(count: int, together: bool, seed: int) -> tuple[torch.Tensor, ...]:
    """Proposals (N, 8, 24), words (N, 2) and places of their objects, (N, 2)."""
    random = torch.Generator().manual_seed(seed)
    words = torch.randint(KINDS, (count, 2), generator=random)
    others = words if together else torch.randint(KINDS, (count, 2), generator=random)
    order = torch.rand(count, 2, PLACES // 2, generator=random).argsort(2)
    order = order + torch.tensor([0, PLACES // 2])[:, None]  # places in each half
    proposals = 0.7 * torch.randn(count, PLACES, FEATURES, generator=random)
    for place, features in ((0, objects[words]), (1, companions[others])):
        rows = order[:, :, place, None].expand(-1, -1, FEATURES)
        proposals.scatter_add_(1, rows, features)
    return proposals, words, order[:, :, 0]


class Captioner(nn.Module):
    """Attends to proposals for each word."""

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        self.query = nn.Parameter(0.1 * torch.randn(2, width))  # one for each word
        self.key, self.place = nn.Linear(FEATURES, width), nn.Embedding(PLACES, width)
        self.value = nn.Linear(FEATURES, width)
        self.word = nn.Sequential(nn.Tanh(), nn.Linear(width, KINDS))

    def forward(self, proposals: torch.Tensor) -> torch.Tensor:
        """Log-probabilities (B, T, words)."""
        keys = torch.tanh(self.key(proposals) + self.place.weight)
        attention = (self.query @ keys.mT).softmax(-1)  # (B, T, K)
        return self.word(attention @ self.value(proposals)).log_softmax(-1)


# %%
# Training
# --------
# The scores are those of the words that people wrote; both words of a caption are
# visual. ``s`` says for each word which proposal shows its object.
proposals, words, places = make(2000, together=True, seed=0)
s = F.one_hot(places, PLACES).float()  # (N, 2, 8)


def fit(weight: float, steps: int = 400) -> nn.Module:
    """Train with this weight on the ranking loss."""
    torch.manual_seed(0)
    model, ranking_loss = Captioner(), HintRankingLoss.recommended()
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(steps):
        rows = torch.randint(len(words), (64,))
        features = track_proposals(proposals[rows], reduction="norm")
        logits = model(features)
        score = logits.gather(2, words[rows, :, None])[..., 0]  # (B, T)
        alpha = proposal_importance(score, features, reduction="norm")  # (B, T, K)
        mask = torch.ones(alpha.shape, dtype=torch.bool)  # every word counts
        loss = -score.mean() + weight * ranking_loss(alpha, s[rows], mask=mask)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model


# %%
# Objects with any companion
# --------------------------
# Without hints, words follow the companions. The picture shows the importance of each
# proposal for both words of the first test sample.
test_proposals, test_words, test_places = make(500, together=False, seed=1)
figure, axes = plt.subplots(1, 2, figsize=(9, 3), layout="constrained", sharey=True)
for ax, name, weight in zip(axes, ("without hints", "hints"), (0.0, 10.0), strict=True):
    model = fit(weight)
    features = test_proposals.clone().requires_grad_()
    logits = model(features)
    score = logits.gather(2, test_words[..., None])[..., 0]
    alpha = proposal_importance(score, features, reduction="norm", differentiable=False)
    right = (logits.argmax(-1) == test_words).double().mean(0)
    pointing = pointing_game(alpha, F.one_hot(test_places, PLACES) > 0).mean(0)
    print(
        f"{name:13}  words right {right[0]:.0%}, {right[1]:.0%}; "
        f"pointing {pointing[0]:.0%}, {pointing[1]:.0%}"
    )
    ax.imshow(alpha[0] / alpha[0].amax(-1, keepdim=True), cmap="Oranges")
    ax.scatter(test_places[0], [0, 1], marker="x", color="black", label="its object")
    ax.set_yticks([0, 1], ["word 1", "word 2"])
    ax.set(title=name, xlabel="proposal")
    ax.legend(loc="upper right")
plt.show()

"""FPVG, sufficiency and comprehensiveness, against handmade networks, and loops that drop proposals."""

import math
from typing import cast

import pytest
import torch
from accelerate import Accelerator
from torch import Tensor, nn

from updn_vqa.data.prepared import VqaBatch, VqaSplit
from updn_vqa.evaluation.faithfulness import (
    SHARES,
    Faithfulness,
    RelevantBy,
    covered_shares,
    measure_faithfulness,
    most_important,
    relevant_and_irrelevant,
)
from updn_vqa.evaluation.measures import Evaluation
from updn_vqa.networks import NETWORKS, NetworkSizes, VqaNetwork, VqaOutput
from updn_vqa.networks.layers import Network

NAN = float("nan")
WORDS, ANSWERS, FEATURES, K = 7, 5, 6, 9


class HandMadeSplit:
    """A split whose questions are those of one batch."""

    def __init__(self, batch: VqaBatch) -> None:
        self.everything = batch

    def __len__(self) -> int:
        return len(self.everything.question_ids)

    def batch(self, indices: Tensor) -> VqaBatch:
        return VqaBatch(*(tensor[indices].clone() for tensor in self.everything))

    def other_images(self, question_ids: Tensor, positions: int) -> Tensor:
        return self.everything.features.roll(-1, 0)[question_ids, :positions]


def random_batch(questions: int, proposals: list[int] | None = None) -> VqaBatch:
    """Random questions about images with overlapping boxes, and the given numbers of proposals, up to nine."""
    torch.manual_seed(0)
    counts = torch.tensor(proposals or torch.randint(1, K + 1, (questions,)).tolist())
    mask = torch.arange(K) < counts[:, None]
    corner = 20 * torch.rand(questions, K, 2)
    human = torch.where(mask, torch.rand(questions, K), NAN)
    human[questions // 2] = NAN
    grounded = torch.rand(questions) < 0.8
    return VqaBatch(
        question_ids=torch.arange(questions),
        tokens=torch.randint(1, WORDS, (questions, 4)),
        features=torch.where(mask[..., None], 2 * torch.randn(questions, K, FEATURES), 99.0),
        boxes=torch.where(mask[..., None], torch.cat([corner, corner + 20 * torch.rand(questions, K, 2)], -1), 0.0),
        mask=mask,
        sizes=torch.full((questions, 2), 40, dtype=torch.int32),
        answer_scores=torch.rand(questions, ANSWERS),
        ground_truth=torch.randint(0, ANSWERS, (questions,)),
        human=human,
        relevant=(torch.rand(questions, K) < 0.3) & mask & grounded[:, None],
        grounded=grounded,
    )


def network(name: Network = "updn") -> VqaNetwork:
    """A network with larger random weights than at the start of training, so that answers depend on proposals."""
    torch.manual_seed(1)
    sizes = NetworkSizes(network=name, embedding=4, hidden=8)
    model = NETWORKS[name](sizes, words=WORDS, answers=ANSWERS, feature_size=FEATURES)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(2)
    return model.eval()


def measured(model: nn.Module, batch: VqaBatch, batch_size: int = 256, by: RelevantBy = "boxes") -> Faithfulness:
    split, accelerator = cast(VqaSplit, HandMadeSplit(batch)), Accelerator(cpu=True)
    return measure_faithfulness(cast(VqaNetwork, model), split, accelerator, relevant_by=by, batch_size=batch_size)


def logits_without(model: VqaNetwork, batch: VqaBatch, i: int, kept: list[int]) -> Tensor:
    """One question's logits; only the kept proposals are in the input."""
    features = batch.features[i : i + 1, kept]
    return model(batch.tokens[i : i + 1], features, torch.ones(1, len(kept), dtype=torch.bool)).logits[0]


def sufficiency_by_loop(model: VqaNetwork, batch: VqaBatch, i: int) -> tuple[float, float]:
    existing = [k for k in range(K) if batch.mask[i, k]]
    if len(existing) == 1:
        return NAN, NAN
    features = batch.features[i : i + 1, existing].clone().requires_grad_()
    mask = torch.ones(1, len(existing), dtype=torch.bool)
    logits = model(batch.tokens[i : i + 1], features, mask).logits[0]
    answer = int(logits.argmax())
    (gradient,) = torch.autograd.grad(logits[answer], features)
    order = sorted(existing, key=lambda k: -float(gradient[0, k].sum()))

    def probability(kept: list[int]) -> float:
        return float(logits_without(model, batch, i, kept)[answer].detach().sigmoid())

    kept_drops, removed_drops = [], []
    for share in SHARES:
        number = min(math.ceil(round(share * len(existing), 6)), len(existing) - 1)
        kept_drops.append(probability(existing) - probability(order[:number]))
        removed_drops.append(probability(existing) - probability(order[number:]))
    return sum(kept_drops) / len(SHARES), sum(removed_drops) / len(SHARES)


@pytest.mark.parametrize("batch_size", [3, 256])
def test_sufficiency_and_comprehensiveness_equal_a_loop(batch_size: int) -> None:
    model, batch = network(), random_batch(20)
    found = measured(model, batch, batch_size)
    expected = [sufficiency_by_loop(model, batch, i) for i in range(20)]
    assert found.sufficiency.tolist() == pytest.approx([x for x, _ in expected], abs=1e-5, nan_ok=True)
    assert found.comprehensiveness.tolist() == pytest.approx([x for _, x in expected], abs=1e-5, nan_ok=True)
    assert found.sufficiency.isnan().sum() > 0
    assert found.sufficiency.nan_to_num().abs().max() > 0.05  # not trivially 0


def fpvg_by_loop(model: VqaNetwork, batch: VqaBatch, i: int) -> tuple[float, float]:
    existing = [k for k in range(K) if batch.mask[i, k]]
    relevant = [k for k in existing if batch.relevant[i, k]]
    irrelevant = []
    for k in existing:
        x1, y1, x2, y2 = batch.boxes[i, k].tolist()
        shares = []
        for j in relevant:
            a1, b1, a2, b2 = batch.boxes[i, j].tolist()
            shared = max(0.0, min(x2, a2) - max(x1, a1)) * max(0.0, min(y2, b2) - max(y1, b1))
            shares.append(shared / ((x2 - x1) * (y2 - y1)))
        if k not in relevant and all(share <= 0.25 for share in shares):
            irrelevant.append(k)
    if not relevant or not irrelevant:
        return NAN, NAN
    answers = [int(logits_without(model, batch, i, kept).argmax()) for kept in (existing, relevant, irrelevant)]
    return float(answers[1] == answers[0]), float(answers[2] != answers[0])


@pytest.mark.parametrize("batch_size", [3, 256])
def test_fpvg_equals_a_loop(batch_size: int) -> None:
    model, batch = network(), random_batch(60)
    found = measured(model, batch, batch_size)
    expected = [fpvg_by_loop(model, batch, i) for i in range(60)]
    assert found.stays.tolist() == pytest.approx([x for x, _ in expected], nan_ok=True)
    assert found.changes.tolist() == pytest.approx([x for _, x in expected], nan_ok=True)
    for column in (found.stays, found.changes):  # both outcomes occur
        assert {str(x) for x in column.tolist()} == {"nan", "0.0", "1.0"}


@pytest.mark.parametrize("batch_size", [3, 256])
def test_flips_equal_a_loop(batch_size: int) -> None:
    """The answer with another image's proposals in place of some, for questions that FPVG is defined for."""
    model, batch = network(), random_batch(60)
    batch = batch._replace(features=batch.features.nan_to_num().clamp(-3, 3))
    found, others = measured(model, batch, batch_size), batch.features.roll(-1, 0)
    for i in range(60):
        counts = not math.isnan(fpvg_by_loop(model, batch, i)[0])
        irrelevant = relevant_and_irrelevant(batch, "boxes")[1][i]
        for column, part in ((found.flips_relevant, batch.relevant[i]), (found.flips_irrelevant, irrelevant)):
            mixed = torch.where(part[:, None], others[i], batch.features[i])
            answers = [
                int(model(batch.tokens[i : i + 1], x[None], batch.mask[i : i + 1]).logits.argmax())
                for x in (batch.features[i], mixed)
            ]
            assert float(column[i]) == pytest.approx(float(answers[0] != answers[1]) if counts else NAN, nan_ok=True)
    for column in (found.flips_relevant, found.flips_irrelevant):  # both outcomes occur
        assert {str(x) for x in column.tolist()} == {"nan", "0.0", "1.0"}


@pytest.mark.parametrize("name", ["updn", "updn-bypass", "updn-mean", "updn-concat", "san", "transformer"])
def test_leaving_a_proposal_out_of_the_mask_equals_dropping_it(name: Network) -> None:
    model, batch = network(name), random_batch(6, [9] * 6)
    for kept in ([0], [1, 4, 5], list(range(8))):
        mask = torch.zeros(6, K, dtype=torch.bool)
        mask[:, kept] = True
        masked = model(batch.tokens, batch.features, mask).logits
        for i in range(6):
            torch.testing.assert_close(masked[i], logits_without(model, batch, i, kept))


class Voting(nn.Module):
    """Each proposal votes for answers with its features; without votes the first answer wins."""

    explained_by = "sum"

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))

    def forward(self, tokens: Tensor, features: Tensor, mask: Tensor) -> VqaOutput:
        votes = (self.weight * features[..., :ANSWERS] * mask[..., None]).sum(1)
        return VqaOutput(votes, mask.float(), tokens.float())


def voting(votes: list[list[int]], relevant: list[list[bool]]) -> VqaBatch:
    """Questions whose proposals each vote for one answer, with boxes that do not overlap."""
    questions, proposals = len(votes), len(votes[0])
    x = torch.arange(proposals) * 10.0
    box = torch.stack([x, torch.zeros_like(x), x + 8, torch.full_like(x, 8.0)], -1)
    return VqaBatch(
        question_ids=torch.arange(questions),
        tokens=torch.ones(questions, 1, dtype=torch.int64),
        features=nn.functional.one_hot(torch.tensor(votes), FEATURES).float(),
        boxes=box.expand(questions, -1, -1),
        mask=torch.ones(questions, proposals, dtype=torch.bool),
        sizes=torch.full((questions, 2), 100, dtype=torch.int32),
        answer_scores=torch.eye(ANSWERS)[:1].expand(questions, -1),  # answer 0 is right
        ground_truth=torch.zeros(questions, dtype=torch.int64),
        human=torch.full((questions, proposals), NAN),
        relevant=torch.tensor(relevant),
        grounded=torch.ones(questions, dtype=torch.bool),
    )


def test_the_four_kinds_of_grounding() -> None:
    first_two = [True, True, False, False, False]
    votes = {
        "ggc": [0, 0, 1, 2, 3],  # 0, from the relevant alone 0, from the others 1
        "ggw": [4, 4, 1, 2, 3],
        "bgc": [1, 1, 0, 0, 0],  # 0, from the relevant alone 1, from the others 0
        "bgw": [3, 3, 4, 4, 4],
        "bgc stays": [0, 1, 0, 0, 2],  # 0 by all, by the relevant (a tie) and by the others
        "ggw closely": [3, 3, 4, 4, 3],  # 3 by all and by the relevant, 4 by the others
    }
    batch = voting(list(votes.values()), [first_two] * 6)
    found = measured(Voting(), batch)
    assert found.stays.tolist() == [1, 1, 0, 0, 1, 1]
    assert found.changes.tolist() == [1, 1, 0, 0, 0, 1]
    scores = torch.tensor([1.0, 0.0, 1.0, 0.3, 0.6, 0.0])
    columns = found._asdict() | dict.fromkeys(("rank_correlation", "pointing"), torch.full((6,), NAN))
    grounding = Evaluation([], {}, [], columns | {"scores": scores}).grounding()
    kinds = {name: (grounding[name] / 100).tolist() for name in ("fpvg", "ggc", "ggw", "bgc", "bgw")}
    assert kinds == {
        "fpvg": [1, 1, 0, 0, 0, 1],
        "ggc": [1, 0, 0, 0, 0, 0],
        "ggw": [0, 1, 0, 0, 0, 1],
        "bgc": [0, 0, 1, 0, 1, 0],
        "bgw": [0, 0, 0, 1, 0, 0],
    }


def test_fpvg_is_nan_without_relevant_or_irrelevant_proposals() -> None:
    batch = voting([[0, 1, 2]] * 4, [[True] * 3, [False] * 3, [True, False, False], [True, False, False]])
    batch = batch._replace(grounded=torch.tensor([True, True, True, False]))
    found = measured(Voting(), batch)
    for column in (found.stays, found.changes):
        assert column.isnan().tolist() == [True, True, False, True]


def test_a_proposal_that_shows_part_of_the_object_is_neither() -> None:
    """The relevant proposal covers a quarter, a bit more than a quarter, and nothing of the others."""
    batch = voting([[0] * 4], [[True, False, False, False]])
    boxes = torch.tensor([[[0.0, 0, 8, 8], [6, 0, 14, 8], [5, 0, 13, 8], [20, 0, 28, 8]]])
    relevant, irrelevant = relevant_and_irrelevant(batch._replace(boxes=boxes), "boxes")
    assert relevant.tolist() == [[True, False, False, False]]
    assert irrelevant.tolist() == [[False, True, False, True]]


def test_relevance_by_hints() -> None:
    batch = voting([[0] * 4] * 2, [[True, False, False, False]] * 2)
    human = torch.tensor([[0.55, 0.54, 0.9, NAN], [NAN] * 4])
    relevant, irrelevant = relevant_and_irrelevant(batch._replace(human=human), "hints")
    assert relevant.tolist() == [[True, False, True, False], [False] * 4]
    assert irrelevant.tolist() == [[False, True, False, False], [False] * 4]
    found = measured(Voting(), batch._replace(human=human), by="hints")
    assert found.stays.isnan().tolist() == [False, True]


def test_covered_shares() -> None:
    boxes = torch.tensor([[[0.0, 0, 10, 10], [5, 0, 25, 10], [0, 0, 0, 0]]])
    assert covered_shares(boxes).tolist() == [[[1, 0.5, 0], [0.25, 1, 0], [0, 0, 0]]]


@pytest.mark.parametrize(
    ("share", "expected"),
    [(0.05, [3]), (0.2, [3]), (0.4, [1, 3]), (0.41, [1, 2, 3]), (1.0, [0, 1, 2, 3])],
)
def test_the_most_important_proposals(share: float, expected: list[int]) -> None:
    """The second and third of five existing proposals tie; at least one of the five is left out."""
    alpha = torch.tensor([[0.1, 0.5, 0.5, 0.7, -1.0, 0.0, 0.0]])
    mask = torch.tensor([[True] * 5 + [False] * 2])
    assert most_important(alpha, mask, share)[0].nonzero().squeeze(1).tolist() == expected


def test_shares_are_rounded_up_but_not_by_rounding_errors() -> None:
    existing = torch.arange(1, 101)
    mask = torch.arange(100) < existing[:, None]
    for percent in (1, 5, 15, 20, 27, 50, 100):
        taken = most_important(torch.rand(100, 100), mask, percent / 100).sum(-1)
        assert taken.tolist() == [min(-(-percent * count // 100), count - 1) for count in existing.tolist()]


def test_the_mode_of_the_network_is_restored() -> None:
    model, batch = network().train(), random_batch(5)
    before = [parameter.clone() for parameter in model.parameters()]
    first, second = (measured(model, batch) for _ in range(2))
    torch.testing.assert_close(tuple(first), tuple(second), rtol=0, atol=0, equal_nan=True)  # both without dropout
    assert model.training
    assert all(p.grad is None and torch.equal(p, b) for p, b in zip(model.parameters(), before, strict=True))

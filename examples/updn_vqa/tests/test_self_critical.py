"""SCR: the proposals and answers that it chooses, and its losses; test_objective.py has the whole loss."""

import torch

from updn_vqa.training.self_critical import critical_loss, find_rivals, influence_loss, influential_proposals

INFLUENTIAL = torch.tensor([[True, True, False, False]])
OTHERS = torch.tensor([[False, False, True, False]])  # the last proposal does not exist


def test_the_best_five_above_the_threshold_are_influential() -> None:
    human = torch.tensor(
        [[0.9, 0.2, 0.8, 0.56, 0.7, 0.6, 0.55, 0.99], [0.9, 0.5] + [torch.nan] * 6, [torch.nan] * 8, [0.55] * 8]
    )
    chosen = influential_proposals(human, 0.55)
    assert [row.nonzero()[:, 0].tolist() for row in chosen] == [[0, 2, 4, 5, 7], [0], [], []]
    assert influential_proposals(human[:, :2], 0.55).tolist() == [
        [True, False],
        [True, False],
        [False] * 2,
        [False] * 2,
    ]


def test_rivals_are_wrong_and_scored_above_the_ground_truth() -> None:
    logits = torch.tensor([5.0, 9.0, 2.0, 7.0, 1.0, 8.0]).expand(3, 6)
    scores = torch.tensor([[1.0, 0.3, 0, 0, 0, 0], [0, 1.0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0]])
    rivals = find_rivals(logits, scores, torch.tensor([0, 1, -1]))
    criticised = [row[chosen].tolist() for row, chosen in zip(*rivals, strict=True)]
    assert criticised == [[5, 3], [], []]  # answer 1 is annotated too; no answer beats the truth; no ground truth


def test_there_are_at_most_five_rivals() -> None:
    logits, scores = torch.arange(9.0)[None], torch.eye(9)[:1]
    answers, criticised = find_rivals(logits, scores, torch.tensor([0]))
    assert answers.tolist() == [[8, 7, 6, 5, 4]]
    assert criticised.all()


def test_one_influential_proposal_is_enough() -> None:
    """One of the two leads the third by 1, the other is behind it; the fourth, which leads, does not exist."""
    loss, most = influence_loss(torch.tensor([[0.0, 3.0, 2.0, 9.0]]), INFLUENTIAL, OTHERS)
    assert loss.tolist() == [0.0]
    assert most.tolist() == [1]
    loss, most = influence_loss(torch.tensor([[0.5, -3.0, 2.0, 9.0]]), INFLUENTIAL, OTHERS)
    assert loss.tolist() == [1.5]
    assert most.tolist() == [0]


def test_without_influential_proposals_there_is_no_loss() -> None:
    truth = torch.tensor([[0.5, -3.0, 2.0, 9.0]], requires_grad=True)
    loss, _ = influence_loss(truth, torch.zeros(1, 4, dtype=torch.bool), torch.ones(1, 4, dtype=torch.bool))
    loss.backward()
    assert loss.tolist() == [0.0]
    assert truth.grad is not None
    assert truth.grad.tolist() == [[0.0] * 4]


def test_only_sensitivity_to_the_most_influential_proposal_is_criticised() -> None:
    truth = torch.tensor([[1.0, 0.0]])
    rivals = torch.tensor([[[3.0, 9.0], [0.5, 9.0], [1.5, 9.0], [4.0, 9.0]]])
    criticised = torch.tensor([[True, True, True, False]])
    assert critical_loss(truth, rivals, torch.tensor([0]), criticised).tolist() == [2.0 + 0.0 + 0.5]

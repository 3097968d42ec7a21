"""The training loss: its parts, its gradients, and data-parallel equality."""

from dataclasses import replace

import pytest
import torch
import torch.multiprocessing as mp
from torch.nn.parallel import DistributedDataParallel

from updn_vqa.data import VqaBatch
from updn_vqa.networks.layers import NetworkSizes
from updn_vqa.networks.updn import UpDn
from updn_vqa.objective import Objective, decision_score
from updn_vqa.presets import METHODS, Method

LITERAL = replace(METHODS["hint-paper"], weight=1.0)


def make_batch(size: int, seed: int, K: int = 4) -> VqaBatch:
    draw = torch.Generator().manual_seed(seed)
    answers = torch.randint(0, 5, (size,), generator=draw)
    scores = torch.zeros(size, 5, dtype=torch.float64)
    scores[torch.arange(size), answers] = 1.0
    scores[0, (answers[0] + 1) % 5] = 0.3
    mask = torch.ones(size, K, dtype=torch.bool)
    mask[-1, -1] = False
    human = torch.rand(size, K, generator=draw, dtype=torch.float64)
    human[-1, -1] = torch.nan
    return VqaBatch(
        question_ids=torch.arange(size),
        tokens=torch.randint(1, 9, (size, 3), generator=draw),
        features=torch.rand(size, K, 6, generator=draw, dtype=torch.float64),
        boxes=torch.zeros(size, K, 4),
        mask=mask,
        sizes=torch.ones(size, 2, dtype=torch.int64),
        answer_scores=scores,
        ground_truth=answers,
        human=human,
        relevant=mask,
        grounded=mask.any(-1),
    )


def make_objective(method: Method) -> Objective:
    torch.manual_seed(0)
    sizes = NetworkSizes(embedding=4, hidden=6, activation="gated", attention_dropout=0.0, classifier_dropout=0.0)
    return Objective(UpDn(sizes, words=9, answers=5, feature_size=6), method).double()


def test_the_papers_loss_by_loops() -> None:
    objective = make_objective(LITERAL)
    batch, hinted = make_batch(3, 0), make_batch(4, 1)
    losses = objective(batch, hinted, hint_scale=1 / 4)

    logits = objective.model(batch.tokens, batch.features, batch.mask).logits
    p = logits.sigmoid()
    task = -(batch.answer_scores * p.log() + (1 - batch.answer_scores) * (1 - p).log()).sum() / 3
    hint = 0.0
    for i in range(4):
        features = hinted.features[i : i + 1].clone().requires_grad_()
        answer = int(hinted.ground_truth[i])
        score = objective.model(hinted.tokens[i : i + 1], features, hinted.mask[i : i + 1]).logits[0, answer]
        alpha = torch.autograd.grad(score, features)[0][0].sum(-1)
        for r in range(4):
            for other in range(4):
                wrong = hinted.human[i, other] > hinted.human[i, r] and alpha[other] < alpha[r]  # false for a NaN
                hint += float(alpha[r] - alpha[other]) if wrong else 0.0
    torch.testing.assert_close(losses.task, task.detach())
    torch.testing.assert_close(losses.hint, torch.tensor(hint / 4, dtype=torch.float64))
    torch.testing.assert_close(losses.total.detach(), losses.task + losses.hint)


@pytest.mark.parametrize("name", ["hint", "hint-paper", "attn-align", "zero-out"])
def test_parameter_gradients_are_those_of_finite_differences(name: str) -> None:
    objective, batch, hinted = make_objective(METHODS[name]), make_batch(3, 0), make_batch(4, 1)

    def value() -> float:
        return objective(batch, hinted, hint_scale=1 / 4).total.item()

    objective(batch, hinted, hint_scale=1 / 4).total.backward()
    draw = torch.Generator().manual_seed(3)
    for parameter_name, parameter in objective.named_parameters():
        direction = torch.randn(parameter.shape, generator=draw, dtype=torch.float64)
        slope = float((parameter.grad * direction).sum())
        step, start = 1e-6, parameter.data.clone()
        parameter.data = start + step * direction
        above = value()
        parameter.data = start - step * direction
        below = value()
        parameter.data = start
        assert slope == pytest.approx((above - below) / (2 * step), rel=1e-4, abs=1e-7), parameter_name


def test_hints_reach_every_part_of_the_network() -> None:
    """The importance depends on attention and classifier alike; attention weights depend on the first only."""

    def trained(name: str) -> set[str]:
        objective = make_objective(METHODS[name])
        objective.hint_losses(make_batch(4, 1)).sum().backward()
        moved = (n for n, p in objective.model.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0)
        return {n.split(".")[0] for n in moved}

    attention = {"embedding", "gru", "attend_proposal", "attend_question", "attend_logit"}
    assert trained("attn-align") == attention
    assert trained("hint") == attention | {"question_net", "image_net", "classifier"}


def test_without_hints_there_is_only_the_task() -> None:
    losses = make_objective(METHODS["base"])(make_batch(3, 0), None)
    assert losses.total == losses.task
    assert losses.hint == 0


def test_unhinted_samples_add_nothing() -> None:
    objective, hinted = make_objective(METHODS["hint"]), make_batch(4, 1)
    unknown = hinted._replace(human=torch.full_like(hinted.human, torch.nan))
    assert objective.hint_losses(unknown).tolist() == [0.0] * 4


def test_scores() -> None:
    logits = torch.tensor([[1.0, 2.0, 4.0], [1.0, 2.0, 4.0], [1.0, 2.0, 4.0]])
    soft = torch.tensor([[1.0, 1.0, 0.0], [0.0, 0.3, 0.0], [0.0, 0.0, 0.0]])
    batch = make_batch(3, 0)._replace(answer_scores=soft, ground_truth=torch.tensor([1, 1, -1]))
    assert decision_score(logits, batch).tolist() == [
        2.0,
        2.0,
        0.0,
    ]  # 6 of 10 against 4: scores tie, the answer does not
    assert decision_score(logits, batch, "annotated").tolist() == [3.0, 2.0, 0.0]


# Ranks hold different numbers of questions with a hint: only a mean over all of them is right.
HINTED_OF_RANK = (slice(0, 1), slice(1, 4))


def _rank_gradients(rank: int, port: int, results: "mp.SimpleQueue") -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    objective = DistributedDataParallel(make_objective(METHODS["hint"]), static_graph=True)
    batch = VqaBatch(*(tensor[3 * rank : 3 * rank + 3] for tensor in make_batch(6, 0)))
    hinted = make_batch(4, 1)
    known = torch.zeros(4, dtype=torch.bool)
    known[HINTED_OF_RANK[rank]] = True
    hinted = hinted._replace(human=hinted.human.masked_fill(~known[:, None], torch.nan))
    count = known.sum()
    torch.distributed.all_reduce(count)
    objective(batch, hinted, hint_scale=2 / count).total.backward()
    if rank == 0:
        results.put([parameter.grad.numpy() for parameter in objective.parameters()])
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


def test_two_processes_equal_one_on_the_joined_batch(unused_tcp_port: int) -> None:
    context = mp.get_context("spawn")
    results = context.SimpleQueue()
    processes = mp.spawn(_rank_gradients, (unused_tcp_port, results), nprocs=2, join=False)
    gradients = results.get()
    while not processes.join():
        pass
    objective = make_objective(METHODS["hint"])
    objective(make_batch(6, 0), make_batch(4, 1), hint_scale=1 / 4).total.backward()
    for theirs, parameter in zip(gradients, objective.parameters(), strict=True):
        torch.testing.assert_close(torch.from_numpy(theirs), parameter.grad, rtol=1e-12, atol=1e-14)

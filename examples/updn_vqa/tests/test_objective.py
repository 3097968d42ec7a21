"""The training loss: its parts, its gradients, and data-parallel equality."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.multiprocessing as mp
from safetensors.torch import load_file, save_file
from torch.nn.parallel import DistributedDataParallel

from updn_vqa.data.prepared import VqaBatch
from updn_vqa.networks.layers import NetworkSizes, VqaOutput
from updn_vqa.networks.updn import UpDn
from updn_vqa.training.methods import METHODS as PRESETS
from updn_vqa.training.methods import Method, VisFis
from updn_vqa.training.objective import Losses, Objective, answer_loss, decision_score, trained_hints

METHODS = {name: replace(method, probes=0) for name, method in PRESETS.items()}  # exact, without random directions
# Presets with different losses, whichever hints they take and whichever questions they answer.
LOSSES = list(
    {replace(method, hints="human", task_on="all"): name for name, method in reversed(METHODS.items())}.values()
)


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
    network = UpDn(sizes, words=9, answers=5, feature_size=6).double()
    return Objective(network, method, make_batch(1, 0)).double()


def losses_of(objective: Objective, batch: VqaBatch, hinted: VqaBatch) -> Losses:
    """The losses of a step."""
    has_hints = objective.method.supervision != "none"
    losses: Losses = objective(batch, hinted if has_hints else None, hint_scale=1 / 4)
    return losses


def sensitivity(objective: Objective, question: VqaBatch, answer: int) -> torch.Tensor:
    """The importance of each proposal of a single question for one answer."""
    features = question.features.clone().requires_grad_()
    score = objective.model(question.tokens, features, question.mask).logits[0, answer]
    return torch.autograd.grad(score, features)[0][0].sum(-1).detach()


def some_missing(batch: VqaBatch) -> VqaBatch:
    """Remove a fifth of the proposals."""
    missing = torch.rand(batch.mask.shape, generator=torch.Generator().manual_seed(2)) < 0.2
    return batch._replace(mask=batch.mask & ~missing, human=batch.human.masked_fill(missing, torch.nan))


def questions(batch: VqaBatch) -> list[VqaBatch]:
    """Batches of one question each."""
    return [VqaBatch(*(tensor[i : i + 1] for tensor in batch)) for i in range(len(batch.tokens))]


def test_the_papers_loss_by_loops() -> None:
    objective = make_objective(replace(METHODS["hint-paper"], weight=1.0))
    batch, hinted = make_batch(3, 0), make_batch(4, 1)
    losses = objective(batch, hinted, hint_scale=1 / 4)

    logits = objective.model(batch.tokens, batch.features, batch.mask).logits
    p = logits.sigmoid()
    task = -(batch.answer_scores * p.log() + (1 - batch.answer_scores) * (1 - p).log()).sum() / 3
    hint = 0.0
    for question in questions(hinted):
        alpha, human = sensitivity(objective, question, int(question.ground_truth)), question.human[0]
        for r in range(4):
            for other in range(4):
                wrong = human[other] > human[r] and alpha[other] < alpha[r]  # false for a NaN
                hint += float(alpha[r] - alpha[other]) if wrong else 0.0
    torch.testing.assert_close(losses.task, task.detach())
    torch.testing.assert_close(losses.hint, torch.tensor(hint / 4, dtype=torch.float64))
    torch.testing.assert_close(losses.total.detach(), losses.task + losses.hint)


def test_scr_by_loops() -> None:
    """B has the wrong answers above the ground truth; I has at most five proposals, all above the threshold."""
    objective, hinted = make_objective(replace(METHODS["scr"], critical=3.0)), some_missing(make_batch(8, 1, K=8))
    expected, criticised = [], 0
    for question in questions(hinted):
        truth = int(question.ground_truth)
        logits = objective.model(question.tokens, question.features, question.mask).logits[0].detach()
        human, of_truth = question.human[0].tolist(), sensitivity(objective, question, truth)
        exist = [r for r in range(8) if question.mask[0, r]]
        influential = sorted((r for r in exist if human[r] > 0.55), key=lambda r: -human[r])[:5]
        others = [r for r in exist if r not in influential]
        losses = {r: sum(max(0.0, float(of_truth[j] - of_truth[r])) for j in others) for r in influential}
        most = min(losses, key=lambda r: losses[r])
        loss = losses[most]
        for answer in range(5):
            if question.answer_scores[0, answer] == 0 and logits[answer] > logits[truth]:
                excess = float(sensitivity(objective, question, answer)[most] - of_truth[most])
                loss += 3.0 * max(0.0, excess)
                criticised += excess > 0
        expected.append(loss)
    assert criticised > 3
    torch.testing.assert_close(objective.hint_losses(hinted), torch.tensor(expected, dtype=torch.float64))


@pytest.mark.parametrize(
    "weights", [(2.0, 0, 0, 0), (0, 2.0, 0, 0), (0, 0, 2.0, 0), (0, 0, 0, 2.0), (4.0, 3.0, 2.0, 1)]
)
def test_visfis_by_loops(weights: tuple[float, float, float, float]) -> None:
    objective = make_objective(replace(METHODS["visfis"], visfis=VisFis(*weights)))
    hinted = some_missing(make_batch(4, 1, K=6))
    expected = []
    for question in questions(hinted):
        alpha, exist = sensitivity(objective, question, int(question.ground_truth)), question.mask[0].nonzero()[:, 0]
        human = question.human[0]
        with_important, without_important = question.features.clone(), question.features.clone()
        invariance = 0.0
        for r in exist.tolist():
            important = bool(human[r] > 0.55)
            (without_important if important else with_important)[0, r] = -1.0
            invariance += 0.0 if important else float(alpha[r].abs() / alpha.square().sum().sqrt()) / len(exist)
        p = objective.model(question.tokens, with_important, question.mask).logits.detach().sigmoid()[0]
        y = question.answer_scores[0]
        sufficiency = -float((y * p.log() + (1 - y) * (1 - p).log()).sum())
        q = objective.model(question.tokens, without_important, question.mask).logits.detach().softmax(-1)[0]
        uncertainty = sum(0.2 * math.log(0.2 / float(q[a])) for a in range(5))
        uncertainty = uncertainty if any(human[exist] <= 0.55) else 0.0  # the last question has none unimportant
        a, s = alpha[exist], human[exist]
        alignment = 1 - float((a @ s) / (a.square().sum().sqrt() * s.square().sum().sqrt()))
        parts = (sufficiency, uncertainty, invariance, alignment)
        expected.append(sum(weight * part for weight, part in zip(weights, parts, strict=True)))
    assert max(expected) > 0
    torch.testing.assert_close(objective.hint_losses(hinted), torch.tensor(expected, dtype=torch.float64))


def check_gradients(
    objective: Objective, parameters: dict[str, torch.nn.Parameter], value: Callable[[], float]
) -> None:
    """Compare the gradient of each parameter with the slope of a value along a random direction."""
    draw = torch.Generator().manual_seed(3)
    for name, parameter in parameters.items():
        direction = torch.randn(parameter.shape, generator=draw, dtype=torch.float64)
        slope = float((parameter.grad * direction).sum())
        step, start = 1e-6, parameter.data.clone()
        parameter.data = start + step * direction
        above = value()
        parameter.data = start - step * direction
        below = value()
        parameter.data = start
        assert slope == pytest.approx((above - below) / (2 * step), rel=1e-4, abs=1e-7), name


@pytest.mark.parametrize("name", [name for name in LOSSES if not METHODS[name].adversarial])
def test_parameter_gradients_equal_finite_differences(name: str) -> None:
    objective, batch, hinted = make_objective(METHODS[name]), make_batch(3, 0), make_batch(4, 1)
    losses = losses_of(objective, batch, hinted)
    assert (losses.hint > 0) == (METHODS[name].supervision != "none")
    losses.total.backward()
    check_gradients(
        objective, dict(objective.named_parameters()), lambda: losses_of(objective, batch, hinted).total.item()
    )


def test_network_and_adversary_play_against_each_other() -> None:
    """AdvReg: the adversary descends its own loss, which the network ascends."""
    objective, batch = make_objective(Method(adversary=0.7, entropy_gap=0.4)), make_batch(3, 0)
    adversary = objective.adversary
    assert adversary is not None

    def question_only() -> float:
        question = objective.model(batch.tokens, batch.features, batch.mask).question
        return answer_loss(adversary(question), batch.answer_scores).mean().item()

    def network() -> float:
        output = objective.model(batch.tokens, batch.features, batch.mask)
        task = answer_loss(output.logits, batch.answer_scores).mean().item()
        by_question, by_image = adversary(output.question).softmax(-1), output.logits.softmax(-1)
        gap = (by_image * by_image.log() - by_question * by_question.log()).sum(-1).mean().item()
        return task - 0.7 * question_only() - 0.4 * gap

    losses = objective(batch, None)
    losses.total.backward()
    assert losses.adversary.item() == pytest.approx(question_only())
    check_gradients(objective, dict(adversary.named_parameters()), question_only)
    check_gradients(objective, dict(objective.model.named_parameters()), network)


def test_hints_reach_every_part_of_the_network() -> None:
    """The importance depends on attention and classifier, the attention weights on attention only."""

    def trained(name: str) -> set[str]:
        objective = make_objective(METHODS[name])
        objective.hint_losses(make_batch(4, 1)).sum().backward()
        moved = (n for n, p in objective.model.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0)
        return {n.split(".")[0] for n in moved}

    attention = {"embedding", "gru", "attend_proposal", "attend_question", "attend_logit"}
    assert trained("attn-align") == attention
    assert trained("hint") == attention | {"question_net", "image_net", "classifier"}


def test_without_hints_the_total_is_the_task_loss() -> None:
    losses = make_objective(METHODS["base"])(make_batch(3, 0), None)
    assert losses.total == losses.task
    assert losses.hint == losses.adversary == 0


def test_losses_of_the_network_s_parts_are_added() -> None:
    class WithPartLosses(UpDn):
        def training_output(self, *inputs: torch.Tensor) -> tuple[VqaOutput, torch.Tensor]:
            output, none = super().training_output(*inputs)
            assert not none.any()
            return output, inputs[-1].double()  # the number of each question's answer as its loss

    objective, batch = make_objective(METHODS["base"]), make_batch(3, 0)
    without = objective(batch, None, task_scale=0.5)
    objective.model.__class__ = WithPartLosses
    losses = objective(batch, None, task_scale=0.5)
    torch.testing.assert_close(losses.total, without.total + 0.5 * batch.ground_truth.double().mean())
    torch.testing.assert_close(losses.task, losses.total.detach())


def test_an_adversary_needs_an_example() -> None:
    network = make_objective(METHODS["base"]).model
    with pytest.raises(ValueError, match=r"^A method with an adversary needs an example of the questions\.$"):
        Objective(network, METHODS["adv-reg"])


SUPERVISED = [name for name in LOSSES if METHODS[name].supervision != "none"]


@pytest.mark.parametrize("name", SUPERVISED)
def test_unhinted_samples_have_no_loss_and_no_gradient(name: str) -> None:
    objective, hinted = make_objective(METHODS[name]), make_batch(4, 1)
    unknown = torch.tensor([True, False, True, False])
    losses = objective.hint_losses(hinted._replace(human=hinted.human.masked_fill(unknown[:, None], torch.nan)))
    assert losses[unknown].tolist() == [0.0] * 2
    torch.testing.assert_close(losses[~unknown], objective.hint_losses(hinted)[~unknown])
    objective.zero_grad()
    objective.hint_losses(hinted._replace(human=torch.full_like(hinted.human, torch.nan))).sum().backward()
    assert all(parameter.grad is None or not parameter.grad.any() for parameter in objective.parameters())


@pytest.mark.parametrize("name", SUPERVISED)
@pytest.mark.parametrize("human", [0.0, 1.0])
def test_gradients_are_finite_if_all_proposals_are_equally_important(name: str, human: float) -> None:
    """Also for a ground truth that is not in the vocabulary."""
    objective, hinted = make_objective(METHODS[name]), make_batch(4, 1)
    hinted = hinted._replace(
        human=torch.where(hinted.mask, human, torch.nan).double(), ground_truth=torch.tensor([-1, 1, 2, 3])
    )
    objective.hint_losses(hinted).sum().backward()
    assert all(parameter.grad is None or parameter.grad.isfinite().all() for parameter in objective.parameters())


def test_decision_scores() -> None:
    """The first question has two answers of soft score 1, of which only the second is the ground truth."""
    logits = torch.tensor([[1.0, 2.0, 4.0]] * 3)
    soft = torch.tensor([[1.0, 1.0, 0.0], [0.0, 0.3, 0.0], [0.0, 0.0, 0.0]])
    batch = make_batch(3, 0)._replace(answer_scores=soft, ground_truth=torch.tensor([1, 1, -1]))
    assert decision_score(logits, batch).tolist() == [2.0, 2.0, 0.0]
    assert decision_score(logits, batch, "annotated").tolist() == [3.0, 2.0, 0.0]


# Ranks have different numbers of questions with hints, so that only the mean over all of them is right.
HINTED_OF_RANK = (slice(0, 1), slice(1, 4))


def _save_gradients(rank: int, port: int, file: Path) -> None:
    """Write the gradients of one of two processes, for every loss."""
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    batch = VqaBatch(*(tensor[3 * rank : 3 * rank + 3] for tensor in make_batch(6, 0)))
    hinted = make_batch(4, 1)
    known = torch.zeros(4, dtype=torch.bool)
    known[HINTED_OF_RANK[rank]] = True
    hinted = hinted._replace(human=hinted.human.masked_fill(~known[:, None], torch.nan))
    count = known.sum()
    torch.distributed.all_reduce(count)
    gradients = {}
    for name in LOSSES:
        has_hints = METHODS[name].supervision != "none"
        objective = DistributedDataParallel(make_objective(METHODS[name]), static_graph=True)
        objective(batch, hinted if has_hints else None, hint_scale=2 / count).total.backward()
        gradients |= {f"{name}: {n}": parameter.grad for n, parameter in objective.module.named_parameters()}
    if rank == 0:
        save_file(gradients, file)
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


def test_two_processes_equal_one_on_the_joined_batch(unused_tcp_port: int, tmp_path: Path) -> None:
    file = tmp_path / "gradients.safetensors"
    mp.spawn(_save_gradients, (unused_tcp_port, file), nprocs=2)
    theirs, ours = load_file(file), {}
    for name in LOSSES:
        objective = make_objective(METHODS[name])
        losses_of(objective, make_batch(6, 0), make_batch(4, 1)).total.backward()
        ours |= {f"{name}: {n}": parameter.grad for n, parameter in objective.named_parameters()}
    torch.testing.assert_close(theirs, ours, rtol=1e-12, atol=1e-14)


NEEDS_TRUTH = {"importance": True, "self-critical": True, "attention": False, "visfis": False, "zero-out": False}
OF_EACH_SUPERVISION = {method.supervision: name for name, method in METHODS.items() if method.supervision != "none"}


@pytest.mark.parametrize("name", ["hint", "hint-paper", *OF_EACH_SUPERVISION.values()])
def test_hints_of_questions_without_a_known_answer(name: str) -> None:
    """If the annotated answer is unknown there is no importance to rank, but attention, for example, is trained.

    Hints that are not trained are not counted in the mean either.
    """
    hinted = make_batch(4, 1)
    unknown = hinted._replace(ground_truth=torch.tensor([-1, *hinted.ground_truth[1:3].tolist(), -1]))
    unknown.human[2] = torch.nan
    needs_truth = NEEDS_TRUTH[METHODS[name].supervision]
    expected = [not needs_truth, True, False, not needs_truth]
    assert trained_hints(METHODS[name], unknown).tolist() == expected
    objective = make_objective(METHODS[name])
    losses = objective.hint_losses(unknown)
    assert losses[~torch.tensor(expected)].count_nonzero() == 0
    assert losses[1] == objective.hint_losses(hinted)[1]
    if needs_truth:  # the sum over all annotators' answers may still be known
        annotated = replace(METHODS[name], score="annotated")
        assert trained_hints(annotated, unknown).tolist() == [True, True, False, True]
        unknown.answer_scores[3] = 0.0
        assert trained_hints(annotated, unknown).tolist() == [True, True, False, False]

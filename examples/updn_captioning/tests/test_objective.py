"""The training loss: its parts, its gradients, sampled visual words, and data-parallel equality."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.multiprocessing as mp
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from hint_loss import proposal_importance, track_proposals, tracking_report
from updn_captioning.data.prepared import CaptionBatch
from updn_captioning.data.vocabulary import BEGIN, END, PAD
from updn_captioning.networks.updn import NetworkSizes, UpDnCaptioner
from updn_captioning.training.methods import METHODS, Method
from updn_captioning.training.objective import (
    Losses,
    Objective,
    SampledCaptions,
    one_word,
    word_importance,
    word_scores,
)

V, K, D, T = 9, 4, 6, 5
LOSSES = {name: METHODS[name] for name in ("base", "hint", "hint-paper", "attn-align", "scst", "hint-scst")}
SUPERVISED = ["hint", "hint-paper", "attn-align"]


def make_batch(size: int = 4, seed: int = 0) -> CaptionBatch:
    """Captions of 3 or 4 words. The first has two visual words, one of them of two tokens; the last has no hint."""
    draw = torch.Generator().manual_seed(seed)
    tokens = torch.randint(END + 2, V, (size, T + 1), generator=draw)
    tokens[:, 0], tokens[:, T] = BEGIN, END
    tokens[-1, T - 1 :] = torch.tensor([END, PAD])
    spans = torch.tensor([[0, 2], [3, 4]]).repeat(size, 1, 1)
    spans[1:, 0] = torch.tensor([1, 2])
    spans[2:, 1] = -1
    mask = torch.ones(size, K, dtype=torch.bool)
    mask[-1, -1] = False
    human = torch.rand(size, 2, K, generator=draw, dtype=torch.float64)
    human = human.masked_fill(~mask[:, None] | (spans[..., :1] < 0), torch.nan)
    human[-1] = torch.nan
    return CaptionBatch(
        image_ids=torch.arange(size),
        caption_ids=torch.arange(size),
        features=torch.rand(size, K, D, generator=draw, dtype=torch.float64) * mask[..., None],
        boxes=torch.zeros(size, K, 4),
        mask=mask,
        sizes=torch.ones(size, 2, dtype=torch.int32),
        tokens=tokens,
        word_spans=spans,
        word_categories=torch.where(spans[..., 0] < 0, -1, 0),
        human=human,
        relevant=mask[:, None].expand(size, 2, K),
    )


def make_sampled(size: int = 4) -> SampledCaptions:
    """Sampled captions: one that ended, and others that were cut."""
    draw = torch.Generator().manual_seed(3)
    tokens = torch.randint(END + 1, V, (size, 4), generator=draw)
    tokens[:, 0] = BEGIN
    tokens[0, 2:] = torch.tensor([END, PAD])
    return SampledCaptions(tokens, torch.randn(size, generator=draw, dtype=torch.float64))


def make_objective(method: Method) -> Objective:
    torch.manual_seed(0)
    sizes = NetworkSizes(embedding=3, hidden=5, attention=4)
    model = UpDnCaptioner(sizes, vocabulary_size=V, feature_size=D).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(2)
    return Objective(model, method)


def losses_of(objective: Objective, batch: CaptionBatch, sampled: SampledCaptions) -> Losses:
    """The losses of a step."""
    losses: Losses = objective(
        batch, sampled if objective.method.task == "self-critical" else None, task_scale=1 / 19, hint_scale=1 / 3
    )
    return losses


def step_log_probs(model: UpDnCaptioner, batch: CaptionBatch, b: int, features: Tensor | None = None) -> Tensor:
    """Log-probabilities (T, V) of all words at each step of one caption."""
    features = batch.features[b] if features is None else features
    log_probs: Tensor = model(batch.tokens[b : b + 1, :-1], features[None], batch.mask[b : b + 1]).log_probs[0]
    return log_probs


def test_the_papers_loss_by_loops() -> None:
    objective, batch = make_objective(replace(METHODS["hint-paper"], weight=3.0)), make_batch()
    losses = losses_of(objective, batch, make_sampled())
    task, hint = 0.0, 0.0
    for b in range(4):
        targets = batch.tokens[b, 1:].tolist()
        log_probs = step_log_probs(objective.model, batch, b)
        task -= sum(log_probs[t, word].item() for t, word in enumerate(targets) if word != PAD)
        of_words = []
        for w, (begin, end) in enumerate(batch.word_spans[b].tolist()):
            if batch.human[b, w].isnan().all():
                continue
            features = batch.features[b].clone().requires_grad_()
            log_probs = step_log_probs(objective.model, batch, b, features)
            score = sum(log_probs[t, targets[t]] for t in range(begin, end))
            alpha = torch.autograd.grad(score, features)[0].sum(-1)
            s = batch.human[b, w]
            wrong = [(i, j) for i in range(K) for j in range(K) if s[i] > s[j] and alpha[i] < alpha[j]]
            of_words.append(sum(float(alpha[j] - alpha[i]) for i, j in wrong))
        hint += sum(of_words) / len(of_words) if of_words else 0.0
    assert hint > 0
    torch.testing.assert_close(losses.task, torch.tensor(task / 19, dtype=torch.float64))
    torch.testing.assert_close(losses.hint, torch.tensor(hint / 3, dtype=torch.float64))
    torch.testing.assert_close(losses.total.detach(), losses.task + 3 * losses.hint)


def test_attention_alignment_by_loops() -> None:
    objective = make_objective(replace(METHODS["attn-align"], margin=0.0, min_gap=0.0, scale_free=False))
    batch = make_batch()
    attention = objective.model(batch.tokens[:, :-1], batch.features, batch.mask).attention.detach()
    for b, w, expected_steps in ((0, 0, [0, 1]), (0, 1, [3]), (2, 0, [1])):
        mean, s = attention[b, expected_steps].mean(0), batch.human[b, w]
        pairs = [(i, j) for i in range(K) for j in range(K) if s[i] > s[j]]
        expected = sum(max(0.0, float(mean[j] - mean[i])) for i, j in pairs) / len(pairs)
        alone = batch._replace(human=torch.full_like(batch.human, torch.nan))
        alone.human[b, w] = s
        output = objective.model(batch.tokens[:, :-1], batch.features, batch.mask)
        assert objective.hint_losses(output, batch.features, alone)[b].item() == pytest.approx(expected)


def test_self_critical_loss_by_loops() -> None:
    batch, sampled = make_batch(), make_sampled()
    objective = make_objective(METHODS["scst"])
    expected = 0.0
    for b, (tokens, advantage) in enumerate(zip(sampled.tokens.tolist(), sampled.advantage.tolist(), strict=True)):
        log_probs = step_log_probs(objective.model, batch._replace(tokens=sampled.tokens), b)
        expected -= advantage * sum(log_probs[t, w].item() for t, w in enumerate(tokens[1:]) if w != PAD)
    losses = losses_of(objective, batch, sampled)
    assert losses.task.item() == pytest.approx(expected / 19)
    assert losses.total == losses.task
    assert losses.hint == 0


@pytest.mark.parametrize("name", LOSSES)
def test_parameter_gradients_equal_finite_differences(name: str) -> None:
    """Along a random direction for each parameter; the slope of a ranking loss is constant around a point."""
    objective, batch, sampled = make_objective(LOSSES[name]), make_batch(), make_sampled()
    losses_of(objective, batch, sampled).total.backward()
    draw, step = torch.Generator().manual_seed(3), 1e-6
    for parameter_name, parameter in objective.named_parameters():
        direction = torch.randn(parameter.shape, generator=draw, dtype=torch.float64)
        values, start = [], parameter.data.clone()
        for sign in (1, -1):
            parameter.data = start + sign * step * direction
            values.append(losses_of(objective, batch, sampled).total.item())
        parameter.data = start
        slope = float((parameter.grad * direction).sum())
        assert (values[0] - values[1]) / (2 * step) == pytest.approx(slope, rel=1e-4, abs=1e-7), parameter_name


def test_the_score_of_a_word_is_the_sum_over_its_tokens() -> None:
    objective, batch = make_objective(METHODS["hint"]), make_batch()
    output = objective.model(batch.tokens[:, :-1], batch.features, batch.mask)
    scores = word_scores(objective.model, output, batch)
    said = [output.log_probs[0, t, batch.tokens[0, t + 1]] for t in range(T)]
    torch.testing.assert_close(scores[0], torch.stack([said[0] + said[1], said[3]]))
    assert scores[2:, 1].tolist() == [0.0, 0.0]  # there is no such word


def test_one_word_is_drawn_uniformly_among_those_with_hints() -> None:
    batch = make_batch()
    batch = batch._replace(
        word_spans=torch.arange(24).view(4, 3, 2),
        human=torch.rand(4, 3, K),
        relevant=torch.ones(4, 3, K).bool(),
        word_categories=torch.arange(12).view(4, 3),
    )
    batch.human[1, 1] = batch.human[2, 1:] = batch.human[3] = torch.nan
    drawn = [one_word(batch, chance) for chance in torch.rand(600, 4, generator=torch.Generator().manual_seed(0))]
    counts = torch.stack([one.word_categories[:, 0] for one in drawn]).flatten().bincount(minlength=12).view(4, 3)
    assert ((counts[0] - 200).abs() < 50).all()
    assert abs(counts[1, 0] - 300) < 60
    assert counts[1:3].tolist() == [[counts[1, 0], 0, 600 - counts[1, 0]], [600, 0, 0]]
    for one in drawn[:5]:
        w = one.word_categories[:, 0] % 3
        for field in ("word_spans", "human"):
            expected = getattr(batch, field)[torch.arange(4), w][:, None]
            torch.testing.assert_close(getattr(one, field), expected, equal_nan=True)
        assert one.hinted[:, 0].tolist() == [True, True, True, False]
    last = one_word(batch, torch.full((4,), 1 - 2**-24))  # three times this is rounded up to three
    assert (last.word_categories[:3, 0] % 3).tolist() == [2, 2, 0]


@pytest.mark.parametrize("name", SUPERVISED)
def test_a_random_word_estimates_the_mean_over_words(name: str) -> None:
    """The mean loss and gradients over all equally likely draws are those of all words."""
    batch = make_batch()
    batch = batch._replace(word_spans=batch.word_spans[:2], human=batch.human[:2], mask=batch.mask[:2])
    batch = batch._replace(
        tokens=batch.tokens[:2], features=batch.features[:2], word_categories=batch.word_categories[:2]
    )
    objective = make_objective(LOSSES[name])

    def evaluate(words: slice) -> list[Tensor]:
        objective.zero_grad()
        part = batch._replace(word_spans=batch.word_spans[:, words], human=batch.human[:, words])
        losses = losses_of(objective, part, make_sampled())
        losses.total.backward()
        return [losses.hint, *(parameter.grad.clone() for parameter in objective.parameters())]

    first, second, both = (evaluate(words) for words in (slice(0, 1), slice(1, 2), slice(0, 2)))
    assert both[0] > 0
    for one, other, mean in zip(first, second, both, strict=True):
        torch.testing.assert_close((one + other) / 2, mean)


@pytest.mark.parametrize("name", SUPERVISED)
@pytest.mark.parametrize("words", [0, 1, 2])
def test_captions_without_hints_have_no_loss_on_hints(name: str, words: int) -> None:
    """Even if no caption of the batch has a hint, or any visual word."""
    objective, batch = make_objective(LOSSES[name]), make_batch()
    nothing = batch._replace(
        word_spans=torch.full((4, words, 2), -1), human=torch.full((4, words, K), torch.nan, dtype=torch.float64)
    )
    losses = losses_of(objective, nothing, make_sampled())
    losses.total.backward()
    base = make_objective(METHODS["base"])
    losses_of(base, batch, make_sampled()).total.backward()
    assert losses.hint == 0
    for ours, theirs in zip(objective.parameters(), base.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad)


def test_padding_of_captions_changes_nothing() -> None:
    objective, batch = make_objective(METHODS["hint"]), make_batch()
    padded = batch._replace(tokens=torch.cat([batch.tokens, torch.full((4, 3), PAD)], 1))
    torch.testing.assert_close(
        losses_of(objective, padded, make_sampled()), losses_of(objective, batch, make_sampled())
    )


def test_importance_is_the_same_in_evaluation_and_training() -> None:
    objective, batch = make_objective(METHODS["hint"]), make_batch()
    found = []
    for features in (batch.features.clone().requires_grad_(), track_proposals(batch.features)):
        output = objective.model(batch.tokens[:, :-1], features, batch.mask)
        scores = word_scores(objective.model, output, batch)
        found.append(word_importance(scores, features, differentiable=False))
    torch.testing.assert_close(found[0], found[1])
    assert found[0].shape == (4, 2, K)
    assert not found[0][2:, 1].any()


# Ranks have different numbers of words and of captions with hints, so that only the mean over all of them is right.
OF_RANK = (slice(0, 1), slice(1, 4))


def _save_gradients(rank: int, port: int, file: Path) -> None:
    """Write the gradients of one of two processes, for every loss."""
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    batch = CaptionBatch(*(tensor[OF_RANK[rank]] for tensor in make_batch()))
    sampled = SampledCaptions(*(tensor[OF_RANK[rank]] for tensor in make_sampled()))
    counts = torch.tensor(
        [int((batch.tokens[:, 1:] != PAD).sum()), int(batch.hinted.any(1).sum()), len(sampled.tokens)]
    )
    torch.distributed.all_reduce(counts)
    words, hinted, captions = counts.tolist()
    assert (words, hinted, captions) == (19, 3, 4)
    gradients = {}
    for name, method in LOSSES.items():
        objective = DistributedDataParallel(make_objective(method), static_graph=True)
        samples = method.task == "self-critical"
        scales = {"task_scale": 2 / (captions if samples else words), "hint_scale": 2 / hinted}
        objective(batch, sampled if samples else None, **scales).total.backward()
        gradients |= {f"{name}: {n}": parameter.grad for n, parameter in objective.module.named_parameters()}
    if rank == 0:
        save_file(gradients, file)
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


def test_two_processes_equal_one_on_the_joined_batch(unused_tcp_port: int, tmp_path: Path) -> None:
    file = tmp_path / "gradients.safetensors"
    mp.spawn(_save_gradients, (unused_tcp_port, file), nprocs=2)
    theirs, ours = load_file(file), {}
    for name, method in LOSSES.items():
        objective, samples = make_objective(method), method.task == "self-critical"
        scales = {"task_scale": 1 / (4 if samples else 19), "hint_scale": 1 / 3}
        objective(make_batch(), make_sampled() if samples else None, **scales).total.backward()
        ours |= {f"{name}: {n}": parameter.grad for n, parameter in objective.named_parameters()}
    torch.testing.assert_close(theirs, ours, rtol=1e-12, atol=1e-14)


def test_unsigned_importance_is_unbiased_and_lazy() -> None:
    """The mean square over 10,000 random directions is within three standard errors of the exact one."""
    model, batch, draws = make_objective(METHODS["hint"]).model.eval(), make_batch(), 10_000

    def score(features: torch.Tensor) -> torch.Tensor:
        output = model(batch.tokens[:, :-1], features, batch.mask)
        return word_scores(model, output, batch).sum(1)

    plain = batch.features.clone().requires_grad_()
    expected = proposal_importance(score(plain), plain, reduction="norm", differentiable=False).square()
    proposals = track_proposals(batch.features, reduction="norm", probes=draws)
    (gradient,) = torch.autograd.grad(score(proposals).sum(), proposals.source.t)
    squares = draws * gradient.square().flatten(1)
    assert (squares.sum(1).mean() - expected.sum()).abs() < 3 * squares.sum(1).std() / draws**0.5
    errors = (squares.mean(0) - expected.flatten()) / (squares.std(0) / draws**0.5).clamp(min=1e-12)
    assert errors.abs().max() < 4
    signed = track_proposals(batch.features)
    score(signed)
    assert tracking_report(proposals).plain == tracking_report(signed).plain == {"addmm": T}

"""The training loop, from a prepared directory to checkpoints: ``updn-captioning train``.

The same code runs on one CPU, one GPU, or many processes under ``torchrun`` or ``accelerate launch``. A step is a pure
function of the last one and of ``(seed, step)``, so a resumed run ends bitwise where an uninterrupted one does. All
random draws except dropout and random directions are the same for any number of processes and micro-batches.
"""

from contextlib import nullcontext

import torch
from accelerate import Accelerator
from jaxtyping import Float64, Int
from torch import Tensor
from torch.utils.data import Dataset

from updn_captioning.data.prepared import CaptionBatch, CaptionSplit, PreparedData
from updn_captioning.data.vocabulary import PAD, CaptionVocabulary
from updn_captioning.networks.decode import MAX_LENGTH
from updn_captioning.networks.generate import Decoding, build_model, generate
from updn_captioning.networks.updn import UpDnCaptioner
from updn_captioning.scores.cider import CiderD, DocumentFrequencies
from updn_captioning.training.config import TrainConfig
from updn_captioning.training.objective import Objective, one_word
from updn_captioning.training.self_critical import Critic
from updn_common.console import plain_console
from updn_common.data.loading import load_ahead
from updn_common.data.stream import Stream, fold, generator
from updn_common.runs.processes import make_accelerator
from updn_common.runs.steps import EpochHints, Share, draw_hinted
from updn_common.runs.training import TrainingState, check_finite, open_run

VISUAL_WORD, SAMPLED_CAPTION = 4, 5  # purposes of random numbers


def train(config: TrainConfig) -> None:
    """Train a network; the best checkpoint is the one with the highest CIDEr on the split val.

    The lowest loss would choose worse: the loss rises once a network is too sure of some words, while its captions
    still improve, and self-critical training does not lower it at all.

    Raises:
        InputError: An option, the data, or a checkpoint does not fit; nothing is overwritten.
    """
    config.check()
    method, scale = config.method, config.scale
    accelerator = make_accelerator(cpu=config.cpu, precision=config.precision)
    data = PreparedData.open(config.data)
    validation = Validation(data.split("val"), data.vocabulary)
    steps = TrainingSteps(data.split("train"), config, accelerator)
    self_critical = method.task == "self-critical"
    critic = Critic(steps.split.references, data.vocabulary) if self_critical else None

    torch.manual_seed(fold(config.seed))
    model = build_model(scale.model, data)
    model.explained_by = method.importance
    objective = Objective(model, method)
    optimizer = torch.optim.Adam(model.parameters(), lr=scale.learning_rate)
    state = TrainingState(model, optimizer)
    state.load(config, processes=accelerator.num_processes)
    objective, optimizer = accelerator.prepare(objective, optimizer)

    for_trained = "this method is" if self_critical else "this scale is" if scale.continues else ""
    with open_run(config, accelerator, state, for_trained=for_trained) as run:
        pin_memory = accelerator.device.type == "cuda"
        loader = load_ahead(steps, range(state.step, scale.steps), workers=config.workers, pin_memory=pin_memory)
        for step, micro_batches in enumerate(run.track(loader, total=scale.steps), start=state.step):
            torch.manual_seed(fold(config.seed, step, accelerator.process_index))  # dropout, random directions
            # Means are over the words (or sampled captions) and hinted captions of all processes and micro-batches.
            here = torch.tensor(mean_sizes(micro_batches, self_critical), device=accelerator.device)
            words, hinted = accelerator.reduce(here, "sum")
            task_scale = accelerator.num_processes / words  # DDP averages over processes
            hint_scale = accelerator.num_processes / hinted.clamp(min=1)
            parts = torch.zeros(2, device=accelerator.device)
            chances = steps.chances(step, SAMPLED_CAPTION, MAX_LENGTH)
            for i, (micro_batch, chance) in enumerate(zip(micro_batches, chances, strict=True)):
                batch = micro_batch.to(accelerator.device, non_blocking=True)
                with accelerator.autocast():
                    sampled = critic(model, batch, chance.to(accelerator.device)) if critic else None
                synchronise = i == len(micro_batches) - 1
                with nullcontext() if synchronise else accelerator.no_sync(objective):
                    losses = objective(batch, sampled, task_scale=task_scale, hint_scale=hint_scale)
                    accelerator.backward(losses.total)
                parts += torch.stack([losses.task, losses.hint])
            gradient_norm = accelerator.clip_grad_norm_(objective.parameters(), scale.clip)
            optimizer.step()
            optimizer.zero_grad()

            if (step + 1) % scale.evaluate_every == 0 or step + 1 == scale.steps:
                task, hint = accelerator.reduce(parts, "mean").tolist()
                losses_now = {"train/task_loss": task, "train/hint_loss": hint, "gradient_norm": float(gradient_norm)}
                check_finite(config.out, step + 1, losses_now)
                cider = validation.cider(model, accelerator)
                run.keep(step + 1, cider, {"val/cider": cider} | losses_now)
                accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        plain_console(soft_wrap=True).print(f"{config.out}: best CIDEr on the split val {state.best:.3f}")


def mean_sizes(batches: list[CaptionBatch], self_critical: bool) -> tuple[int, int]:
    """Numbers of words (sampled captions in self-critical training) and of captions with hints in a process's share."""
    if self_critical:
        words = sum(len(batch.tokens) for batch in batches)
    else:
        words = sum(int((batch.tokens[:, 1:] != PAD).sum()) for batch in batches)
    return words, sum(int(batch.hinted.any(1).sum()) for batch in batches)


class Validation:
    """Scores the network's captions of a split."""

    def __init__(self, split: CaptionSplit, vocabulary: CaptionVocabulary) -> None:
        self.split, self.vocabulary = split, vocabulary
        self.references = [[text.split() for text in split.references[image_id]] for image_id in split.image_ids]
        self.scorer = CiderD(DocumentFrequencies.of(self.references))

    def cider(self, model: UpDnCaptioner, accelerator: Accelerator) -> float:
        """CIDEr of the network's greedy captions, on the paper's scale, such as 1.06."""
        captions = generate(model, self.split, accelerator, Decoding(beam_size=1))
        words = [self.vocabulary.decode(caption).split() for caption in captions]
        return float(self.scorer.score(words, self.references).mean())


class TrainingSteps(Dataset[list[CaptionBatch]]):
    """The batches of each step, a pure function of the step: this process's share, in micro-batches."""

    def __init__(self, split: CaptionSplit, config: TrainConfig, accelerator: Accelerator) -> None:
        """Check that the steps can be cut evenly, and choose which hints are used."""
        method, scale, self.config, self.split = config.method, config.scale, config, split
        self.share = Share.of(accelerator, config.micro_batches, batch_size=scale.batch_size)
        self.captions = Stream(torch.arange(len(split)), scale.batch_size, fold(config.seed, 1))
        self.hints: EpochHints | None = None
        if method.supervision != "none":
            chosen = choose_hints(split, config.hint_share, config.seed)
            self.hints = EpochHints(split.hints, chosen, method.hints, config.seed)

    def __len__(self) -> int:
        return self.config.scale.steps

    def __getitem__(self, step: int) -> list[CaptionBatch]:
        hints = None if self.hints is None else self.hints.of(self.captions.epoch(step))
        batches = [self.split.batch(part, hints=hints) for part in self.share.cut(self.captions.batch(step))]
        if self.hints is None or self.config.method.words == "all":
            return batches
        chances = self.chances(step, VISUAL_WORD)
        return [one_word(batch, chance) for batch, chance in zip(batches, chances, strict=True)]

    def chances(self, step: int, purpose: int, *shape: int) -> list[Float64[Tensor, " B *shape"]]:
        """Random numbers in [0, 1) for each caption of the process's share of a step, in micro-batches."""
        draw = generator(self.config.seed, purpose, step)
        chances = torch.rand(self.config.scale.batch_size, *shape, generator=draw, dtype=torch.float64)
        return self.share.cut(chances)


def choose_hints(split: CaptionSplit, share: float, seed: int) -> Int[Tensor, " C"]:
    """Choose rows of ``split.hints`` to use, all of some images; see `draw_hinted`."""
    known = (~split.hints.isnan()).any(1).nonzero()[:, 0]
    images = split.pairs[known, 0]
    hinted = torch.unique(images)
    total, remedy = len(split.image_ids), "--hints instances"
    chosen = hinted[draw_hinted(len(hinted), total, share, seed, samples="images", remedy=remedy)]
    return known[torch.isin(images, chosen)]

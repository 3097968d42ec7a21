"""The training loop, from a prepared directory to checkpoints: ``updn-captioning train``.

The same code runs on one CPU, one GPU, or many processes under ``torchrun`` or ``accelerate launch``. A step is a pure
function of the last one and of ``(seed, step)``, so a resumed run ends bitwise where an uninterrupted one does, and all
that is drawn, but for dropout, is the same however many processes and micro-batches share a step.
"""

from contextlib import nullcontext

import torch
from accelerate import Accelerator
from jaxtyping import Float, Float64, Int
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
from updn_common.data.control_hints import control_hints
from updn_common.data.loading import load_ahead
from updn_common.data.stream import Stream, fold, generator
from updn_common.errors import InputError
from updn_common.progress import track
from updn_common.runs.processes import make_accelerator
from updn_common.runs.training import check_cut, check_finite, cut, load_start, open_run

WORD, SAID = 4, 5  # what random numbers are for


def train(config: TrainConfig) -> None:
    """Train a network; the best checkpoint is that of the highest CIDEr on the split val.

    Not of the lowest loss: that rises once a network is too sure of some words, while its captions still get better,
    and self-critical training does not lower it at all.

    Raises:
        InputError: an option, the data, or a checkpoint does not fit; nothing is overwritten.
    """
    config.check()
    method, scale = config.method, config.scale
    accelerator = make_accelerator(cpu=config.cpu, precision=config.precision)
    data = PreparedData.open(config.data)
    validation = Validation(data.split("val"), data.vocabulary)
    steps = TrainingSteps(data.split("train"), config, accelerator)
    speaks = method.task == "self-critical"
    critic = Critic(steps.split.references, data.vocabulary) if speaks else None

    torch.manual_seed(fold(config.seed))
    model = build_model(scale.model, data)
    model.explained_by = method.importance
    objective = Objective(model, method)
    optimizer = torch.optim.Adam(model.parameters(), lr=scale.learning_rate)
    done, best = load_start(config, model, optimizer, processes=accelerator.num_processes)
    objective, optimizer = accelerator.prepare(objective, optimizer)

    meant_for_trained = "this method is" if speaks else "this scale is" if scale.continues else ""
    with open_run(config, accelerator, done, for_trained=meant_for_trained) as run:
        if run is not None and not config.resume:
            run.save_checkpoint("last", model.state_dict(), optimizer.optimizer, {"step": 0, "best": best})
        pin_memory = accelerator.device.type == "cuda"
        loader = load_ahead(steps, range(done, scale.steps), workers=config.workers, pin_memory=pin_memory)
        batches = loader if run is None else track(loader, config.out.name, total=scale.steps - done)
        for step, micro_batches in enumerate(batches, start=done):
            torch.manual_seed(fold(config.seed, step, accelerator.process_index))  # dropout, random directions
            # Means are over the words (captions, if spoken) and hinted captions of all processes and micro-batches.
            words, hinted = (accelerator.reduce(n, "sum") for n in counts(micro_batches, accelerator.device, speaks))
            task_scale = accelerator.num_processes / words  # DDP averages over processes
            hint_scale = accelerator.num_processes / hinted.clamp(min=1)
            parts = torch.zeros(2, device=accelerator.device)
            chances = steps.chances(step, SAID, MAX_LENGTH)
            for i, (micro_batch, chance) in enumerate(zip(micro_batches, chances, strict=True)):
                batch = micro_batch.to(accelerator.device, non_blocking=True)
                with accelerator.autocast():
                    spoken = critic(model, batch, chance.to(accelerator.device)) if critic else None
                synchronise = i == len(micro_batches) - 1
                with nullcontext() if synchronise else accelerator.no_sync(objective):
                    losses = objective(batch, spoken, task_scale=task_scale, hint_scale=hint_scale)
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
                if run is not None:
                    improved, best = cider > best, max(best, cider)
                    run.log(step + 1, **{"val/cider": cider}, **losses_now)
                    state, progress = model.state_dict(), {"step": step + 1, "best": best}
                    if improved:
                        run.save_checkpoint("best", state, None, progress)
                    run.save_checkpoint("last", state, optimizer.optimizer, progress)
                accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        plain_console(soft_wrap=True).print(f"{config.out}: best CIDEr on the split val {best:.3f}")


def counts(batches: list[CaptionBatch], device: torch.device, speaks: bool) -> Int[Tensor, "2"]:
    """How many words (captions, if it speaks) and captions with a hint there are in a process's part of a step."""
    words = sum(len(batch.tokens) if speaks else int((batch.tokens[:, 1:] != PAD).sum()) for batch in batches)
    return torch.tensor([words, sum(int(batch.hinted.any(1).sum()) for batch in batches)], device=device)


class Validation:
    """The images of a split, to be captioned again and again."""

    def __init__(self, split: CaptionSplit, vocabulary: CaptionVocabulary) -> None:
        self.split, self.vocabulary = split, vocabulary
        self.references = [[text.split() for text in split.references[image_id]] for image_id in split.image_ids]
        self.scorer = CiderD(DocumentFrequencies.of(self.references))

    def cider(self, model: UpDnCaptioner, accelerator: Accelerator) -> float:
        """CIDEr of the network's greedy captions, the paper's 1.06 being 1.06."""
        captions = generate(model, self.split, accelerator, Decoding(beam_size=1))
        words = [self.vocabulary.decode(caption).split() for caption in captions]
        return float(self.scorer.score(words, self.references).mean())


class TrainingSteps(Dataset[list[CaptionBatch]]):
    """The batches of each step, a pure function of the step: this process's share, in micro-batches."""

    def __init__(self, split: CaptionSplit, config: TrainConfig, accelerator: Accelerator) -> None:
        """Check that the steps can be cut evenly, and choose which hints are used."""
        self.config, self.split = config, split
        self.rank, self.ranks = accelerator.process_index, accelerator.num_processes
        check_cut(accelerator, config.micro_batches, batch_size=config.scale.batch_size)
        self.supervised = config.method.supervision != "none"
        self.pairs = choose_hints(split, config.hint_share, config.seed) if self.supervised else torch.arange(0)
        self._drawn: dict[int, Float[Tensor, "P K"]] = {}
        if self.supervised:
            self._human(0)  # refuses hints that cannot be had
        self.captions = Stream(torch.arange(len(split)), config.scale.batch_size, fold(config.seed, 1))

    def __len__(self) -> int:
        return self.config.scale.steps

    def __getitem__(self, step: int) -> list[CaptionBatch]:
        hints = self._human(self.captions.epoch(step))
        parts = cut(self.captions.batch(step), self.rank, self.ranks, self.config.micro_batches)
        batches = [self.split.batch(part, hints=hints) for part in parts]
        if not self.supervised or self.config.method.words == "all":
            return batches
        return [one_word(batch, chance) for batch, chance in zip(batches, self.chances(step, WORD), strict=True)]

    def chances(self, step: int, purpose: int, *shape: int) -> list[Float64[Tensor, " B *shape"]]:
        """Random numbers for each caption, even in [0, 1): of the process's share of a step, in micro-batches."""
        draw = generator(self.config.seed, purpose, step)
        chances = torch.rand(self.config.scale.batch_size, *shape, generator=draw, dtype=torch.float64)
        return cut(chances, self.rank, self.ranks, self.config.micro_batches)

    def _human(self, epoch: int) -> Float[Tensor, "P K"]:
        """The hints of an epoch, NaN where they are not used; most methods' are the same in all."""
        kind, seed = self.config.method.hints, self.config.seed
        key = epoch if kind == "random-per-epoch" else 0
        if key not in self._drawn:
            hints = torch.full_like(self.split.hints, torch.nan)
            hints[self.pairs] = control_hints(self.split.hints[self.pairs], kind, seed=seed, epoch=key)
            self._drawn = {key: hints}
        return self._drawn[key]


def choose_hints(split: CaptionSplit, share: float, seed: int) -> Int[Tensor, " M"]:
    """Rows of ``split.hints`` to use: all of some images; a smaller share is a subset of a larger one."""
    known = (~split.hints.isnan()).any(1).nonzero()[:, 0]
    images = split.pairs[known, 0]
    available, total = torch.unique(images), len(split.image_ids)
    wanted = round(share * total)
    if len(available) == 0:
        raise InputError(f"None of the {total} train images has a hint: prepare the data with --hints instances.")
    if wanted == 0:
        raise InputError(f"--hint-share {share:g} of {total} train images is none: choose a larger share.")
    chosen = available[torch.randperm(len(available), generator=generator(seed, 3))[:wanted]]
    return known[torch.isin(images, chosen)]

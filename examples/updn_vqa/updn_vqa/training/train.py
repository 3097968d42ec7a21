"""The training loop, from a prepared directory to checkpoints: ``updn-vqa train``.

The same code runs on one CPU, one GPU, or many processes under ``torchrun`` or ``accelerate launch``. A step is a pure
function of the last one and of ``(seed, step, rank)``, so a resumed run ends bitwise where an uninterrupted one does.
"""

from contextlib import nullcontext

import torch
from accelerate import Accelerator
from jaxtyping import Float, Int
from torch import Tensor
from torch.utils.data import Dataset

from updn_common.console import plain_console
from updn_common.data.control_hints import control_hints
from updn_common.data.loading import load_ahead
from updn_common.data.stream import Stream, fold, generator
from updn_common.errors import InputError
from updn_common.progress import track
from updn_common.runs.processes import make_accelerator
from updn_common.runs.training import check_cut, check_finite, cut, load_start, open_run
from updn_vqa.data.glove import start_from_word_vectors
from updn_vqa.data.prepared import PreparedData, VqaBatch, VqaSplit
from updn_vqa.networks import build_network
from updn_vqa.training.config import TrainConfig
from updn_vqa.training.measure import measure
from updn_vqa.training.objective import Objective, teaches

MicroBatches = list[tuple[VqaBatch, VqaBatch | None]]


def train(config: TrainConfig) -> None:
    """Train a network; the best checkpoint is chosen on the development split.

    Raises:
        InputError: an option, the data, or a checkpoint does not fit; nothing is overwritten.
    """
    config.check()
    method, scale = config.method, config.scale
    accelerator = make_accelerator(cpu=config.cpu, precision=config.precision)
    data = PreparedData.open(config.data)
    if "dev" not in data.split_names:
        raise InputError(
            f"{config.data} has no split 'dev', on which the best checkpoint is chosen: prepare it again with a "
            "--development-share above 0."
        )
    development = data.split("dev")
    steps = TrainingSteps(data.split("train"), config, accelerator)

    torch.manual_seed(
        fold(config.seed) if config.start_from is None else fold(config.seed, 0)
    )  # not as the start began
    model = build_network(scale.model, data)
    start_from_word_vectors(model, config.data)
    model.explained_by = method.importance
    objective = Objective(model, method, example=steps.split.batch([0]))
    adversary = objective.adversary or torch.nn.Identity()
    optimizer_class = torch.optim.Adam if scale.optimizer == "adam" else torch.optim.Adamax
    optimizer = optimizer_class(objective.parameters(), lr=scale.learning_rate)
    done, best = load_start(
        config, model, optimizer, processes=accelerator.num_processes, auxiliary=adversary, kept=scale.kept
    )
    objective, optimizer = accelerator.prepare(objective, optimizer)

    with open_run(config, accelerator, done, for_trained="this scale is" if scale.continues else "") as run:
        if run is not None and not config.resume:
            progress = {"step": 0, "best": best}
            run.save_checkpoint("last", model.state_dict(), optimizer.optimizer, progress, adversary.state_dict())
        pin_memory = accelerator.device.type == "cuda"
        loader = load_ahead(steps, range(done, scale.steps), workers=config.workers, pin_memory=pin_memory)
        batches = loader if run is None else track(loader, config.out.name, total=scale.steps - done)
        for step, micro_batches in enumerate(batches, start=done):
            torch.manual_seed(fold(config.seed, step, accelerator.process_index))  # dropout, random directions
            # The step's mean is over the hinted questions of all processes and micro-batches.
            hinted_here = sum(int(teaches(method, hinted).sum()) for _, hinted in micro_batches if hinted)
            hinted_everywhere = accelerator.reduce(torch.tensor(hinted_here, device=accelerator.device), "sum")
            hint_scale = accelerator.num_processes / hinted_everywhere.clamp(min=1)  # DDP averages over processes
            parts = torch.zeros(3, device=accelerator.device)
            for i, (batch, hinted) in enumerate(micro_batches):
                synchronise = i == len(micro_batches) - 1
                with nullcontext() if synchronise else accelerator.no_sync(objective):
                    losses = objective(
                        batch.to(accelerator.device, non_blocking=True),
                        hinted and hinted.to(accelerator.device, non_blocking=True),
                        task_scale=1 / len(micro_batches),
                        hint_scale=hint_scale,
                    )
                    accelerator.backward(losses.total)
                parts += torch.stack([losses.task, losses.hint, losses.adversary])
            gradient_norm = accelerator.clip_grad_norm_(objective.parameters(), scale.clip)
            optimizer.step()
            optimizer.zero_grad()

            if (step + 1) % scale.evaluate_every == 0 or step + 1 == scale.steps:
                task, hint, question_only = accelerator.reduce(parts, "mean").tolist()
                losses_now = {"train/task_loss": task, "train/hint_loss": hint, "gradient_norm": float(gradient_norm)}
                if method.adversarial:
                    losses_now["train/adversary_loss"] = question_only
                check_finite(config.out, step + 1, losses_now)
                summary = measure(model, development, accelerator).summary()
                if run is not None:
                    improved = summary["accuracy"] > best
                    best = max(best, summary["accuracy"])
                    run.log(step + 1, **{f"development/{k}": v for k, v in summary.items()}, **losses_now)
                    state, progress = model.state_dict(), {"step": step + 1, "best": best}
                    if improved:
                        run.save_checkpoint("best", state, None, progress)
                    run.save_checkpoint("last", state, optimizer.optimizer, progress, adversary.state_dict())
                accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        plain_console(soft_wrap=True).print(f"{config.out}: best accuracy on the development split {best:.2f} %")


class TrainingSteps(Dataset[MicroBatches]):
    """The batches of each step, a pure function of the step: this process's share, in micro-batches."""

    def __init__(self, split: VqaSplit, config: TrainConfig, accelerator: Accelerator) -> None:
        """Check that the steps can be cut evenly, and choose which hints are used."""
        scale, self.config, self.split = config.scale, config, split
        self.rank, self.ranks = accelerator.process_index, accelerator.num_processes
        sizes = {"batch_size": scale.batch_size, "hint_batch_size": scale.hint_batch_size}
        check_cut(accelerator, config.micro_batches, **sizes)
        asked, self.hints = torch.arange(len(split)), None
        self._drawn: dict[int, Float[Tensor, "M K"]] = {}
        if config.method.supervision != "none" or config.method.task_on == "hinted":
            self.pool = choose_hints(split, config.hint_share, config.seed)
        if config.method.supervision != "none":
            self.hints = Stream(torch.arange(len(self.pool)), scale.hint_batch_size, fold(config.seed, 2))
            self._human(0)  # refuses hints that cannot be had
        if config.method.task_on == "hinted":
            asked = split.hinted_indices[self.pool]
        self.questions = Stream(asked, scale.batch_size, fold(config.seed, 1))

    def __len__(self) -> int:
        return self.config.scale.steps

    def __getitem__(self, step: int) -> MicroBatches:
        batches = [self.split.batch(part) for part in self._mine(self.questions.batch(step))]
        if self.hints is None:
            return [(batch, None) for batch in batches]
        human = self._human(self.hints.epoch(step))
        parts = self._mine(self.hints.batch(step))
        return [(batch, self._hinted(part, human)) for batch, part in zip(batches, parts, strict=True)]

    def _human(self, epoch: int) -> Float[Tensor, "M K"]:
        """The hints of an epoch; most methods' are the same in all."""
        kind, seed = self.config.method.hints, self.config.seed
        key = epoch if kind == "random-per-epoch" else 0
        if key not in self._drawn:
            self._drawn = {key: control_hints(self.split.hints[self.pool], kind, seed=seed, epoch=key)}
        return self._drawn[key]

    def _hinted(self, rows: Int[Tensor, " B"], human: Float[Tensor, "M K"]) -> VqaBatch:
        batch = self.split.batch(self.split.hinted_indices[self.pool[rows]])
        return batch._replace(human=human[rows, : batch.mask.shape[1]])

    def _mine(self, indices: Int[Tensor, " N"]) -> list[Int[Tensor, " B"]]:
        return cut(indices, self.rank, self.ranks, self.config.micro_batches)


def choose_hints(split: VqaSplit, share: float, seed: int) -> Int[Tensor, " M"]:
    """Positions in ``split.hinted_indices`` of the hints to use; a smaller share is a subset of a larger one."""
    available = len(split.hinted_indices)
    wanted = round(share * len(split))
    if available == 0:
        raise InputError(f"None of the {len(split)} train questions has a hint: prepare the data with --hints.")
    if wanted == 0:
        raise InputError(f"--hint-share {share:g} of {len(split)} train questions is none: choose a larger share.")
    return torch.randperm(available, generator=generator(seed, 3))[:wanted]

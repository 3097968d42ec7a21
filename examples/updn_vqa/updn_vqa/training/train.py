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
from updn_common.data.loading import load_ahead
from updn_common.data.stream import Stream, fold
from updn_common.errors import InputError
from updn_common.runs.processes import make_accelerator
from updn_common.runs.steps import EpochHints, Share, draw_hinted
from updn_common.runs.training import TrainingState, check_finite, open_run
from updn_vqa.data.glove import start_from_word_vectors
from updn_vqa.data.prepared import PreparedData, VqaBatch, VqaSplit
from updn_vqa.networks import build_network
from updn_vqa.training.config import TrainConfig
from updn_vqa.training.measure import measure
from updn_vqa.training.objective import Objective, trained_hints

MicroBatches = list[tuple[VqaBatch, VqaBatch | None]]


def train(config: TrainConfig) -> None:
    """Train a network; the best checkpoint is chosen on the development split.

    Raises:
        InputError: An option, the data, or a checkpoint does not fit; nothing is overwritten.
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

    # Weights that are mixed into those of another run should differ from the random weights that it began with.
    torch.manual_seed(fold(config.seed) if config.start_from is None else fold(config.seed, 0))
    model = build_network(scale.model, data)
    start_from_word_vectors(model, config.data)
    model.explained_by = method.importance
    objective = Objective(model, method, example=steps.split.batch([0]))
    optimizer_class = torch.optim.Adam if scale.optimizer == "adam" else torch.optim.Adamax
    optimizer = optimizer_class(objective.parameters(), lr=scale.learning_rate)
    state = TrainingState(model, optimizer, objective.adversary)
    state.load(config, processes=accelerator.num_processes, kept=scale.kept)
    objective, optimizer = accelerator.prepare(objective, optimizer)

    with open_run(config, accelerator, state, for_trained="this scale is" if scale.continues else "") as run:
        pin_memory = accelerator.device.type == "cuda"
        loader = load_ahead(steps, range(state.step, scale.steps), workers=config.workers, pin_memory=pin_memory)
        for step, micro_batches in enumerate(run.track(loader, total=scale.steps), start=state.step):
            torch.manual_seed(fold(config.seed, step, accelerator.process_index))  # dropout, random directions
            # The step's mean is over the hinted questions of all processes and micro-batches.
            hinted_here = sum(int(trained_hints(method, hinted).sum()) for _, hinted in micro_batches if hinted)
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
                metrics = {f"development/{name}": value for name, value in summary.items()}
                run.keep(step + 1, summary["accuracy"], metrics | losses_now)
                accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        plain_console(soft_wrap=True).print(f"{config.out}: best accuracy on the development split {state.best:.2f} %")


class TrainingSteps(Dataset[MicroBatches]):
    """The batches of each step, a pure function of the step: this process's share, in micro-batches."""

    def __init__(self, split: VqaSplit, config: TrainConfig, accelerator: Accelerator) -> None:
        """Check that the steps can be cut evenly, and choose which hints are used."""
        method, scale, self.split, self.steps = config.method, config.scale, split, config.scale.steps
        sizes = {"batch_size": scale.batch_size, "hint_batch_size": scale.hint_batch_size}
        self.share = Share.of(accelerator, config.micro_batches, **sizes)
        questions, self.hints = torch.arange(len(split)), None
        if method.supervision != "none" or method.task_on == "hinted":
            chosen = choose_hints(split, config.hint_share, config.seed)
            if method.task_on == "hinted":
                questions = split.hinted_indices[chosen]
            if method.supervision != "none":
                self.hints = EpochHints(split.hints, chosen, method.hints, config.seed)
                self.hinted = Stream(chosen, scale.hint_batch_size, fold(config.seed, 2))
        self.questions = Stream(questions, scale.batch_size, fold(config.seed, 1))

    def __len__(self) -> int:
        return self.steps

    def __getitem__(self, step: int) -> MicroBatches:
        batches = [self.split.batch(part) for part in self.share.cut(self.questions.batch(step))]
        if self.hints is None:
            return [(batch, None) for batch in batches]
        human = self.hints.of(self.hinted.epoch(step))
        parts = self.share.cut(self.hinted.batch(step))
        return [(batch, self._hinted(rows, human)) for batch, rows in zip(batches, parts, strict=True)]

    def _hinted(self, rows: Int[Tensor, " B"], human: Float[Tensor, "M K"]) -> VqaBatch:
        """The questions of some hints, with the hints of an epoch."""
        batch = self.split.batch(self.split.hinted_indices[rows])
        return batch._replace(human=human[rows, : batch.mask.shape[1]])


def choose_hints(split: VqaSplit, share: float, seed: int) -> Int[Tensor, " C"]:
    """Choose rows of ``split.hints`` to use; see `draw_hinted`."""
    available = len(split.hinted_indices)
    return draw_hinted(available, len(split), share, seed, samples="questions", remedy="--hints")

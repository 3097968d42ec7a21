"""The studies: for each world and seed, all arms fine-tune the same base network or start from random weights."""

from dataclasses import dataclass, replace
from itertools import product

from updn_common.data.control_hints import Hints
from updn_common.studies import study
from updn_vqa.networks.layers import Network
from updn_vqa.training.methods import METHODS, SCALES, SHAPES, SMALL, UNSIGNED, Method, Scale

HINT_SHARE = 0.06
"""The share of VQA v2 questions that have a VQA-HAT map."""

TRAINED = replace(UNSIGNED, weight=100.0)
"""For a network that already relies on the shortcut; chosen by ``selection-trained``."""

FINETUNE, FROM_SCRATCH = SCALES["shapes-finetune"], SHAPES
"""Both take as many steps in all, including those of the base network that is fine-tuned."""


@dataclass(frozen=True)
class Arm(study.Arm[Method, Scale]):
    """One row of a study's table, with defaults for worlds of shapes_cp."""

    hint_share: float = HINT_SHARE
    scale: Scale = FINETUNE


START = Arm("start", METHODS["base"], scale=SCALES["shapes-base"])


@dataclass(frozen=True)
class Study(study.Study[Method, Scale]):
    """Arms that are run in worlds of shapes_cp."""

    model_seeds: int = 3
    splits: tuple[str, ...] = ("val", "dev", "test")
    start: study.Arm[Method, Scale] | None = START


def arms(*methods: str) -> tuple[Arm, ...]:
    """Arms of the named presets."""
    return tuple(Arm(name, METHODS[name]) for name in methods)


def shares(name: str, *percentages: float, method: Method | None = None) -> tuple[Arm, ...]:
    """A method, by default the preset of this name, with hints for other shares of the questions."""
    return tuple(Arm(f"{name} {percent:g} %", method or METHODS[name], percent / 100) for percent in percentages)


def controls(name: str, method: Method | None = None) -> tuple[Arm, ...]:
    """A method with another question's hints, with random hints redrawn in each epoch, and with inverted hints."""
    kinds: dict[str, Hints] = {"permuted": "permuted", "redrawn": "random-per-epoch", "inverted": "irrelevant"}
    chosen = method or METHODS[name]
    return tuple(Arm(f"{name}, {kind}", replace(chosen, hints=hints)) for kind, hints in kinds.items())


def with_network(network: Network, *rows: Arm) -> tuple[Arm, ...]:
    """The same rows with a given network."""
    return tuple(replace(arm, scale=replace(arm.scale, model=replace(SMALL, network=network))) for arm in rows)


def from_random_weights(*rows: Arm, steps: int = FROM_SCRATCH.steps) -> tuple[Arm, ...]:
    """The same rows from random weights: hints from the start of training."""
    return tuple(replace(arm, scale=replace(arm.scale, steps=steps), from_start=False) for arm in rows)


def main_rows(network: Network = "updn") -> Study:
    """The main rows from random weights, for a network or a world that no options were chosen for."""
    rows = (
        *arms("base", "unsigned", "hint", "attn-align"),
        PERMUTED,
        *shares("unsigned", 25),
        *shares("hint", 25),
        *shares("attn-align", 25),
    )
    return Study(from_random_weights(*with_network(network, *rows)), start=None)


def with_trained(network: Network) -> Study:
    """The main rows from random weights, and rows that fine-tune a trained network, with the weight for that."""
    study = main_rows(network)
    rows = (
        *arms("hint", "attn-align"),
        Arm("unsigned", TRAINED),
        Arm("unsigned, permuted", replace(TRAINED, hints="permuted")),
        *shares("unsigned", 25, method=TRAINED),
    )
    later = with_network(network, START, *(replace(arm, name=f"{arm.name}, trained") for arm in rows))
    return replace(study, start=later[0], arms=(*study.arms, *later[1:]))


def weights(name: str, *values: float) -> tuple[Arm, ...]:
    """A preset with other weights."""
    return tuple(Arm(f"{name}, weight {weight:g}", replace(METHODS[name], weight=weight)) for weight in values)


def margins(name: str, *values: float) -> tuple[Arm, ...]:
    """A preset with other margins."""
    return tuple(Arm(f"{name}, margin {margin:g}", replace(METHODS[name], margin=margin)) for margin in values)


def selection(*rows: Arm, start: Arm | None = START) -> Study:
    """Rows that are compared on the development split alone."""
    return Study(rows, model_seeds=2, splits=("dev",), start=start)


def selection_trained(network: Network, *tried: float) -> Study:
    """What helps a network that already relies on the shortcut; the last row trains from random weights instead."""
    rows = (
        *arms("base", "unsigned"),
        *weights("unsigned", *tried),
        *(Arm(f"unsigned, {k:g} kept", UNSIGNED, scale=replace(FINETUNE, kept=k)) for k in (0.75, 0.5, 0.25)),
        *from_random_weights(Arm("unsigned, anew", UNSIGNED)),
    )
    start, *others = with_network(network, START, *rows)
    return selection(*others, start=start)


def adversarial(name: str, method: Method = METHODS["adv-reg"]) -> Arm:
    """Adversarial regularisation from random weights, as its authors train it, in as many steps as others in all."""
    return Arm(name, method, scale=FROM_SCRATCH, from_start=False)


PERMUTED = Arm("unsigned, permuted", replace(UNSIGNED, hints="permuted"))
NETWORKS: tuple[Network, ...] = ("transformer", "updn-bypass", "updn-mean", "updn-concat", "san")
STUDIES: dict[str, Study] = {
    "demo": Study(
        from_random_weights(
            *arms("base", "unsigned"),
            replace(PERMUTED, name="permuted"),
            *arms("attn-align"),
            *shares("unsigned", 1.5, 25),
            steps=800,
        ),
        model_seeds=2,
        start=None,
    ),
    "from-start": Study(
        from_random_weights(
            *arms("base", "unsigned", "unsigned-exact", "hint", "attn-align", "hint-paper"),
            *controls("unsigned"),
            *shares("unsigned", 1.5, 25),
        ),
        start=None,
    ),
    "fine-tuned": Study(
        (
            *arms("base", "unsigned", "unsigned-exact", "hint", "attn-align", "hint-paper", "random", "zero-out"),
            *controls("unsigned"),
            *controls("hint"),
            *shares("unsigned", 1.5, 25),
            *shares("hint", 1.5, 25),
        ),
    ),
    "trained": Study(
        (
            *arms("base", "attn-align"),
            Arm("unsigned", TRAINED),
            *controls("unsigned", TRAINED),
            *shares("unsigned", 1.5, 25, method=TRAINED),
        ),
    ),
    "light": main_rows(),
    "prior": main_rows(),
    **{network: with_trained(network) for network in NETWORKS},
    "table1": Study(
        (
            *(
                replace(arm, name=name)
                for name in ("san", "gvqa")
                for arm in with_network(name, *from_random_weights(*arms("base")))
            ),
            *arms("base", "attn-align"),
            adversarial("adv-reg"),
            *arms("hint", "unsigned", "unsigned-exact", "hint-paper", "scr", "visfis"),
            *arms("permuted", "random", "random-per-epoch", "irrelevant", "zero-out"),
            *(Arm(f"{name}, permuted", replace(METHODS[name], hints="permuted")) for name in ("scr", "visfis")),
            *arms("base-on-hinted", "hint-on-hinted"),
        ),
    ),
    "supervision": Study(
        arms("base") + shares("unsigned", 1.5, 3) + arms("unsigned") + shares("unsigned", 25, 100),
    ),
    "selection-unsigned": selection(
        *from_random_weights(
            *arms("base", "unsigned"),
            *(
                Arm(f"unsigned, margin {margin:g}, weight {weight:g}", replace(UNSIGNED, margin=margin, weight=weight))
                for margin, weight in product((0.4, 0.8, 1.6), (3.0, 10.0, 30.0))
                if (margin, weight) != (UNSIGNED.margin, UNSIGNED.weight)
            ),
            *margins("unsigned", 0.0),
            *(Arm(f"unsigned, gap {gap:g} of the range", replace(UNSIGNED, min_gap=gap)) for gap in (0.25, 0.5)),
            *(
                Arm(f"unsigned, absolute gap {gap:g}", replace(UNSIGNED, min_gap=gap, relative=False))
                for gap in (0.0, 0.5)
            ),
            Arm("signed", replace(UNSIGNED, importance="sum")),
            steps=800,
        ),
        start=None,
    ),
    "selection": selection(
        *arms("base", "hint", "hint-paper"),
        *weights("hint", 10.0, 100.0),
        *margins("hint", 0.2, 0.8),
        Arm("hint, no gap", replace(METHODS["hint"], min_gap=0.0)),
        *weights("hint-paper", 1e-4, 1e-3, 0.1, 1.0),
    ),
    "selection-trained": selection_trained("updn", 30.0, 100.0, 300.0),
    "selection-trained-mean": selection_trained("updn-mean", 100.0),
    "selection-trained-transformer": selection_trained("transformer", 100.0),
    "selection-others": selection(
        *arms("base", "hint", "scr", "visfis"),
        *weights("scr", 0.1, 1.0),
        *weights("visfis", 1.0, 30.0),
        adversarial("adv-reg"),
        *(
            adversarial(f"adv-reg, {x:g} and {gap:g}", replace(METHODS["adv-reg"], adversary=x, entropy_gap=gap))
            for x, gap in ((0.0, 0.1), (0.1, 0.0), (0.1, 0.1), (0.03, 0.3))
        ),
    ),
}
"""``from-start`` gives hints from the start of training. ``fine-tuned`` gives them to a network that already relies on
the shortcut, in as many steps in all, and ``trained`` with ten times the weight. ``light`` is for worlds whose cue is
the light, ``prior`` for worlds without a cue. Five studies are for other networks, from random weights and once they
are trained; in ``updn-bypass`` answers have a path around attention, the case of the paper's argument against aligning
attention. ``table1`` has the rows of the paper's Table 1, later methods, and the controls. ``supervision`` varies the
share of questions with a hint, from none to all (``unsigned`` has 6 %).

The other studies select options on the development split alone; the test is not looked at. ``selection`` chose the
presets ``hint`` and ``hint-paper``; ``selection-unsigned`` chose ``unsigned``, which the library recommends, with hints
from the start of training; ``selection-trained`` tries what helps a network that is already trained.
``selection-others`` tries a few weights of later methods: those of ``adv-reg`` and the one of ``visfis`` were chosen
there, with one seed; ``scr`` has its authors' weight. Controls take the margin, gap and weight of what they control.
Two presets were not tuned: ``zero-out``, and ``attn-align``, which has the options of ``hint``."""

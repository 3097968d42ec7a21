"""The studies: for each world and seed, all arms fine-tune the same base network or start from random weights."""

from dataclasses import dataclass, replace
from itertools import product

from updn_common.data.controls import Hints
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


def networks(*names: Network) -> tuple[Arm, ...]:
    """Other networks without hints, trained for as many steps as UpDn is in all."""
    base = arms("base")
    return tuple(replace(arm, name=name) for name in names for arm in from_random_weights(*with_network(name, *base)))


def adversarial(name: str, method: Method) -> Arm:
    """Adversarial regularisation from random weights, as its authors train it, in as many steps as others in all."""
    return Arm(name, method, scale=FROM_SCRATCH, from_start=False)


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
        Arm("unsigned, permuted", replace(UNSIGNED, hints="permuted")),
        *shares("unsigned", 25),
        *shares("hint", 25),
        *shares("attn-align", 25),
    )
    return Study(from_random_weights(*with_network(network, *rows)), model_seeds=3, start=None)


def with_trained(study: Study, network: Network) -> Study:
    """A study with further rows, which fine-tune its network once it is trained, with the weight for that."""
    rows = (
        *arms("hint", "attn-align"),
        Arm("unsigned", TRAINED),
        Arm("unsigned, permuted", replace(TRAINED, hints="permuted")),
        *shares("unsigned", 25, method=TRAINED),
    )
    later = with_network(network, START, *(replace(arm, name=f"{arm.name}, trained") for arm in rows))
    return replace(study, start=later[0], arms=(*study.arms, *later[1:]))


def trained(network: Network = "updn", *, weights: tuple[float, ...] = (), kept: tuple[float, ...] = ()) -> Study:
    """What helps a network that already relies on the shortcut; the last row trains from random weights instead."""
    rows = (
        *arms("base", "unsigned"),
        *(Arm(f"unsigned, weight {weight:g}", replace(UNSIGNED, weight=weight)) for weight in weights),
        *(Arm(f"unsigned, {k:g} kept", UNSIGNED, scale=replace(FINETUNE, kept=k)) for k in kept),
    )
    anew = from_random_weights(Arm("unsigned, anew", UNSIGNED))
    return Study(
        with_network(network, *rows, *anew), model_seeds=2, splits=("dev",), start=with_network(network, START)[0]
    )


HINT, PAPER, ADV_REG = METHODS["hint"], METHODS["hint-paper"], METHODS["adv-reg"]
SCR, VISFIS = METHODS["scr"], METHODS["visfis"]
STUDIES: dict[str, Study] = {
    "demo": Study(
        from_random_weights(
            *arms("base", "unsigned"),
            Arm("permuted", replace(UNSIGNED, hints="permuted")),
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
        model_seeds=3,
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
        model_seeds=3,
    ),
    "trained": Study(
        (
            *arms("base", "attn-align"),
            Arm("unsigned", TRAINED),
            *controls("unsigned", TRAINED),
            *shares("unsigned", 1.5, 25, method=TRAINED),
        ),
        model_seeds=3,
    ),
    "light": main_rows(),
    "prior": main_rows(),
    "transformer": with_trained(main_rows("transformer"), "transformer"),
    "updn-bypass": with_trained(main_rows("updn-bypass"), "updn-bypass"),
    "updn-mean": with_trained(main_rows("updn-mean"), "updn-mean"),
    "updn-concat": with_trained(main_rows("updn-concat"), "updn-concat"),
    "san": with_trained(main_rows("san"), "san"),
    "table1": Study(
        (
            *networks("san", "gvqa"),
            *arms("base", "attn-align"),
            adversarial("adv-reg", ADV_REG),
            *arms("hint", "unsigned", "unsigned-exact", "hint-paper", "scr", "visfis"),
            *arms("permuted", "random", "random-per-epoch", "irrelevant", "zero-out"),
            Arm("scr, permuted", replace(SCR, hints="permuted")),
            Arm("visfis, permuted", replace(VISFIS, hints="permuted")),
            *arms("base-on-hinted", "hint-on-hinted"),
        ),
        model_seeds=3,
    ),
    "supervision": Study(
        arms("base") + shares("unsigned", 1.5, 3) + arms("unsigned") + shares("unsigned", 25, 100), model_seeds=3
    ),
    "selection-unsigned": Study(
        from_random_weights(
            *arms("base", "unsigned"),
            *(
                Arm(f"unsigned, margin {margin:g}, weight {weight:g}", replace(UNSIGNED, margin=margin, weight=weight))
                for margin, weight in product((0.4, 0.8, 1.6), (3.0, 10.0, 30.0))
                if (margin, weight) != (UNSIGNED.margin, UNSIGNED.weight)
            ),
            Arm("unsigned, margin 0", replace(UNSIGNED, margin=0.0)),
            *(Arm(f"unsigned, gap {gap:g} of the range", replace(UNSIGNED, min_gap=gap)) for gap in (0.25, 0.5)),
            *(
                Arm(f"unsigned, absolute gap {gap:g}", replace(UNSIGNED, min_gap=gap, relative=False))
                for gap in (0.0, 0.5)
            ),
            Arm("signed", replace(UNSIGNED, importance="sum")),
            steps=800,
        ),
        model_seeds=2,
        splits=("dev",),
        start=None,
    ),
    "selection": Study(
        (
            *arms("base", "hint", "hint-paper"),
            *(Arm(f"hint, weight {weight:g}", replace(HINT, weight=weight)) for weight in (10.0, 100.0)),
            *(Arm(f"hint, margin {margin:g}", replace(HINT, margin=margin)) for margin in (0.2, 0.8)),
            Arm("hint, no gap", replace(HINT, min_gap=0.0)),
            *(Arm(f"hint-paper, weight {w:g}", replace(PAPER, weight=w)) for w in (1e-4, 1e-3, 0.1, 1.0)),
        ),
        model_seeds=2,
        splits=("dev",),
    ),
    "selection-trained": trained(weights=(30.0, 100.0, 300.0), kept=(0.75, 0.5, 0.25)),
    "selection-trained-mean": trained("updn-mean", weights=(100.0,), kept=(0.75, 0.5, 0.25)),
    "selection-trained-transformer": trained("transformer", weights=(100.0,), kept=(0.75, 0.5, 0.25)),
    "selection-others": Study(
        (
            *arms("base", "hint", "scr", "visfis"),
            *(Arm(f"scr, weight {weight:g}", replace(SCR, weight=weight)) for weight in (0.1, 1.0)),
            *(Arm(f"visfis, weight {weight:g}", replace(VISFIS, weight=weight)) for weight in (1.0, 30.0)),
            adversarial("adv-reg", ADV_REG),
            *(
                adversarial(f"adv-reg, {reversal:g} and {gap:g}", replace(ADV_REG, adversary=reversal, entropy_gap=gap))
                for reversal, gap in ((0.0, 0.1), (0.1, 0.0), (0.1, 0.1), (0.03, 0.3))
            ),
        ),
        model_seeds=2,
        splits=("dev",),
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

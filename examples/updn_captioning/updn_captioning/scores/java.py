"""METEOR and SPICE by the official Java programs, which ``pip install pycocoevalcap`` installs.

The package has 104 MB, with METEOR 1.5 and its paraphrases. SPICE also needs Stanford CoreNLP 3.6.0 and its models,
about 500 MB from nlp.stanford.edu. If anything is missing, the error says how to get it.

METEOR's corpus score is computed from sums over the corpus, and is not the mean over images; SPICE's is (Denkowski and
Lavie, "Meteor Universal", WMT 2014; Anderson et al., "SPICE", ECCV 2016).
"""

import importlib.util
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from subprocess import CalledProcessError
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64

from updn_common.errors import InputError

_MODELS = ("stanford-corenlp-3.6.0.jar", "stanford-corenlp-3.6.0-models.jar")


class JavaScores(NamedTuple):
    """Scores of a Java program."""

    corpus: float
    by_image: Float64[np.ndarray, " N"]


def meteor(candidates: Mapping[int, str], references: Mapping[int, Sequence[str]]) -> JavaScores:
    """METEOR of tokenised captions, in the order of the candidates; 1,000 images take half a minute.

    Raises:
        InputError: Java, a package or a file is missing, or the program failed.
    """
    package("METEOR")
    from pycocoevalcap.meteor.meteor import Meteor

    scorer = Meteor()
    try:
        corpus, by_image = scorer.compute_score(*_official(candidates, references))
    except (OSError, ValueError) as error:  # if the program could not run, its answer is not a number
        raise _failed("METEOR", error) from error
    finally:
        scorer.meteor_p.stdout.close()  # the scorer ends its process, but does not close these
        scorer.meteor_p.stderr.close()
    return JavaScores(float(corpus), np.array(by_image, dtype=np.float64))


def spice(candidates: Mapping[int, str], references: Mapping[int, Sequence[str]]) -> JavaScores:
    """SPICE of tokenised captions, in the order of the candidates, by a program for Java 8.

    Raises:
        InputError: Java, a package or a file is missing, or the program failed.
    """
    libraries = package("SPICE") / "spice" / "lib"
    lacking = [name for name in _MODELS if not (libraries / name).is_file()]
    if lacking:
        raise InputError(
            f"SPICE needs {' and '.join(lacking)} in {libraries}. Fetch them, about 500 MB, with a network: "
            "python -m pycocoevalcap.spice.get_stanford_models"
        )
    from pycocoevalcap.spice.spice import Spice

    gts, res = _official(candidates, references)
    try:
        corpus, parts = Spice().compute_score(gts, res)
    except (OSError, CalledProcessError, ValueError) as error:
        raise _failed("SPICE", error) from error
    by_image = dict(zip(sorted(gts), (part["All"]["f"] for part in parts), strict=True))
    return JavaScores(float(corpus), np.array([by_image[image_id] for image_id in candidates], dtype=np.float64))


def package(score: str) -> Path:
    """Find the directory of ``pycocoevalcap``.

    Raises:
        InputError: Java or the package is missing.
    """
    if shutil.which("java") is None:
        raise InputError(
            f"{score} needs Java, and there is no 'java' on the PATH. Install a Java runtime, such as OpenJDK, or "
            "leave it out."
        )
    found = importlib.util.find_spec("pycocoevalcap")
    if found is None or not found.submodule_search_locations:
        raise InputError(f"{score} needs pycocoevalcap, 104 MB: pip install pycocoevalcap, or leave it out.")
    return Path(found.submodule_search_locations[0])


def _official(
    candidates: Mapping[int, str], references: Mapping[int, Sequence[str]]
) -> tuple[dict[int, list[str]], dict[int, list[str]]]:
    """References and candidates in the format of ``pycocoevalcap``."""
    return (
        {image_id: list(references[image_id]) for image_id in candidates},
        {image_id: [caption] for image_id, caption in candidates.items()},
    )


def _failed(score: str, error: Exception) -> InputError:
    return InputError(f"{score} could not be computed: its Java program failed ({error}). Try another version of Java.")

"""Human hints: for a question, how important people find each proposal of its image.

Each kind is a :class:`HintSource`. *VQA-HAT* maps and *boxes* were made with the question in view. *SALICON* fixations
were not: its people looked at the images freely, so all questions of an image share one hint. *Words* were never about
proposals; see :mod:`updn_vqa.data.hints.words`. :mod:`updn_vqa.data.hints.file` describes the open format for hints of
any kind.
"""

from updn_common.proposals.store import Geometry
from updn_vqa.data.hints.boxes import BoxHints, read_question_boxes
from updn_vqa.data.hints.file import FileHints, write_hints
from updn_vqa.data.hints.gqa import read_gqa
from updn_vqa.data.hints.maps import SALICON_SIGMA, HatHints, SaliconHints
from updn_vqa.data.hints.source import HintSource, read_all
from updn_vqa.data.hints.words import ObjectNames, WordHints

__all__ = [
    "SALICON_SIGMA",
    "BoxHints",
    "FileHints",
    "Geometry",
    "HatHints",
    "HintSource",
    "ObjectNames",
    "SaliconHints",
    "WordHints",
    "read_all",
    "read_gqa",
    "read_question_boxes",
    "write_hints",
]

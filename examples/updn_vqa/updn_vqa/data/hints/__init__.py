"""Human hints: the importance of each proposal of an image for a question about it, according to people.

Each kind is a :class:`HintSource`. People made *VQA-HAT* maps and *boxes* with the question in view. *SALICON*
fixations come from free viewing, so all questions about an image share one hint. *Words* were not written about
proposals; see :mod:`updn_vqa.data.hints.words`. :mod:`updn_vqa.data.hints.file` describes the open format for hints of
any kind.
"""

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

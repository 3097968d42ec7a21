"""Hints from where people looked: VQA-HAT maps and SALICON fixations."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from hint_loss import human_importance, human_importance_from_points
from updn_common.data.attention_maps import Fixations, find_vqa_hat, mean_attention_map, read_salicon
from updn_common.errors import InputError
from updn_common.files.reading import sha256_of_all
from updn_common.proposals.store import Geometry
from updn_vqa.data.hints.source import Importance, fitting_scale, joined, read_all
from updn_vqa.data.questions import Question, read_questions

SALICON_SIGMA = 19.0
"""Blur in pixels as in the SALICON tools: about one degree of visual angle in their 640 x 480 images."""


@dataclass(frozen=True)
class HatHints:
    """VQA-HAT attention maps.

    Attributes:
        maps: The maps of each (VQA v2 or VQA-CP) question that has any; several are averaged.
        matched: Number of VQA v1 questions with maps that are among the given questions.
        unmatched: Number of VQA v1 questions with maps that are not.
        files: The VQA v1 question files.
    """

    maps: Mapping[int, Sequence[Path]]
    matched: int
    unmatched: int
    files: Sequence[Path]

    @classmethod
    def match(cls, folders: Sequence[Path], v1_files: Sequence[Path], questions: Iterable[Question]) -> HatHints:
        """Find the maps of the given questions; maps have the ids of VQA v1 questions.

        A map belongs to every question that has the same text and the same image as the VQA v1 question. VQA v1 asks
        some questions twice about one image: their maps are averaged.

        Raises:
            InputError: No map belongs to any of the questions.
        """
        v1_questions = (question for path in v1_files for question in read_questions(path))
        asked = {question.question_id: (question.image_id, question.text) for question in v1_questions}
        wanted: defaultdict[tuple[int, str], list[int]] = defaultdict(list)
        for question in questions:
            wanted[question.image_id, question.text].append(question.question_id)
        found = read_all(find_vqa_hat, folders)
        same = {v1_id: wanted.get(asked[v1_id], []) if v1_id in asked else [] for v1_id in found}
        maps: defaultdict[int, list[Path]] = defaultdict(list)
        for v1_id, ids in same.items():
            for question_id in ids:
                maps[question_id] += found[v1_id]
        if not maps:
            raise InputError(
                f"None of the {len(found)} questions with attention maps in {joined(folders)} is among the given ones "
                "(same image, same text). Check the VQA v1 question files."
            )
        matched = sum(bool(ids) for ids in same.values())
        return cls(maps, matched, len(same) - matched, v1_files)

    @property
    def question_ids(self) -> Collection[int]:
        return self.maps

    def importance(self, question: Question, image: Geometry) -> Importance | None:
        """See :class:`HintSource`. A map may have another resolution than the image, but not another aspect ratio."""
        paths = self.maps.get(question.question_id)
        if paths is None:
            return None
        attention = torch.from_numpy(mean_attention_map(paths))
        height, width = attention.shape
        fitting_scale((width, height), image, question.image_id, str(paths[0]))
        return human_importance(attention, image.boxes, image_size=image.size).float()

    def record(self) -> dict[str, Any]:
        return {
            "source": "hat",
            "about": "VQA-HAT attention maps, made with the question in view",
            "matched_v1_questions": self.matched,
            "unmatched_v1_questions": self.unmatched,
            "maps_sha256": sha256_of_all({path for paths in self.maps.values() for path in paths}),
        }


@dataclass(frozen=True)
class SaliconHints:
    """SALICON fixations: the gaze points of all people in an image, blurred.

    Attributes:
        fixations: The fixations in each image.
        files: The files that were read.
        sigma: Standard deviation of the blur in pixels.
    """

    fixations: Mapping[int, Fixations]
    files: Sequence[Path]
    sigma: float = SALICON_SIGMA

    @classmethod
    def read(cls, files: Sequence[Path], sigma: float = SALICON_SIGMA) -> SaliconHints:
        """Read one or more SALICON fixation files."""
        return cls(read_all(read_salicon, files, of="image"), files, sigma)

    @property
    def question_ids(self) -> Collection[int]:
        return ()

    def importance(self, question: Question, image: Geometry) -> Importance | None:
        """See :class:`HintSource`. The hint is the same for all questions about an image."""
        fixations = self.fixations.get(question.image_id)
        if fixations is None:
            return None
        if (fixations.height, fixations.width) != image.size:
            raise InputError(
                f"{joined(self.files)}: the fixations in image {question.image_id} are on "
                f"{fixations.width} x {fixations.height} pixels, but the proposals on {image.width} x {image.height}."
            )
        points = torch.from_numpy(fixations.points + 0.5)  # now pixel corners, not centres, are whole numbers
        return human_importance_from_points(points, image.boxes, image_size=image.size, sigma=self.sigma).float()

    def record(self) -> dict[str, Any]:
        return {
            "source": "salicon",
            "about": "SALICON fixations: free viewing, NOT question-driven; one hint for all questions of an image",
            "images": len(self.fixations),
            "sigma": self.sigma,
        }

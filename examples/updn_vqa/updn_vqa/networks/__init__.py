"""The networks that can be trained: all of them read tokens, proposals and a mask, and return a :class:`VqaOutput`."""

from updn_vqa.networks.layers import NetworkSizes, VqaNetwork, VqaOutput
from updn_vqa.networks.san import San
from updn_vqa.networks.updn import UpDn, UpDnBypass

__all__ = ["NetworkSizes", "VqaNetwork", "VqaOutput", "build_network"]

NETWORKS: dict[str, type[VqaNetwork]] = {"updn": UpDn, "updn-bypass": UpDnBypass, "san": San}


def build_network(sizes: NetworkSizes, *, words: int, answers: int, feature_size: int) -> VqaNetwork:
    """An untrained network for ``words`` token ids (0 pads), ``answers`` answers and proposals of ``feature_size``."""
    return NETWORKS[sizes.network](sizes, words=words, answers=answers, feature_size=feature_size)

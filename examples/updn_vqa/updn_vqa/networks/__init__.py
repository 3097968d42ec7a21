"""The networks that can be trained: each reads tokens, proposals and a mask, and returns a :class:`VqaOutput`."""

from updn_vqa.data.prepared import PreparedData
from updn_vqa.networks.gvqa import Gvqa
from updn_vqa.networks.layers import NetworkSizes, VqaNetwork, VqaOutput
from updn_vqa.networks.san import San
from updn_vqa.networks.transformer import Transformer
from updn_vqa.networks.updn import UpDn, UpDnBypass, UpDnConcat, UpDnMean

__all__ = ["NetworkSizes", "VqaNetwork", "VqaOutput", "build_network"]

NETWORKS: dict[str, type[VqaNetwork]] = {
    "updn": UpDn,
    "updn-bypass": UpDnBypass,
    "updn-mean": UpDnMean,
    "updn-concat": UpDnConcat,
    "san": San,
    "transformer": Transformer,
    "gvqa": Gvqa,
}


def build_network(sizes: NetworkSizes, data: PreparedData) -> VqaNetwork:
    """Build an untrained network for prepared data."""
    return NETWORKS[sizes.network].for_data(sizes, data)

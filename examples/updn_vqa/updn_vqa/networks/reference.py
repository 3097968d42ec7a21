"""Weights of the widely used UpDn reference code (``hengyuan-hu/bottom-up-attention-vqa``), for our UpDn."""

from collections.abc import Mapping

from torch import Tensor

from updn_common.errors import InputError

_NORMALISED = {
    "v_att.v_proj.main.0": "attend_proposal.0",
    "v_att.q_proj.main.0": "attend_question.0",
    "v_att.linear": "attend_logit",
    "q_net.main.0": "question_net.0",
    "v_net.main.0": "image_net.0",
    "classifier.main.0": "classifier.0.0",
    "classifier.main.3": "classifier.2",
}
_RECURRENT = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
_NAMES = {f"q_emb.rnn.{name}": f"gru.{name}" for name in _RECURRENT} | {"w_emb.emb.weight": "embedding.weight"}
for _theirs, _ours in _NORMALISED.items():
    _NAMES[f"{_theirs}.bias"] = f"{_ours}.bias"
    _NAMES[f"{_theirs}.weight_g"] = f"{_ours}.parametrizations.weight.original0"
    _NAMES[f"{_theirs}.weight_v"] = f"{_ours}.parametrizations.weight.original1"


def from_reference_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Convert weights of the reference's ``baseline0_newatt`` to the state of our UpDn.

    Padding is the last word there and the first one here, so **token ids are theirs plus one**, and 0 is padding. Both
    pad questions on the left. Answers keep their order. For another order of words or answers, index the rows of
    ``embedding.weight``, or of the weight and bias of ``classifier.2``.

    Args:
        state: State dict of the reference, such as ``torch.load("model.pth", map_location="cpu", weights_only=True)``.

    Returns:
        State dict for ``UpDn(NetworkSizes(embedding=300, hidden=1024), words=..., answers=..., feature_size=2048)``,
        where ``words`` is their number of words plus one.

    Raises:
        InputError: It is the state of another model.
    """
    state = {name.removeprefix("module."): tensor for name, tensor in state.items()}  # nn.DataParallel's prefix
    faults = [f"missing {name}" for name in sorted(_NAMES.keys() - state.keys())]
    faults += [f"unexpected {name}" for name in sorted(state.keys() - _NAMES.keys())]
    faults += [
        f"{name} has the shape {list(state[name].shape)}, not one norm for the whole matrix"
        for name in sorted(_NAMES.keys() & state.keys())
        if name.endswith("weight_g") and state[name].numel() != 1
    ]
    if faults:
        more = f"; and {len(faults) - 5} more" if len(faults) > 5 else ""
        raise InputError(
            f"This is not a state of the reference's baseline0_newatt: {'; '.join(faults[:5])}{more}. "
            "Give the state dict of that model, whole, as its training code saves it."
        )
    ours = {_NAMES[name]: tensor.detach().clone() for name, tensor in state.items()}
    for name in _NORMALISED.values():
        norm = f"{name}.parametrizations.weight.original0"
        ours[norm] = ours[norm].reshape(())  # older versions of torch saved one dimension
    ours["embedding.weight"] = ours["embedding.weight"].roll(1, dims=0)
    return ours

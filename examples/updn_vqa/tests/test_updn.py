"""UpDn against a transcription of the published layers, with the reference's names; and its question-only bypass."""

import math
import warnings
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from updn_common.errors import InputError
from updn_vqa.networks.layers import NetworkSizes
from updn_vqa.networks.reference import from_reference_state
from updn_vqa.networks.updn import UpDn, UpDnBypass

B, K, D, H, T = 3, 36, 2048, 1024, 14
WORDS, ANSWERS = 40, 3129  # of the reference, without padding
LENGTHS = (14, 1, 6)
SMALL = NetworkSizes(embedding=5, hidden=7, attention_dropout=0.0, classifier_dropout=0.0)
LINEAR = {
    "v_att.v_proj.main.0": (H, D),
    "v_att.q_proj.main.0": (H, H),
    "v_att.linear": (1, H),
    "q_net.main.0": (H, H),
    "v_net.main.0": (H, D),
    "classifier.main.0": (2 * H, H),
    "classifier.main.3": (ANSWERS, 2 * H),
}


@pytest.fixture
def reference_state() -> dict[str, Tensor]:
    """Random weights with the reference's names, on the scale of torch's initialisation."""
    draw = torch.Generator().manual_seed(0)

    def uniform(shape: tuple[int, ...], fan_in: int) -> Tensor:
        return (2 * torch.rand(shape, generator=draw, dtype=torch.float64) - 1) / math.sqrt(fan_in)

    state = {"w_emb.emb.weight": torch.randn(WORDS + 1, 300, generator=draw, dtype=torch.float64)}
    state["w_emb.emb.weight"][WORDS] = 0
    for name, size in {"ih": 300, "hh": H}.items():
        state[f"q_emb.rnn.weight_{name}_l0"] = uniform((3 * H, size), H)
        state[f"q_emb.rnn.bias_{name}_l0"] = uniform((3 * H,), H)
    for name, (outputs, inputs) in LINEAR.items():
        state[f"{name}.weight_v"] = uniform((outputs, inputs), inputs)
        state[f"{name}.weight_g"] = state[f"{name}.weight_v"].norm() * 2.5  # a scalar
        state[f"{name}.bias"] = uniform((outputs,), inputs)
    return state


def transcription(state: dict[str, Tensor], words: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """Logits and attention of the published layers, in loops over questions, words and proposals."""

    def linear(name: str, x: Tensor) -> Tensor:
        weight = state[f"{name}.weight_g"] * state[f"{name}.weight_v"] / state[f"{name}.weight_v"].square().sum().sqrt()
        return x @ weight.T + state[f"{name}.bias"]

    def layer(name: str, x: Tensor) -> Tensor:
        return linear(f"{name}.main.0", x).clamp(min=0)

    gates = {name: state[f"q_emb.rnn.{name}_l0"] for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")}
    logits, attention = [], []
    for question, proposals in zip(words, v, strict=True):
        h = v.new_zeros(H)
        for word in question:
            x = state["w_emb.emb.weight"][word]
            x_reset, x_update, x_new = (gates["weight_ih"] @ x + gates["bias_ih"]).view(3, H)
            h_reset, h_update, h_new = (gates["weight_hh"] @ h + gates["bias_hh"]).view(3, H)
            reset, update = torch.sigmoid(x_reset + h_reset), torch.sigmoid(x_update + h_update)
            h = update * h + (1 - update) * torch.tanh(x_new + reset * h_new)
        asked = layer("v_att.q_proj", h)
        scores = [linear("v_att.linear", layer("v_att.v_proj", proposal) * asked) for proposal in proposals]
        weights = torch.cat(scores).exp() / torch.cat(scores).exp().sum()
        image = sum(weight * proposal for weight, proposal in zip(weights, proposals, strict=True))
        joint = layer("q_net", h) * layer("v_net", image)
        logits.append(linear("classifier.main.3", linear("classifier.main.0", joint).clamp(min=0)))
        attention.append(weights)
    return torch.stack(logits), torch.stack(attention)


def ours(state: dict[str, Tensor]) -> UpDn:
    model = UpDn(NetworkSizes(), words=WORDS + 1, answers=ANSWERS, feature_size=D).to(state["v_att.linear.bias"].dtype)
    model.load_state_dict(from_reference_state(state))
    return model.eval()


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.float64, 1e-12)], ids=["32", "64"])
def test_the_published_layers(reference_state: dict[str, Tensor], dtype: torch.dtype, tolerance: float) -> None:
    state = {name: tensor.to(dtype) for name, tensor in reference_state.items()}
    draw = torch.Generator().manual_seed(1)
    words = torch.randint(0, WORDS, (B, T), generator=draw)
    for row, length in zip(words, LENGTHS, strict=True):
        row[: T - length] = WORDS  # their padding
    v = torch.randn(B, K, D, generator=draw, dtype=dtype).clamp(min=0)  # as after ReLU
    logits, attention = transcription(state, words, v)

    with torch.no_grad():
        output = ours(state)((words + 1) % (WORDS + 1), v, torch.ones(B, K, dtype=torch.bool))
    assert logits.std() > 0.1
    assert attention.std() > 1e-3
    torch.testing.assert_close(output.logits, logits, rtol=0, atol=tolerance)
    torch.testing.assert_close(output.attention, attention, rtol=0, atol=tolerance)


@pytest.fixture
def small_state(reference_state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same weights, cut to a tiny size."""

    def cut(tensor: Tensor) -> Tensor:
        return tensor[tuple(slice(3) for _ in tensor.shape)]

    return {name: cut(tensor) for name, tensor in reference_state.items()}


def test_names_of_data_parallel_and_norms_with_one_dimension(small_state: dict[str, Tensor]) -> None:
    old = {
        f"module.{name}": tensor.reshape(1) if name.endswith("weight_g") else tensor
        for name, tensor in small_state.items()
    }
    expected = from_reference_state(small_state)
    found = from_reference_state(old)
    assert found.keys() == expected.keys()
    for name, tensor in found.items():
        torch.testing.assert_close(tensor, expected[name], rtol=0, atol=0)
        assert tensor.data_ptr() not in {other.data_ptr() for other in old.values()}


def test_the_transcribed_weight_norm_equals_torch_s_old_hook() -> None:
    """Checkpoints of the reference were saved with this hook."""
    torch.manual_seed(0)
    with warnings.catch_warnings(action="ignore", category=FutureWarning):
        layer = torch.nn.utils.weight_norm(torch.nn.Linear(4, 3), dim=None)  # type: ignore[arg-type]
    state = layer.state_dict()
    assert {name: tuple(tensor.shape) for name, tensor in state.items()} == {
        "bias": (3,),
        "weight_g": (),
        "weight_v": (3, 4),
    }
    state["weight_g"] *= 2
    layer.load_state_dict(state)
    x = torch.rand(2, 4)
    expected = x @ (state["weight_g"] * state["weight_v"] / state["weight_v"].norm()).T + state["bias"]
    torch.testing.assert_close(layer(x), expected)


def rows_of_norms(state: dict[str, Tensor]) -> None:
    state["v_net.main.0.weight_g"] = torch.ones(H, 1)


def other_attention(state: dict[str, Tensor]) -> None:
    for name in [name for name in state if name.startswith("v_att.")]:
        state[name.replace("v_proj", "nonlinear")] = state.pop(name)


def without_recurrent_layer(state: dict[str, Tensor]) -> None:
    for name in [name for name in state if name.startswith("q_emb.")]:
        del state[name]
    del state["q_net.main.0.bias"], state["v_net.main.0.bias"]


@pytest.mark.parametrize(
    ("change", "faults"),
    [
        (rows_of_norms, "v_net.main.0.weight_g has the shape [1024, 1], not one norm for the whole matrix"),
        (
            other_attention,
            "missing v_att.v_proj.main.0.bias; missing v_att.v_proj.main.0.weight_g; missing "
            "v_att.v_proj.main.0.weight_v; unexpected v_att.nonlinear.main.0.bias; unexpected "
            "v_att.nonlinear.main.0.weight_g; and 1 more",
        ),
        (
            without_recurrent_layer,
            "missing q_emb.rnn.bias_hh_l0; missing q_emb.rnn.bias_ih_l0; missing q_emb.rnn.weight_hh_l0; missing "
            "q_emb.rnn.weight_ih_l0; missing q_net.main.0.bias; and 1 more",
        ),
    ],
)
def test_weights_of_another_network_are_refused(
    small_state: dict[str, Tensor], change: Callable[[dict[str, Tensor]], None], faults: str
) -> None:
    change(small_state)
    with pytest.raises(InputError) as error:
        from_reference_state(small_state)
    assert str(error.value) == (
        f"This is not a state of the reference's baseline0_newatt: {faults}. "
        "Give the state dict of that model, whole, as its training code saves it."
    )


def test_gated_tanh() -> None:
    torch.manual_seed(0)
    model = UpDn(NetworkSizes(embedding=5, hidden=7, activation="gated"), words=11, answers=4, feature_size=6)
    gated, x = model.image_net, torch.randn(3, 6)
    expected = torch.tanh(gated.value(x)) * torch.sigmoid(gated.gate(x))
    torch.testing.assert_close(gated(x), expected)
    assert model(torch.tensor([[0, 3]]), torch.rand(1, 3, 6), torch.ones(1, 3, dtype=torch.bool)).logits.shape == (1, 4)


@pytest.fixture
def batch() -> tuple[Tensor, Tensor, Tensor]:
    draw = torch.Generator().manual_seed(1)
    mask = torch.tensor([[True, True, True], [True, True, False]])
    return torch.tensor([[0, 3, 4], [5, 6, 1]]), torch.rand(2, 3, 6, generator=draw, dtype=torch.float64), mask


def small(network: type[UpDn], sizes: NetworkSizes = SMALL) -> UpDn:
    torch.manual_seed(0)
    return network(sizes, words=11, answers=4, feature_size=6).double()


def test_dropout_is_applied_to_the_products(batch: tuple[Tensor, Tensor, Tensor]) -> None:
    """As in the reference, to each proposal's product with the question, and before the answers."""
    model = small(UpDn, replace(SMALL, attention_dropout=0.2, classifier_dropout=0.5))
    tokens, features, mask = batch
    torch.manual_seed(7)
    output = model(tokens, features, mask)
    torch.manual_seed(7)
    asked = model.attend_question(output.question).unsqueeze(1).repeat(1, 3, 1)
    scores = model.attend_logit(F.dropout(model.attend_proposal(features) * asked, 0.2)).squeeze(-1)
    attention = scores.masked_fill(~mask, -torch.inf).softmax(-1)
    image = (attention[..., None] * features).sum(1)
    joint = model.classifier[0](model.question_net(output.question) * model.image_net(image))
    torch.testing.assert_close(output.attention, attention)
    torch.testing.assert_close(output.logits, model.classifier[2](F.dropout(joint, 0.5)))


def test_bypass_adds_a_classifier_of_the_question(batch: tuple[Tensor, Tensor, Tensor]) -> None:
    model = small(UpDnBypass)
    assert isinstance(model, UpDnBypass)
    plain = UpDn(SMALL, words=11, answers=4, feature_size=6).double()
    plain.load_state_dict({name: x for name, x in model.state_dict().items() if not name.startswith("bypass.")})
    output, without = model(*batch), plain(*batch)
    assert not torch.equal(output.logits, without.logits)
    first, _, second = model.bypass
    prior = second(first[0](output.question).clamp(min=0))
    torch.testing.assert_close(output.logits, without.logits + prior)
    torch.testing.assert_close(output.attention, without.attention)


def test_importance_does_not_depend_on_the_bypass(batch: tuple[Tensor, Tensor, Tensor]) -> None:
    model = small(UpDnBypass)
    tokens, features, mask = batch
    features.requires_grad_()

    def importance() -> Tensor:
        return torch.autograd.grad(model(tokens, features, mask).logits[:, 1].sum(), features)[0].sum(-1)

    before = importance()
    with torch.no_grad():
        for parameter in model.bypass.parameters():
            parameter.mul_(-3)
    torch.testing.assert_close(importance(), before)

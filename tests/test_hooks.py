"""Proposals from inside of a model have the importance and gradients that they have in an edited model."""

from functools import partial
from typing import Any, NamedTuple

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.modeling_outputs import BaseModelOutput

from hint_loss import double_backward_kernels, proposal_importance, submodule_proposals, track_proposals


class Pair(NamedTuple):
    hidden: Tensor
    other: str


class Wrapped(nn.Module):
    """A layer that returns its output in a container."""

    def __init__(self, layer: nn.Module, kind: str) -> None:
        super().__init__()
        self.layer, self.kind = layer, kind

    def forward(self, x: Tensor) -> Any:
        hidden = self.layer(x)
        return {
            "tuple": (hidden, "x"),
            "named": Pair(hidden, "x"),
            "dict": {0: hidden},
            "tensor": hidden,
            "none": None,
        }[self.kind]


class Net(nn.Module):
    def __init__(self, kind: str = "tensor") -> None:
        super().__init__()
        self.stem = Wrapped(nn.Sequential(nn.Conv2d(3, 6, 3), nn.Tanh()), kind)
        self.head = nn.Sequential(nn.Conv2d(6, 5, 2), nn.Tanh(), nn.Flatten(2))
        self.double()

    def forward(self, images: Tensor) -> Any:
        hidden = self.stem(images)
        return self.head(hidden if isinstance(hidden, Tensor) else hidden[0]).mean(2)


IMAGES = torch.rand(2, 3, 7, 6, dtype=torch.float64)


@pytest.mark.parametrize("kind", ["tensor", "tuple", "named", "dict"])
@pytest.mark.parametrize("reduction", ["sum", "norm"])
@pytest.mark.parametrize("tracked", [True, False])
def test_importance_and_gradients_equal_those_in_an_edited_model(kind: str, reduction: Any, tracked: bool) -> None:
    model = Net(kind)
    options: dict[str, Any] = {"feature_dim": 1, "reduction": reduction}

    def gradients(score: Tensor, proposals: Tensor) -> list[Tensor]:
        alpha = proposal_importance(score, proposals, **options)
        loss = alpha.square().sum() + score.sum()
        return [alpha, *torch.autograd.grad(loss, list(model.parameters()), materialize_grads=True)]

    proposals = model.stem.layer(IMAGES)
    expected = gradients(model.head(proposals).mean(2)[:, 1], proposals)
    track = partial(track_proposals, probes=torch.eye(6), **options) if tracked else (lambda x: x)
    with submodule_proposals(model.stem, track=track) as found:
        score = model(IMAGES)[:, 1]
    torch.testing.assert_close(gradients(score, found[0]), expected, rtol=1e-10, atol=1e-12)


def test_proposals_may_come_from_the_middle_of_a_transformer() -> None:
    layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True, dtype=torch.float64)
    model = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
    with submodule_proposals(model.layers[0]) as found, double_backward_kernels():
        score = model(torch.rand(2, 5, 8, dtype=torch.float64)).tanh()[:, 0, 0]
    alpha = proposal_importance(score, found[0])
    assert alpha.shape == (2, 5)
    alpha.square().sum().backward()
    assert all(parameter.grad is not None for parameter in model.layers[0].parameters())


def test_every_forward_pass_is_found_and_the_hook_is_removed() -> None:
    layer = nn.Linear(3, 3)
    with submodule_proposals(layer) as found:
        assert F.relu(layer(layer(torch.rand(2, 3)))).shape == (2, 3)
        with pytest.raises(RuntimeError), submodule_proposals(layer):
            layer(torch.rand(2, 4))
    assert len(found) == 2
    assert type(layer(torch.rand(2, 3))) is Tensor


@pytest.mark.parametrize("output", [0, -1, "last_hidden_state"])
def test_an_output_of_hugging_face_is_found_by_position_or_name(output: int | str) -> None:
    """What the module itself returned stays as it was."""
    returned: list[BaseModelOutput] = []

    class Backbone(nn.Linear):
        def forward(self, x: Tensor) -> Any:
            returned.append(BaseModelOutput(last_hidden_state=super().forward(x)))
            return returned[-1]

    model = Backbone(3, 3)
    with submodule_proposals(model, output=output) as found:
        result = model(torch.rand(2, 4, 3))
    assert result.last_hidden_state is result["last_hidden_state"] is result[0] is found[0]
    assert type(returned[0].last_hidden_state) is Tensor
    assert proposal_importance(found[0].square().sum((1, 2)), found[0]).shape == (2, 4)


@pytest.mark.parametrize(("kind", "output"), [("tuple", 1), ("tuple", 2), ("dict", "x"), ("none", 0)])
def test_an_output_that_is_no_tensor_raises(kind: str, output: int | str) -> None:
    model = Wrapped(nn.Linear(3, 3), kind)
    type_name = {"none": "NoneType"}.get(kind, kind)
    message = (
        f"Parameter `output` should name a tensor among what Wrapped returns. Found `output = {output!r}` and a "
        f"{type_name} without such a tensor."
    )
    with pytest.raises(TypeError) as error, submodule_proposals(model, output=output):
        model(torch.rand(2, 3))
    assert str(error.value) == message


def test_a_module_that_never_runs_raises(raises: Any) -> None:
    """PyTorch's attention reads the weights of this module, but does not call it."""
    attention = nn.MultiheadAttention(4, 2, batch_first=True)
    message = (
        "Parameter `module` should run within the context. Found a NonDynamicallyQuantizableLinear that did not: call "
        "the model inside of the `with` block, and choose a part whose own `forward` it calls."
    )
    with raises(RuntimeError, message), submodule_proposals(attention.out_proj):
        attention(*[torch.rand(2, 3, 4)] * 3)
    assert not attention.out_proj._forward_hooks


def test_an_output_that_the_model_overwrites_raises(raises: Any) -> None:
    """Its importance would be the importance of the new values. Tracked proposals refuse to be overwritten."""
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(16, 5))
    message = (
        "What Conv2d returned was written over afterwards, so that the importance would be that of what stands there "
        "now: choose the part that wrote as `module`, such as an activation with `inplace=True`, or set that to False."
    )
    with raises(RuntimeError, message), submodule_proposals(model[0], track=lambda x: x):
        model(torch.rand(2, 3, 2, 2))
    with submodule_proposals(model[1], track=lambda x: x) as found:
        score = model(torch.rand(2, 3, 2, 2))[:, 0]
    assert proposal_importance(score, found[0], feature_dim=1).shape == (2, 2, 2)

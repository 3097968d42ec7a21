"""Networks that the tests of the diagnostic examine."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

B, K, D = 2, 5, 8


def score(model: nn.Module, *inputs: Any) -> Tensor:
    outputs: Tensor = model(*inputs)
    return outputs.tanh().flatten(1).sum(1)


class Stash(torch.autograd.Function):
    """The cube of x. A third of its derivative is a detached intermediate, so 2/3 of the second derivative remain."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        ctx.square = (x * x).detach()
        return x * x * x

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return gradient * (ctx.square + 2 * x * x)


cube: Callable[..., Any] = Stash.apply


class Apply(nn.Module):
    """Applies layers, then a function."""

    def __init__(self, function: Callable[..., Any], *layers: nn.Module) -> None:
        super().__init__()
        self.function, self.layers = function, nn.Sequential(*layers)

    def forward(self, *inputs: Any) -> Any:
        return self.function(self.layers(inputs[0]), *inputs[1:])


def encoder(**options: Any) -> nn.Module:
    layer = nn.TransformerEncoderLayer(D, 2, 16, batch_first=True, **options)
    return nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)


def relu_net(*middle: nn.Module) -> nn.Module:
    """It changes tensors in place; biases of zero put padded proposals on every kink."""
    first, second = nn.Linear(D, 64, bias=False), nn.Linear(64, 16)
    nn.init.zeros_(second.bias)
    return nn.Sequential(first, nn.ReLU(inplace=True), second, *middle, nn.ReLU(inplace=True), nn.Linear(16, 3))

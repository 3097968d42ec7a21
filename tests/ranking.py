"""The ranking loss as tests call it."""

from typing import Any

import torch
from torch import Tensor

import hint_loss


def hint_ranking_loss(alpha: Tensor, s: Tensor, **options: Any) -> Tensor:
    """The loss, also of constants, which it refuses while gradients are enabled."""
    with torch.set_grad_enabled(getattr(alpha, "requires_grad", False)):
        return hint_loss.hint_ranking_loss(alpha, s, **options)


def value_and_gradient(loss: Tensor, alpha: Tensor) -> tuple[Tensor, Tensor]:
    """The loss, and the gradient of its sum."""
    (gradient,) = torch.autograd.grad(loss.sum(), alpha)
    return loss.detach(), gradient

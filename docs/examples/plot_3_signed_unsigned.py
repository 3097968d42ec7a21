r"""
Signed or unsigned: how importance is cheated
=============================================

The paper's importance is the *sum* of a proposal's gradient over features. Its terms
can cancel: then the importance of a proposal is zero, and the model depends on it as
before. The *norm* of the gradient is zero only if nothing is left.
"""

# %%
# Two features, one shortcut
# --------------------------
# A wrong proposal has two features, which the score weighs by :math:`w_1` and
# :math:`w_2`. The sum of its gradient is :math:`w_1 + w_2`, the norm :math:`\sqrt{w_1^2
# + w_2^2}`. People say that this proposal does not matter, so the loss pushes its
# importance down. Both start at the same weights.
import matplotlib.pyplot as plt
import torch

from hint_loss import proposal_importance


def descend(reduction: str) -> torch.Tensor:
    """The weights on the way down, (steps, 2)."""
    weights = torch.tensor([1.6, 0.4], requires_grad=True)
    path = []
    for _ in range(40):
        path.append(weights.detach().clone())
        proposal = torch.ones(1, 1, 2, requires_grad=True)
        alpha = proposal_importance(
            (proposal @ weights).sum(1), proposal, reduction=reduction
        )
        (gradient,) = torch.autograd.grad(alpha.abs().sum(), weights)
        weights = (weights - 0.05 * gradient).detach().requires_grad_()
    return torch.stack(path)


# %%
# Under the sum, the weights slide to the line on which they cancel, and stay there: the
# importance is zero, but a change of the proposal by (1, -1) still moves the score.
# Under the norm they go to zero.
x, y = torch.meshgrid(
    torch.linspace(-2, 2, 100), torch.linspace(-2, 2, 100), indexing="xy"
)
figure, axes = plt.subplots(1, 2, figsize=(9, 4.2), layout="constrained", sharey=True)
for ax, reduction, heights in zip(
    axes,
    ("sum", "norm"),
    ((x + y).abs(), (x.square() + y.square()).sqrt()),
    strict=True,
):
    ax.contourf(x, y, heights, levels=20, cmap="Blues")
    path = descend(reduction)
    ax.plot(*path.T, "o-", color="C1", markersize=3)
    ax.plot(
        *path[-1],
        "s",
        color="C3",
        label=f"weights at the end: {path[-1, 0]:.2f}, {path[-1, 1]:.2f}",
    )
    ax.set(
        title=f'reduction="{reduction}"', xlabel="weight of feature 1", aspect="equal"
    )
    ax.legend(loc="lower left")
axes[0].set_ylabel("weight of feature 2")
plt.show()

# %%
# Networks do the same. On Decoy-MNIST a network trained on the sum points at the digit
# in 99.8 % of the test images, while 45 % of its answers still change with the swatch
# in the corner (:ref:`signed or unsigned <unsigned>`). So begin with the norm, and
# measure whether *answers* depend on the wrong evidence:
# :func:`~hint_loss.answer_flips`.

r"""
The gradient of a gradient, seen
================================

The importance of a proposal is a derivative of the score. To train it, one
differentiates that derivative again, this time with respect to the parameters of the
model.
"""

# %%
# A model with one parameter
# --------------------------
# Two proposals of one feature each, and the score :math:`o = \tanh(w\,p_1) + 0.5\,p_2`.
# The importance of the first is :math:`\alpha_1 = w\,(1 - \tanh^2(w\,p_1))`, and of the
# second 0.5. People say that the second matters more.
import matplotlib.pyplot as plt
import torch

from hint_loss import hint_ranking_loss, proposal_importance

proposals = torch.tensor([[[0.5], [1.0]]], requires_grad=True)  # (1, 2, 1)
s = torch.tensor([[0.1, 0.9]])


def loss_at(w: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The importance (1, 2) and the ranking loss of the model with the parameter w."""
    score = torch.tanh(w * proposals[:, 0, 0]) + 0.5 * proposals[:, 1, 0]
    alpha = proposal_importance(score, proposals)
    return alpha, hint_ranking_loss(alpha, s)


# %%
# The loss has a slope in w
# -------------------------
# ``backward`` gives its derivative: the second derivative :math:`\partial^2 o /
# \partial p_1 \partial w`. Finite differences agree.
w = torch.tensor(1.0, requires_grad=True)
alpha, loss = loss_at(w)
loss.backward()
step = 1e-3
difference = (loss_at(w + step)[1] - loss_at(w - step)[1]) / (2 * step)
print(f"importance {alpha[0].tolist()}, loss {loss:.4f}")
print(f"derivative {w.grad:.4f}, by finite differences {difference:.4f}")

# %%
# Gradient descent on w follows that slope until the importances are in the right order.
# Where they are, the loss is zero: it asks for an order, not for values.
grid = torch.linspace(-1.0, 3.0, 200)
curves = [loss_at(x.requires_grad_()) for x in grid.unbind()]
path = [torch.tensor(1.3, requires_grad=True)]
for _ in range(15):
    loss_at(path[-1])[1].backward()
    path.append((path[-1] - 0.8 * path[-1].grad).detach().requires_grad_())

figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
left.plot(
    grid.detach(), [alpha[0, 0].item() for alpha, _ in curves], label="first proposal"
)
left.plot(
    grid.detach(),
    [alpha[0, 1].item() for alpha, _ in curves],
    label="second, which people look at",
)
left.set(xlabel="w", title="importance")
left.legend()
right.plot(grid.detach(), [loss.item() for _, loss in curves], color="C2")
right.plot(
    [w.item() for w in path],
    [loss_at(w)[1].item() for w in path],
    "o-",
    color="C3",
    label="gradient descent",
)
right.set(xlabel="w", title="ranking loss")
right.legend()
plt.show()

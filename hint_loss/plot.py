"""Draw importances over an image. Needs matplotlib: ``pip install hint-loss[plot]``; nothing else here imports it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from hint_loss._checks import check_tensors

if TYPE_CHECKING:
    from matplotlib.axes import Axes

OUTLINE = "#ff2d95"  # pink, which photographs have little of


def importance_map(boxes: Tensor, importance: Tensor, image_size: tuple[int, int]) -> Tensor:
    """A heat map of an image: each pixel has the importance of the most important proposal that covers it.

    Args:
        boxes: ``(K, 4)`` corners ``x1, y1, x2, y2`` in pixels. Parts outside of the image are cut off.
        importance: ``(K,)`` network or human importance. Negative values and NaN count as 0.
        image_size: ``(height, width)`` in pixels.

    Returns:
        ``(height, width)`` in [0, 1], float32 on the CPU: relative to the largest importance, or 0 if none is positive.

    Raises:
        ValueError: Shapes do not match.
        TypeError: An argument is not a tensor.

    Example:
        >>> from hint_loss.plot import importance_map
        >>> importance_map(torch.tensor([[0, 0, 2, 1], [1, 0, 3, 2]]), torch.tensor([1.0, 2.0]), (2, 3))
        tensor([[0.5000, 1.0000, 1.0000],
                [0.0000, 1.0000, 1.0000]])
    """
    check_tensors(boxes=boxes, importance=importance)
    if boxes.shape != (*importance.shape, 4) or importance.dim() != 1:
        raise ValueError(
            "Parameters `boxes` and `importance` should have shapes (K, 4) and (K,), of one image. "
            f"Found `boxes.shape = {tuple(boxes.shape)}` and `importance.shape = {tuple(importance.shape)}`."
        )
    heat = torch.zeros(image_size)
    values = importance.detach().float().nan_to_num(0.0).clamp(min=0).cpu()
    corners = torch.cat([boxes[:, :2].floor(), boxes[:, 2:].ceil()], 1).clamp(min=0).int().cpu()
    for k in values.argsort().tolist():  # the most important proposal is drawn last
        x1, y1, x2, y2 = corners[k].tolist()
        heat[y1:y2, x1:x2] = values[k]
    return heat / heat.max() if heat.any() else heat


def draw_importance(
    axes: Axes, image: Any, boxes: Tensor, importance: Tensor, *, tint: float = 0.35, colour: str = "orange"
) -> None:
    """Draw an image that is pale grey where nothing is important, and in its own colours, with a tint, where it is.

    The most important proposal is outlined, unless several tie for the first place.

    Args:
        axes: matplotlib axes to draw into.
        image: picture as a PIL image, or an array or tensor ``(H, W)`` or ``(H, W, 3)`` of bytes, or of numbers in
            [0, 1].
        boxes: ``(K, 4)`` corners in pixels of the image; :func:`~hint_loss.grid_boxes` makes those of patches.
        importance: ``(K,)`` network or human importance.
        tint: share of the tint where the importance is largest.
        colour: the tint, as any colour of matplotlib.

    Raises:
        ImportError: matplotlib is not installed.
        ValueError: As :func:`importance_map`, or ``image`` is not a picture.

    Example:
        >>> import matplotlib.pyplot as plt
        >>> from hint_loss import grid_boxes
        >>> from hint_loss.plot import draw_importance
        >>> figure, axes = plt.subplots()
        >>> draw_importance(axes, torch.rand(32, 32, 3), grid_boxes(4, 4, image_size=(32, 32)), torch.rand(16))
    """
    import numpy as np
    from matplotlib.colors import to_rgb
    from matplotlib.patches import Rectangle

    pixels = np.asarray(image.detach().cpu() if isinstance(image, Tensor) else image)
    if pixels.ndim not in (2, 3) or (pixels.ndim == 3 and pixels.shape[2] not in (1, 3, 4)):
        raise ValueError(f"Parameter `image` should be a picture (H, W) or (H, W, 3). Found the shape {pixels.shape}.")
    pixels = pixels / 255 if pixels.dtype == np.uint8 else pixels.astype(np.float64)
    pixels = pixels[..., None] if pixels.ndim == 2 else pixels[..., :3]
    grey = pixels.mean(2, keepdims=True)
    heat = importance_map(boxes, importance, grey.shape[:2]).numpy()[..., None]
    tinted = (1 - tint) * pixels + tint * np.array(to_rgb(colour))
    axes.imshow(((1 - heat) * (0.4 + 0.6 * grey) + heat * tinted).clip(0, 1))  # rounding may exceed 1
    first = (importance == importance.max()).nonzero()[:, 0].tolist()
    if len(first) == 1:
        x1, y1, x2, y2 = boxes[first[0]].tolist()
        axes.add_patch(Rectangle((x1 - 0.5, y1 - 0.5), x2 - x1, y2 - y1, fill=False, edgecolor=OUTLINE, linewidth=2))
    axes.set_axis_off()

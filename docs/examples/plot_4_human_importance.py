"""
From gaze, masks, boxes or words to human importance
====================================================

Whatever your people left behind, the library makes one number of it for each proposal:
how dense their attention is inside the proposal's box, compared with outside. Here are
four kinds of hints on the same picture.
"""

# %%
import matplotlib.pyplot as plt
import torch
from matplotlib.patches import Rectangle

from hint_loss import (
    grid_boxes,
    human_importance,
    human_importance_from_boxes,
    human_importance_from_points,
)
from hint_loss.plot import draw_importance
from scenes import GRID, SHAPES, SIZE, make_scenes

scene = make_scenes(1, shortcut=1.0, seed=5)
picture, mask = scene.images[0].permute(1, 2, 0), scene.shape_mask[0]
boxes = grid_boxes(2 * GRID, 2 * GRID, image_size=(SIZE, SIZE))  # 64 proposals
rows, columns = mask.nonzero().T
centre = torch.stack([columns, rows], 1).double().mean(0)

# %%
# **An attention map or a segmentation mask** (VQA-HAT, COCO). Any resolution will do:
# give ``image_size``, if the map has another one than the image.
from_mask = human_importance(mask, boxes, image_size=(SIZE, SIZE))

# %%
# **Gaze points or clicks** (SALICON), each with its duration. ``sigma`` is the
# precision of the eye tracker.
fixations = centre + 3 * torch.randn(12, 2, generator=torch.Generator().manual_seed(0))
durations = torch.rand(12)
from_gaze = human_importance_from_points(
    fixations, boxes, image_size=(SIZE, SIZE), weights=durations, sigma=3.0
)

# %%
# **Boxes that people drew** (GQA, VCR).
drawn = torch.stack([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])[
    None
].double()
from_boxes = human_importance_from_boxes(drawn, boxes, image_size=(SIZE, SIZE))

# %%
# **Words** (VQA-X, captions). Which proposals does the explanation name? If your
# proposals have class names, that is a comparison of strings, and a boolean ``s`` is
# all that the loss needs.
explanation = f"there is a dark {SHAPES[scene.labels[0]]} in front of the noise".split()
names = [
    SHAPES[scene.labels[0]] if inside else "noise floor"
    for inside in (from_mask > 0.6).tolist()
]
from_words = torch.tensor([name in explanation for name in names])

# %%
# All four say much the same. What differs is how sure they are of the neighbours.
figure, axes = plt.subplots(1, 5, figsize=(10, 2.4), layout="constrained")
axes[0].imshow(picture)
axes[0].set(title="the picture", xticks=[], yticks=[])
kinds = {
    "mask": from_mask,
    "gaze": from_gaze,
    "drawn box": from_boxes,
    "words": from_words.float(),
}
for ax, (name, s) in zip(axes[1:], kinds.items(), strict=True):
    draw_importance(ax, picture, boxes, s)
    ax.set_title(name)
axes[2].scatter(*fixations.T - 0.5, s=60 * durations, color="C3")
x1, y1, x2, y2 = drawn[0].tolist()
axes[3].add_patch(
    Rectangle((x1 - 0.5, y1 - 0.5), x2 - x1, y2 - y1, fill=False, edgecolor="C3")
)
plt.show()

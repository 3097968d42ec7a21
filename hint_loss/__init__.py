"""Teach a network to look where people look: the HINT loss ("Taking a HINT", Selvaraju et al., ICCV 2019).

Any model that computes a score from proposals (image regions, patches, feature map cells) will do. Its *network
importance* is the gradient of the score with respect to the proposals; *human importance* says how much people looked
at each. The loss asks the first to rank proposals as the second does, beside the task loss.

>>> import torch
>>> from hint_loss import HintRankingLoss, human_importance, proposal_importance
>>> _ = torch.manual_seed(0)
>>> class Model(torch.nn.Module):
...     def __init__(self):
...         super().__init__()
...         self.attention, self.answer = torch.nn.Linear(8, 1), torch.nn.Linear(8, 5)
...     def forward(self, proposals):  # (B, K, 8) -> (B, 5)
...         weights = self.attention(proposals).softmax(1)
...         return self.answer((weights * proposals).sum(1).relu())
>>> model = Model()
>>> proposals = torch.randn(2, 3, 8, requires_grad=True)
>>> answers = torch.tensor([1, 4])

Where did people look? Attention maps and boxes give one number in [0, 1] for each proposal:

>>> attention_maps = torch.rand(2, 32, 32)
>>> boxes = torch.tensor([[0.0, 0.0, 8.0, 8.0], [8.0, 4.0, 20.0, 20.0], [16.0, 16.0, 32.0, 32.0]]).expand(2, 3, 4)
>>> s = human_importance(attention_maps, boxes)  # (B, K)

Where does the network look, and does it rank the same?

>>> logits = model(proposals)
>>> score = logits.gather(1, answers[:, None]).squeeze(1)  # the ground truth's logit, (B,)
>>> alpha = proposal_importance(score, proposals)  # (B, K), differentiable
>>> loss = HintRankingLoss()(alpha, s) + torch.nn.functional.cross_entropy(logits, answers)
>>> loss.backward()  # a second-order step
>>> model.attention.weight.grad is not None
True
"""

from hint_loss.diagnostics import DoubleBackwardReport, TrackingReport, check_double_backward, tracking_report
from hint_loss.functional import importance_and_output
from hint_loss.hinted import forward_hinted
from hint_loss.hooks import submodule_proposals
from hint_loss.human import (
    grid_boxes,
    human_importance,
    human_importance_from_boxes,
    human_importance_from_points,
    two_level,
)
from hint_loss.importance import proposal_importance
from hint_loss.kernels import double_backward_kernels
from hint_loss.metrics import pointing_game, rank_correlation
from hint_loss.ranking import HintRankingLoss, hint_pairs, hint_ranking_loss
from hint_loss.reliance import answer_flips
from hint_loss.tracking import TrackedProposals, track_proposals

__all__ = [
    "DoubleBackwardReport",
    "HintRankingLoss",
    "TrackedProposals",
    "TrackingReport",
    "answer_flips",
    "check_double_backward",
    "double_backward_kernels",
    "forward_hinted",
    "grid_boxes",
    "hint_pairs",
    "hint_ranking_loss",
    "human_importance",
    "human_importance_from_boxes",
    "human_importance_from_points",
    "importance_and_output",
    "pointing_game",
    "proposal_importance",
    "rank_correlation",
    "submodule_proposals",
    "track_proposals",
    "tracking_report",
    "two_level",
]
__version__ = "0.1.0"

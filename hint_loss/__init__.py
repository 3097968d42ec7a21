"""Teach a network to look where people look: the HINT loss ("Taking a HINT", Selvaraju et al., ICCV 2019).

Any model that computes a score from proposals (image regions, patches, feature map cells) will do. Its *network
importance* is the gradient of the score with respect to the proposals; *human importance* says how much people looked
at each. The loss asks the first to rank proposals as the second does, beside the task loss. See
:func:`~hint_loss.proposal_importance` and :class:`~hint_loss.HintRankingLoss`.
"""

from hint_loss.diagnostics import DoubleBackwardReport, TrackingReport, check_double_backward, tracking_report
from hint_loss.human import (
    grid_boxes,
    human_importance,
    human_importance_from_boxes,
    human_importance_from_points,
    two_level,
)
from hint_loss.importance import proposal_importance
from hint_loss.metrics import pointing_game, rank_correlation
from hint_loss.ranking import HintRankingLoss, hint_pairs, hint_ranking_loss
from hint_loss.reliance import answer_flips
from hint_loss.second_order.functional import importance_and_output
from hint_loss.second_order.hinted import forward_hinted
from hint_loss.second_order.hooks import submodule_proposals
from hint_loss.second_order.kernels import double_backward_kernels
from hint_loss.second_order.tracking import TrackedProposals, track_proposals

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

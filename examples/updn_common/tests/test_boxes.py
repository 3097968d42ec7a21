import torch

from updn_common.proposals.boxes import relevant_proposals


def test_relevant_proposals_overlap_by_more_than_half() -> None:
    truth = torch.tensor([[0.0, 0.0, 10.0, 10.0], [20.0, 20.0, 30.0, 30.0]])
    boxes = torch.tensor(
        [[0, 0, 10, 5], [0, 0, 10, 5.1], [21, 20, 31, 30], [0, 0, 30, 30], [10, 10, 20, 20], [0, 0, 0, 0]]
    )
    assert relevant_proposals(boxes, truth).tolist() == [False, True, True, False, False, False]

"""The network: shapes, padding, a batch of one, and the fusion's transcription."""

import pytest
import torch

from updn_vqa.networks.layers import NetworkSizes
from updn_vqa.networks.updn import UpDn

SIZES = NetworkSizes(embedding=5, hidden=7, attention_dropout=0.0, classifier_dropout=0.0)


@pytest.fixture
def model() -> UpDn:
    torch.manual_seed(0)
    return UpDn(SIZES, words=11, answers=4, feature_size=6).double()


TOKENS = torch.tensor([[0, 3, 4], [5, 6, 1]])
FEATURES = torch.rand(2, 3, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
MASK = torch.tensor([[True, True, True], [True, True, False]])


def test_a_layer_by_layer_transcription(model: UpDn) -> None:
    def layer(module: torch.nn.Module, x: torch.Tensor) -> torch.Tensor:
        linear = module[0] if isinstance(module, torch.nn.Sequential) else module
        g, v = linear.parametrizations.weight.original0, linear.parametrizations.weight.original1
        y = x @ (g * v / v.norm()).T + linear.bias
        return y.relu() if isinstance(module, torch.nn.Sequential) else y

    output = model(TOKENS, FEATURES, MASK)
    for i in range(2):
        hidden = model.gru(model.embedding(TOKENS[i : i + 1]))[1][0, 0]
        scores = [
            layer(model.attend_logit, layer(model.attend_proposal, p) * layer(model.attend_question, hidden))
            for p in FEATURES[i][MASK[i]]
        ]
        weights = torch.cat(scores).softmax(0)
        image = (weights[:, None] * FEATURES[i][MASK[i]]).sum(0)
        joint = layer(model.question_net, hidden) * layer(model.image_net, image)
        logits = layer(model.classifier[2], layer(model.classifier[0], joint))
        torch.testing.assert_close(output.logits[i], logits)
        torch.testing.assert_close(output.attention[i][MASK[i]], weights)


def test_padding_changes_nothing(model: UpDn) -> None:
    padded = torch.cat([FEATURES, torch.full((2, 2, 6), 1e3, dtype=torch.float64)], 1)
    mask = torch.cat([MASK, torch.zeros(2, 2, dtype=torch.bool)], 1)
    torch.testing.assert_close(model(TOKENS, padded, mask).logits, model(TOKENS, FEATURES, MASK).logits)
    assert (model(TOKENS, padded, mask).attention[:, 3:] == 0).all()


def test_a_batch_of_one_is_a_batch(model: UpDn) -> None:
    whole = model(TOKENS, FEATURES, MASK).logits
    torch.testing.assert_close(model(TOKENS[:1], FEATURES[:1], MASK[:1]).logits, whole[:1])


def test_gated_tanh() -> None:
    torch.manual_seed(0)
    model = UpDn(NetworkSizes(embedding=5, hidden=7, activation="gated"), words=11, answers=4, feature_size=6)
    gated, x = model.image_net, torch.randn(3, 6)
    expected = torch.tanh(gated.value(x)) * torch.sigmoid(gated.gate(x))
    torch.testing.assert_close(gated(x), expected)
    assert model(TOKENS, FEATURES.float(), MASK).logits.shape == (2, 4)

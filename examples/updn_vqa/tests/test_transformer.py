"""The Transformer against torch's encoder."""

import torch
from torch import nn

from updn_vqa.networks.layers import NetworkSizes
from updn_vqa.networks.question import encode_question
from updn_vqa.networks.transformer import HEADS, Transformer

SIZES = NetworkSizes("transformer", embedding=5, hidden=8, attention_dropout=0.0, classifier_dropout=0.0)
TOKENS = torch.tensor([[0, 3, 4], [5, 6, 1]])
MASK = torch.tensor([[True, True, True], [True, False, True]])


def test_the_layers_equal_torch_s_encoder() -> None:
    torch.manual_seed(0)
    model = Transformer(SIZES, words=11, answers=4, feature_size=6).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn_like(parameter))  # norms and biases too
    features = torch.rand(2, 3, 6, dtype=torch.float64)

    question = encode_question(model.gru, model.embedding, TOKENS)
    stream = torch.cat([(question + model.kind)[:, None], model.project(features)], 1)
    padding = torch.cat([torch.zeros(2, 1, dtype=torch.bool), ~MASK], 1)
    for ours in model.layers:
        layer = nn.TransformerEncoderLayer(8, HEADS, 32, 0.0, batch_first=True, norm_first=True).double()
        state = {
            "self_attn.in_proj": ours.query_key_value,
            "self_attn.out_proj": ours.output,
            "linear1": ours.each[0],
            "linear2": ours.each[2],
            "norm1": ours.norm_attention,
            "norm2": ours.norm_each,
        }
        separator = {"self_attn.in_proj": "_"}
        for name, part in state.items():
            for kind in ("weight", "bias"):
                layer.get_parameter(f"{name}{separator.get(name, '.')}{kind}").data.copy_(getattr(part, kind))
        normed = layer.norm1(stream)
        _, weights = layer.self_attn(normed, normed, normed, key_padding_mask=padding)  # the mean over heads
        stream = layer(stream, src_key_padding_mask=padding)

    output = model(TOKENS, features, MASK)
    torch.testing.assert_close(output.logits, model.classifier(stream[:, 0]))
    attention = weights[:, 0, 1:]
    torch.testing.assert_close(output.attention, attention / attention.sum(1, keepdim=True))

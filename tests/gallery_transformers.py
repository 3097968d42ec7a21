"""The gallery's models from transformers, with small configurations: nothing is downloaded. See `gallery.py`."""

import warnings
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_map

from hint_loss import double_backward_kernels

from .gallery import B, D, Example, K, T, Track
from .networks import ANSWERS, WORDS, H

SMALL = {"hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16}
VISION = SMALL | {"image_size": 8, "patch_size": 4}


def vit() -> Example:
    """ViT: pixels, whose importances add up to the importances of their patches; the logit of a class."""
    transformers = pytest.importorskip("transformers", minversion="5.23")
    model = transformers.ViTForImageClassification(transformers.ViTConfig(**VISION, num_labels=ANSWERS)).eval()
    images = torch.rand(B, 3, 8, 8)

    def forward(track: Track) -> tuple[Tensor, Tensor]:
        pixels = track(images)
        with double_backward_kernels():
            return model(pixels).logits, pixels

    return Example(model, forward, feature_dim=1, lazy={"conv2d"})


def clip() -> Example:
    """CLIP: the input of the last layer's attention, class token first; the similarity with one of the texts.

    Each layer begins with a LayerNorm, which removes whatever is added to all features of a patch alike: the importance
    of its input would be zero, so its output is taken.
    """
    transformers = pytest.importorskip("transformers", minversion="5.23")
    words = {"vocab_size": WORDS, "max_position_embeddings": T, "bos_token_id": 0, "eos_token_id": WORDS - 1}
    config = transformers.CLIPConfig(text_config=SMALL | words, vision_config=VISION, projection_dim=H)
    model, images = transformers.CLIPModel(config).eval(), torch.rand(B, 3, 8, 8)
    texts = torch.randint(1, WORDS - 1, (ANSWERS, T))

    def forward(track: Track) -> tuple[Tensor, Tensor]:
        tokens: list[Tensor] = []

        def hook(module: nn.Module, args: Any, output: Tensor) -> Tensor:
            tokens.append(track(output))
            return tokens[0]

        layer = model.vision_model.encoder.layers[-1].layer_norm1
        with double_backward_kernels(), layer.register_forward_hook(hook):
            return model(texts, images).logits_per_image, tokens[0]

    return Example(model, forward, lazy={"linear"})


def lxmert() -> Example:
    """LXMERT: region features; the logit of an answer."""
    transformers = pytest.importorskip("transformers", minversion="5.23")
    layers = {"l_layers": 1, "x_layers": 1, "r_layers": 1, "visual_feat_dim": D, "vocab_size": WORDS}
    config = transformers.LxmertConfig(**SMALL, **layers, num_qa_labels=ANSWERS)
    model, boxes = transformers.LxmertForQuestionAnswering(config).eval(), torch.rand(B, K, 4)
    features, words = torch.rand(B, K, D), torch.randint(WORDS, (B, T))

    def forward(track: Track) -> tuple[Tensor, Tensor]:
        proposals = track(features)
        return model(words, proposals, boxes).question_answering_score, proposals

    return Example(model, forward, lazy={"linear"})


def visual_bert() -> Example:
    """VisualBERT: region features; the logit of an answer."""
    transformers = pytest.importorskip("transformers", minversion="5.23")
    config = transformers.VisualBertConfig(**SMALL, vocab_size=WORDS, visual_embedding_dim=D, num_labels=ANSWERS)
    model = transformers.VisualBertForQuestionAnswering(config).eval()
    features, words = torch.rand(B, K, D), torch.randint(WORDS, (B, T))

    def forward(track: Track) -> tuple[Tensor, Tensor]:
        proposals = track(features)
        with double_backward_kernels():
            return model(words, attention_mask=torch.ones_like(words), visual_embeds=proposals).logits, proposals

    return Example(model, forward, lazy={"linear"})


def small_vilt() -> tuple[Any, Tensor, Tensor]:
    transformers = pytest.importorskip("transformers", minversion="5.23")
    config = transformers.ViltConfig(**VISION, vocab_size=WORDS, max_position_embeddings=T, num_labels=ANSWERS)
    model = transformers.ViltForQuestionAnswering(config).eval()
    return model, torch.rand(B, 3, 8, 8), torch.randint(WORDS, (B, T))


def vilt_pixels() -> Example:
    """ViLT: pixels, as for `vit`; the logit of an answer."""
    model, images, words = small_vilt()

    def forward(track: Track) -> tuple[Tensor, Tensor]:
        pixels = track(images)
        return model(words, pixel_values=pixels).logits, pixels

    return Example(model, forward, feature_dim=1, lazy={"conv2d"})


def vilt_patches() -> Example:
    """ViLT: patch embeddings, class token first; the logit of an answer. With the sum, zero: see `clip`."""
    model, images, words = small_vilt()

    def forward(track: Track) -> tuple[Tensor, Tensor]:
        embeddings, mask, _ = model.vilt.embeddings.visual_embed(images, torch.ones(B, 8, 8))
        patches = track(embeddings)
        return model(words, image_embeds=patches, pixel_mask=mask).logits, patches

    return Example(model, forward, lazy={"add", "cat"}, plain={"layer_norm"}, vanishes="sum")


class Context(TorchFunctionMode):
    """The context of the forward pass, and of a checkpoint that repeats it.

    It selects kernels, and computes in float64 what models compute in float32 on purpose, such as a norm.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        args, kwargs = tree_map(lambda x: torch.float64 if x is torch.float32 else x, (args, kwargs or {}))
        with double_backward_kernels():
            return (Tensor.double if func is Tensor.float else func)(*args, **kwargs)


def adapted(model: Any, **options: Any) -> Any:
    """The model in training mode, with adapters on the language model and with checkpoints."""
    peft = pytest.importorskip("peft")
    lora = peft.LoraConfig(r=2, target_modules=r".*language_model.*\.[qv]_proj", **options)
    model.activation_checkpointing_enable(
        activation_checkpointing_kwargs={"use_reentrant": False, "context_fn": lambda: (Context(), Context())}
    )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)  # peft reads it
        return peft.get_peft_model(model, lora).train()


def llava() -> Example:
    """LLaVA, with LoRA and checkpoints: the patches that the projector reads; the logit of the next word."""
    transformers = pytest.importorskip("transformers", minversion="5.23")
    language = {"model_type": "llama", **SMALL, "vocab_size": WORDS, "num_key_value_heads": 1, "use_cache": False}
    config = transformers.LlavaConfig(
        vision_config={"model_type": "clip_vision_model", **VISION},
        text_config=language | {"pad_token_id": 0},
        image_token_index=WORDS - 1,
        image_seq_length=4,
    )
    model = adapted(transformers.LlavaForConditionalGeneration(config), modules_to_save=["multi_modal_projector"])
    images = torch.rand(B, 3, 8, 8)
    words = torch.cat([torch.full((B, 4), WORDS - 1), torch.randint(1, WORDS - 1, (B, T))], 1)

    def forward(track: Track) -> tuple[Tensor, Tensor]:
        patches: list[Tensor] = []

        def hook(module: nn.Module, args: Any) -> Any:
            patches.append(track(*args))
            return tuple(patches)

        projector = model.get_submodule("base_model.model.model.multi_modal_projector")
        with Context(), projector.register_forward_pre_hook(hook):
            return model(input_ids=words, pixel_values=images).logits[:, -1], patches[0]

    return Example(model, forward, lazy={"linear"})


def qwen() -> Example:
    """Qwen2.5-VL, with LoRA and checkpoints: embeddings of image tokens between words; the logit of the next word."""
    transformers = pytest.importorskip("transformers", minversion="5.23")
    language = {**SMALL, "vocab_size": WORDS, "num_key_value_heads": 1, "use_cache": False, "pad_token_id": 0}
    vision = {"depth": 1, "hidden_size": 8, "num_heads": 1, "intermediate_size": 8, "out_hidden_size": 8}
    rope = {"rope_type": "default", "mrope_section": [1, 1, 0]}
    config = transformers.Qwen2_5_VLConfig(
        text_config=language | {"rope_parameters": rope, "bos_token_id": 0, "eos_token_id": 0}, vision_config=vision
    )
    model = adapted(transformers.Qwen2_5_VLForConditionalGeneration(config))
    embed = model.get_input_embeddings()
    words, features = torch.randint(WORDS, (B, T)), torch.rand(B, K, 8)

    def forward(track: Track) -> tuple[Tensor, Tensor]:
        tokens = track(features)
        with Context():
            embeddings = torch.cat([embed(words[:, :1]), tokens, embed(words[:, 1:])], 1)
            return model(inputs_embeds=embeddings).logits[:, -1], tokens

    return Example(model, forward, lazy={"cat"}, plain={"pow"})


GALLERY = [
    vit,
    clip,
    lxmert,
    visual_bert,
    vilt_pixels,
    vilt_patches,
    llava,
    qwen,
]

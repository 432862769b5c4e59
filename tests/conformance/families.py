"""Small models of every family that the graph has to understand, with random weights, and the kinds of axes that each must offer."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tests.conformance.modules import Dense, GroupNormalised, Recurrent, ResNet20, SqueezeExcitation

__all__ = ["FAMILIES", "Case", "Family", "build"]

Case = tuple[nn.Module, dict[str, Tensor]]


def resnet20() -> Case:
    return ResNet20(), {"x": torch.randn(2, 3, 32, 32)}


def plain_cnn() -> Case:
    model = nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(8, 12, 3, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(12 * 16, 24),
        nn.ReLU(),
        nn.Dropout(0.1),
        nn.Linear(24, 10),
    )
    return model, {"input": torch.randn(2, 1, 8, 8)}


def mlp() -> Case:
    return nn.Sequential(nn.Linear(20, 32), nn.GELU(), nn.Linear(32, 16), nn.ReLU(), nn.Linear(16, 4)), {"input": torch.randn(3, 20)}


def _text(vocabulary: int = 60) -> dict[str, Tensor]:
    return {"input_ids": torch.randint(2, vocabulary, (2, 10)), "attention_mask": torch.ones(2, 10, dtype=torch.long)}


def bert() -> Case:
    from transformers import BertConfig, BertForSequenceClassification

    config = BertConfig(
        vocab_size=60, hidden_size=48, num_hidden_layers=2, num_attention_heads=4, intermediate_size=96, max_position_embeddings=40, num_labels=5
    )
    return BertForSequenceClassification(config), _text()


def distilbert() -> Case:
    from transformers import DistilBertConfig, DistilBertForSequenceClassification

    config = DistilBertConfig(vocab_size=60, dim=48, n_layers=2, n_heads=4, hidden_dim=96, max_position_embeddings=40, num_labels=5)
    return DistilBertForSequenceClassification(config), _text()


def llama() -> Case:
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=64,
        hidden_size=32,
        intermediate_size=56,
        num_hidden_layers=2,
        num_attention_heads=8,
        num_key_value_heads=4,
        max_position_embeddings=64,
        tie_word_embeddings=True,
        use_cache=False,
    )
    return LlamaForCausalLM(config), _text()


def gpt2() -> Case:
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(vocab_size=64, n_embd=32, n_layer=2, n_head=4, n_positions=40, bos_token_id=0, eos_token_id=0, use_cache=False)
    return GPT2LMHeadModel(config), _text()


def vit() -> Case:
    from transformers import ViTConfig, ViTForImageClassification

    config = ViTConfig(hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64, image_size=32, patch_size=8, num_labels=5)
    return ViTForImageClassification(config), {"pixel_values": torch.randn(2, 3, 32, 32)}


def bottleneck_resnet() -> Case:
    from transformers import ResNetConfig, ResNetForImageClassification

    config = ResNetConfig(embedding_size=8, hidden_sizes=[16, 32], depths=[3, 3], layer_type="bottleneck", num_labels=5)
    return ResNetForImageClassification(config), {"pixel_values": torch.randn(2, 3, 64, 64)}


def mobilenet() -> Case:
    from transformers import MobileNetV2Config, MobileNetV2ForImageClassification

    return MobileNetV2ForImageClassification(MobileNetV2Config(image_size=64, depth_multiplier=0.35, num_labels=5)), {"pixel_values": torch.randn(2, 3, 64, 64)}


def squeeze_excitation() -> Case:
    return SqueezeExcitation(), {"x": torch.randn(2, 3, 32, 32)}


def dense() -> Case:
    return Dense(), {"x": torch.randn(2, 3, 16, 16)}


def roberta() -> Case:
    from transformers import RobertaConfig, RobertaForSequenceClassification

    config = RobertaConfig(
        vocab_size=60, hidden_size=48, num_hidden_layers=2, num_attention_heads=4, intermediate_size=96, max_position_embeddings=40, num_labels=5
    )
    return RobertaForSequenceClassification(config), _text()


def albert() -> Case:
    """One layer, used twice."""
    from transformers import AlbertConfig, AlbertForSequenceClassification

    config = AlbertConfig(
        vocab_size=60,
        embedding_size=24,
        hidden_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=96,
        max_position_embeddings=40,
        num_labels=5,
    )
    return AlbertForSequenceClassification(config), _text()


def deit() -> Case:
    from transformers import DeiTConfig, DeiTForImageClassification

    config = DeiTConfig(hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64, image_size=32, patch_size=8, num_labels=5)
    return DeiTForImageClassification(config), {"pixel_values": torch.randn(2, 3, 32, 32)}


def swin() -> Case:
    """Shifted windows, relative position bias, merging of patches."""
    from transformers import SwinConfig, SwinForImageClassification

    config = SwinConfig(image_size=32, patch_size=2, embed_dim=16, depths=[2, 2], num_heads=[2, 4], window_size=4, num_labels=5)
    return SwinForImageClassification(config), {"pixel_values": torch.randn(2, 3, 32, 32)}


def basic_resnet() -> Case:
    from transformers import ResNetConfig, ResNetForImageClassification

    config = ResNetConfig(embedding_size=8, hidden_sizes=[16, 32], depths=[3, 3], layer_type="basic", num_labels=5)
    return ResNetForImageClassification(config), {"pixel_values": torch.randn(2, 3, 64, 64)}


def efficientnet() -> Case:
    """Depthwise convolutions with squeeze and excitation."""
    from transformers import EfficientNetConfig, EfficientNetForImageClassification

    config = EfficientNetConfig(
        image_size=64,
        width_coefficient=1.0,
        depth_coefficient=1.0,
        hidden_dim=1280,
        depth_divisor=8,
        kernel_sizes=[3, 3, 5],
        in_channels=[32, 16, 24],
        out_channels=[16, 24, 40],
        strides=[1, 2, 2],
        num_block_repeats=[1, 2, 3],
        expand_ratios=[1, 4, 4],
        num_hidden_layers=6,
        num_labels=5,
    )
    return EfficientNetForImageClassification(config), {"pixel_values": torch.randn(2, 3, 64, 64)}


def convnextv2() -> Case:
    """Depthwise convolutions, layer norm over channels, global response normalisation."""
    from transformers import ConvNextV2Config, ConvNextV2ForImageClassification

    config = ConvNextV2Config(hidden_sizes=[16, 24], depths=[2, 2], num_stages=2, num_labels=5)
    return ConvNextV2ForImageClassification(config), {"pixel_values": torch.randn(2, 3, 32, 32)}


_DECODER = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 56,
    "num_hidden_layers": 2,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "max_position_embeddings": 64,
    "use_cache": False,
}


def qwen3() -> Case:
    """Norms over the size of a head."""
    from transformers import Qwen3Config, Qwen3ForCausalLM

    return Qwen3ForCausalLM(Qwen3Config(**_DECODER, head_dim=8)), _text()


def glm() -> Case:
    """Gate and up projection in one weight."""
    from transformers import GlmConfig, GlmForCausalLM

    return GlmForCausalLM(GlmConfig(**_DECODER, head_dim=8, pad_token_id=0, eos_token_id=1)), _text()


def mistral() -> Case:
    from transformers import MistralConfig, MistralForCausalLM

    return MistralForCausalLM(MistralConfig(**_DECODER)), _text()


def t5() -> Case:
    """Encoder and decoder; relative position bias of the first block serves all."""
    from transformers import T5Config, T5ForConditionalGeneration

    config = T5Config(vocab_size=64, d_model=32, d_kv=8, d_ff=64, num_layers=3, num_heads=4, decoder_start_token_id=0, use_cache=False)
    return T5ForConditionalGeneration(config), {**_text(), "decoder_input_ids": torch.randint(2, 60, (2, 7))}


def whisper_encoder() -> Case:
    from transformers import WhisperConfig
    from transformers.models.whisper.modeling_whisper import WhisperEncoder

    config = WhisperConfig(d_model=32, encoder_layers=2, encoder_attention_heads=4, encoder_ffn_dim=64, num_mel_bins=16, max_source_positions=50)
    return WhisperEncoder(config), {"input_features": torch.randn(2, 16, 100)}


def clip_vision() -> Case:
    from transformers import CLIPConfig, CLIPForImageClassification

    vision = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64, "image_size": 32, "patch_size": 8}
    text = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8, "vocab_size": 20}
    return CLIPForImageClassification(CLIPConfig(vision_config=vision, text_config=text, num_labels=5)), {"pixel_values": torch.randn(2, 3, 32, 32)}


def lstm() -> Case:
    return Recurrent(nn.LSTM), {"input_ids": torch.randint(0, 60, (2, 10))}


def gru() -> Case:
    return Recurrent(nn.GRU), {"input_ids": torch.randint(0, 60, (2, 10))}


def group_norm() -> Case:
    return GroupNormalised(), {"x": torch.randn(2, 3, 16, 16)}


@dataclass(frozen=True)
class Family:
    """How to make one, and the kinds of prunable axes that it must offer."""

    make: Callable[[], Case]
    kinds: tuple[str, ...]


_ENCODER = ("ffn", "heads", "hidden", "blocks")
_GROUPED = ("ffn", "kv_groups", "hidden", "blocks")
FAMILIES: dict[str, Family] = {
    "plain_cnn": Family(plain_cnn, ("channels", "ffn")),
    "mlp": Family(mlp, ("ffn",)),
    "resnet20": Family(resnet20, ("channels", "hidden")),
    "bert": Family(bert, _ENCODER),
    "distilbert": Family(distilbert, _ENCODER),
    "roberta": Family(roberta, _ENCODER),
    "albert": Family(albert, ("ffn", "heads", "hidden")),
    "vit": Family(vit, _ENCODER),
    "deit": Family(deit, _ENCODER),
    "swin": Family(swin, _ENCODER),
    "basic_resnet": Family(basic_resnet, ("channels", "hidden", "blocks")),
    "bottleneck_resnet": Family(bottleneck_resnet, ("channels", "hidden", "blocks")),
    "mobilenet": Family(mobilenet, ("channels", "hidden", "blocks")),
    "efficientnet": Family(efficientnet, ("channels", "hidden", "blocks")),
    "convnextv2": Family(convnextv2, ("hidden", "blocks")),
    "gpt2": Family(gpt2, _ENCODER),
    "llama": Family(llama, _GROUPED),
    "qwen3": Family(qwen3, _GROUPED),
    "glm": Family(glm, _GROUPED),
    "mistral": Family(mistral, _GROUPED),
    "t5": Family(t5, _ENCODER),
    "whisper_encoder": Family(whisper_encoder, ("ffn", "heads", "channels", "blocks")),
    "clip_vision": Family(clip_vision, _ENCODER),
    "squeeze_excitation": Family(squeeze_excitation, ("channels",)),
    "dense": Family(dense, ("channels",)),
    "lstm": Family(lstm, ("hidden",)),
    "gru": Family(gru, ("hidden",)),
    "group_norm": Family(group_norm, ("hidden",)),
}


def build(family: str) -> Case:
    """Model with random weights (norms too, so that no two units are alike) in eval mode, and its inputs."""
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model, inputs = FAMILIES[family].make()
    with torch.no_grad():
        for name, tensor in (*model.named_parameters(), *model.named_buffers()):
            if "norm" in name.lower() or "bn" in name or name.startswith("1."):
                if name.endswith(("weight", "running_var")):
                    tensor.uniform_(0.5, 1.5)
                elif name.endswith(("bias", "running_mean")):
                    tensor.normal_(0, 0.1)
    return model.eval(), inputs

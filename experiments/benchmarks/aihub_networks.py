"""The layers of networks that Qualcomm AI Hub has measured: built with random weights on no memory, traced, written for ``compareto devices fit|validate``.

    python -m pip install --no-deps --target build/torchvision torchvision==0.28.0
    PYTHONPATH=build/torchvision python experiments/benchmarks/aihub_networks.py aihub_layers.json [NETWORK ...]

Every network has the input that its code at qualcomm/ai-hub-models (BSD-3) names, which is not always its model card's, and its parameters are compared with
the card's. AI Hub takes most classifiers from torchvision, which is no dependency of ours and only needed here. Left out is what is not run as it is built:
Whisper and OpusMT (attention rewritten for the processor), and networks with convolutions over time, for which kernels have no class of their own. Exit
status 1 where a count of parameters differs by more than 2 %.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]

from aihub_modules import DecoderStep, DeepLab, EncoderWithCache, MobileNetV1, UNet, decoder_inputs  # noqa: E402 - the project's root is on the path only now

from compressors.graph import trace  # noqa: E402
from compressors.targets import target_named  # noqa: E402
from evaluators.devices.kernel_table import KernelTable, kernel_table  # noqa: E402

Inputs = Sequence[Tensor] | Mapping[str, Tensor]
_FAR = 0.02
_LIBRARIES: list[torch.library.Library] = []
"""What is declared lives as long as these."""


@dataclass(frozen=True)
class Network:
    """How to build one, its inputs, and millions of parameters by its model card (0: the card counts other ones)."""

    build: Callable[[], nn.Module]
    inputs: Callable[[], Inputs]
    parameters: float


def declare_operators() -> None:
    """torchvision's wheel is for CUDA and its compiled operators do not load beside torch for CPUs; classifiers need none, but the import wants their names."""
    library = torch.library.Library("torchvision", "FRAGMENT")
    for name in ("nms", "qnms"):
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _LIBRARIES.append(library)


def _image(*sizes: int) -> Callable[[], Inputs]:
    return lambda: [torch.zeros((1, *sizes))]


def _pixels(*sizes: int) -> Callable[[], Inputs]:
    return lambda: {"pixel_values": torch.zeros((1, *sizes))}


def _tokens(count: int) -> Callable[[], Inputs]:
    return lambda: dict.fromkeys(("input_ids", "attention_mask"), torch.ones((1, count), dtype=torch.int64))


def _vision(name: str, **options: Any) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        import torchvision

        return torchvision.models.get_model(name, weights=None, **options)

    return build


def _regnet() -> nn.Module:
    # Its widths are computed with tensors, which therefore cannot be on the meta device.
    with torch.device("cpu"):
        return _vision("regnet_x_3_2gf")().to("meta")


def _hub(model: str, config: str, **options: Any) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        import transformers

        return getattr(transformers, model)(getattr(transformers, config)(**options))

    return build


def _detr(model: str, config: str, depths: Sequence[int]) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        import transformers

        backbone = transformers.ResNetConfig(depths=list(depths), layer_type="bottleneck", out_features=["stage4"])
        settings = getattr(transformers, config)(backbone_config=backbone, use_timm_backbone=False, num_labels=91, use_pretrained_backbone=False, backbone=None)
        return getattr(transformers, model)(settings)

    return build


def _depth_anything() -> nn.Module:
    import transformers

    backbone = transformers.Dinov2Config(
        hidden_size=384, num_attention_heads=6, image_size=518, patch_size=14, out_indices=[9, 10, 11, 12], reshape_hidden_states=False, apply_layernorm=True
    )
    settings = transformers.DepthAnythingConfig(
        backbone_config=backbone, reassemble_hidden_size=384, neck_hidden_sizes=[48, 96, 192, 384], fusion_hidden_size=64, head_hidden_size=32
    )
    return transformers.DepthAnythingForDepthEstimation(settings)


def _clip() -> nn.Module:
    import transformers

    return transformers.CLIPModel(transformers.CLIPConfig(vision_config={"patch_size": 16}, text_config={}, projection_dim=512))


def _clip_inputs() -> Inputs:
    text = torch.full((1, 77), 5, dtype=torch.int64)
    return {"pixel_values": torch.zeros((1, 3, 224, 224)), "input_ids": text, "attention_mask": torch.ones_like(text)}


def _trocr_encoder() -> nn.Module:
    from transformers import DeiTConfig, DeiTModel

    encoder = DeiTModel(DeiTConfig(hidden_size=384, num_attention_heads=6, intermediate_size=1536, image_size=384), add_pooling_layer=False)
    return EncoderWithCache(encoder, 384, 256, 6)


_CLASSIFIED = _image(3, 224, 224)
NETWORKS: dict[str, Network] = {
    "resnet18": Network(_vision("resnet18"), _CLASSIFIED, 11.7),
    "resnet50": Network(_vision("resnet50"), _CLASSIFIED, 25.5),
    "resnet101": Network(_vision("resnet101"), _CLASSIFIED, 44.5),
    "resnext50": Network(_vision("resnext50_32x4d"), _CLASSIFIED, 25.0),
    "resnext101": Network(_vision("resnext101_32x8d"), _CLASSIFIED, 88.7),
    "googlenet": Network(_vision("googlenet", aux_logits=False, init_weights=False), _CLASSIFIED, 6.62),
    "inception_v3": Network(_vision("inception_v3", aux_logits=False, init_weights=False), _CLASSIFIED, 23.9),
    "densenet121": Network(_vision("densenet121"), _CLASSIFIED, 7.98),
    "mobilenet_v3_large": Network(_vision("mobilenet_v3_large"), _CLASSIFIED, 5.47),
    "mobilenet_v3_small": Network(_vision("mobilenet_v3_small"), _CLASSIFIED, 2.54),
    "regnet": Network(_regnet, _CLASSIFIED, 15.3),
    "shufflenet_v2": Network(_vision("shufflenet_v2_x0_5"), _CLASSIFIED, 1.37),
    "vit": Network(_vision("vit_b_16"), _CLASSIFIED, 86.6),
    "convnext_base": Network(_vision("convnext_base"), _CLASSIFIED, 88.6),
    "efficientnet_v2_s": Network(_vision("efficientnet_v2_s"), _CLASSIFIED, 21.4),
    "fcn_resnet50": Network(_vision("fcn_resnet50", weights_backbone=None, aux_loss=False), _image(3, 520, 520), 33.0),
    "beit": Network(
        _hub("BeitForImageClassification", "BeitConfig", use_relative_position_bias=True, use_absolute_position_embeddings=False, num_labels=1000),
        _pixels(3, 224, 224),
        0,
    ),
    "segformer_base": Network(_hub("SegformerForSemanticSegmentation", "SegformerConfig", num_labels=150), _pixels(3, 512, 512), 3.75),
    "depth_anything": Network(_depth_anything, _pixels(3, 518, 518), 24.7),
    "detr_resnet101": Network(_detr("DetrForObjectDetection", "DetrConfig", (3, 4, 23, 3)), _pixels(3, 640, 640), 60.3),
    "video_mae": Network(_hub("VideoMAEForVideoClassification", "VideoMAEConfig", num_labels=400), _pixels(16, 3, 224, 224), 87.7),
    "openai_clip": Network(_clip, _clip_inputs, 0),
    "bert_base_uncased_hf": Network(_hub("BertForMaskedLM", "BertConfig"), _tokens(384), 110),
    "distil_bert_base_uncased_hf": Network(_hub("DistilBertForMaskedLM", "DistilBertConfig"), _tokens(384), 0),
    "albert_base_v2_hf": Network(_hub("AlbertForMaskedLM", "AlbertConfig", hidden_size=768, num_attention_heads=12, intermediate_size=3072), _tokens(384), 0),
    "mobile_bert_uncased_google": Network(_hub("MobileBertForMaskedLM", "MobileBertConfig"), _tokens(384), 0),
    "nomic_embed_text": Network(_hub("NomicBertModel", "NomicBertConfig"), _tokens(128), 137),
    "trocr/TrOCREncoder": Network(_trocr_encoder, _pixels(3, 384, 384), 23.0),
    "trocr/TrOCRDecoder": Network(lambda: DecoderStep(64044, 256, 8, 1024, 6), lambda: decoder_inputs(256, 8, 6, 19, 578), 0),
    "yamnet": Network(MobileNetV1, _image(1, 96, 64), 3.73),
    "unet_segmentation": Network(UNet, _image(3, 640, 1280), 31.0),
    "deeplabv3_plus_mobilenet": Network(DeepLab, _image(3, 513, 513), 5.80),
}


def layers(network: Network) -> tuple[list[dict[str, Any]], list[dict[str, Any]], float]:
    """The fused kernels, as the roofline prices them, of the network and of its 8-bit twin; and its parameters in millions."""
    with torch.device("meta"):
        model, inputs = network.build().eval(), network.inputs()
    graph = trace(model, inputs, check_cuts=False)
    floats = graph.baseline()
    eight = np.full_like(floats.weight_bits, 8)
    integers = dataclasses.replace(floats, weight_bits=eight, activation_bits=eight)
    target = target_named("onnxruntime")
    plain, twin = (_kernels(kernel_table(graph, target, shapes)) for shapes in (floats, integers))
    return plain, twin, sum(p.numel() for p in model.parameters()) * 1e-6


def _kernels(table: KernelTable) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for i, kernel in enumerate(table.kernels):
        counts = {"macs": table.macs, "weights": table.weights_read, "input_elements": table.inputs, "output_elements": table.outputs}
        layer = {"name": kernel.name, "op": kernel.op_class, "class": kernel.op_class, "inputs": [], "outputs": []}
        layer |= {name: int(values[i, 0]) for name, values in counts.items()}
        if table.computes_integers[i, 0]:
            layer["int8"] = True
        found.append(layer | {"converted": int(table.requantized[i, 0])})
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("networks", nargs="*", metavar="NETWORK", help=f"some of {', '.join(NETWORKS)} (default: all); others in OUT are kept")
    args = parser.parse_args()
    found = json.loads(args.out.read_text(encoding="utf-8")) if args.networks and args.out.exists() else {}
    declare_operators()
    differs = []
    for name in args.networks or NETWORKS:
        start = time.perf_counter()
        found[name], found[f"{name}_int8"], millions = layers(NETWORKS[name])
        card = NETWORKS[name].parameters
        gmacs = sum(layer["macs"] for layer in found[name]) * 1e-9
        print(
            f"{name:<32}{millions:8.2f} M (card {card or '-'}) {gmacs:8.3f} GMAC {len(found[name]):5} kernels {time.perf_counter() - start:6.1f} s", flush=True
        )
        if card and abs(millions / card - 1) > _FAR:
            differs.append(name)
        args.out.write_text("{" + ",\n".join(f"{json.dumps(key)}: {json.dumps(value)}" for key, value in found.items()) + "}\n", encoding="utf-8")
    if differs:
        print(f"parameters differ from the model card's: {', '.join(differs)}")
    return 1 if differs else 0


if __name__ == "__main__":
    raise SystemExit(main())

"""Networks for 32x32 images, from ``transformers``, not trained: an experiment's ``fit`` trains them."""

from torch import nn


def mobilenet_v2() -> nn.Module:
    """MobileNetV2 [Sandler2018], as it is for larger images: 2.2 million parameters."""
    from transformers import MobileNetV2Config, MobileNetV2ForImageClassification

    model = MobileNetV2ForImageClassification(MobileNetV2Config(image_size=32, tf_padding=False, num_labels=10, classifier_dropout_prob=0.0))
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            # TensorFlow's 0.997 counts the other way: with it, the running statistics are those of the last batch.
            module.momentum = 0.05
    return model


def vit_tiny() -> nn.Module:
    """ViT-tiny [Touvron2021] on patches of 8x8: 5.4 million parameters."""
    from transformers import ViTConfig, ViTForImageClassification

    config = ViTConfig(
        image_size=32,
        patch_size=8,
        hidden_size=192,
        intermediate_size=768,
        num_hidden_layers=12,
        num_attention_heads=3,
        num_labels=10,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    return ViTForImageClassification(config)

"""The quickstart's model: a small residual-free CNN for 8x8 digits."""

from torch import Tensor, nn


def _block(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU())


class DigitsCNN(nn.Module):
    """Images ``[examples, 1, 8, 8]`` to logits ``[examples, 10]``."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.stem = _block(1, width)
        self.body = nn.Sequential(_block(width, width), _block(width, 2 * width, 2), _block(2 * width, 2 * width))
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(2 * width, 10)

    def forward(self, image: Tensor) -> Tensor:
        """Logits."""
        logits: Tensor = self.head(self.pool(self.body(self.stem(image))).flatten(1))
        return logits


def digits_cnn(width: int = 16) -> nn.Module:
    """The factory."""
    return DigitsCNN(width)

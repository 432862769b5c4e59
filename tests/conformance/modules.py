"""Modules of the families that no library has."""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["Dense", "GroupNormalised", "Recurrent", "ResNet20", "SqueezeExcitation"]


class BasicBlock(nn.Module):
    """ResNet-20's block with option-A shortcuts: strided identity, padded channels."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.border = outputs // 4 if inputs != outputs else 0

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x)))))
        if self.border:
            x = nn.functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.border, self.border))
        return torch.relu(y + x)


class ResNet20(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = nn.Sequential(BasicBlock(16, 16, 1), BasicBlock(16, 16, 1))
        self.layer2 = nn.Sequential(BasicBlock(16, 32, 2), BasicBlock(32, 32, 1))
        self.layer3 = nn.Sequential(BasicBlock(32, 64, 2), BasicBlock(64, 64, 1))
        self.linear = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        x = nn.functional.avg_pool2d(x, x.size()[3])
        return self.linear(x.view(x.size(0), -1))


class SqueezeExcitation(nn.Module):
    """Gated channels and a grouped convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, 2, 1)
        self.squeeze = nn.Conv2d(16, 6, 1)
        self.excite = nn.Conv2d(6, 16, 1)
        self.grouped = nn.Conv2d(16, 32, 3, 2, 1, groups=4)
        self.head = nn.Linear(32, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = nn.functional.hardswish(self.stem(x))
        x = x * torch.sigmoid(self.excite(torch.relu(self.squeeze(x.mean((2, 3), keepdim=True)))))
        return self.head(torch.relu(self.grouped(x)).mean((2, 3)))


class Dense(nn.Module):
    """Concatenated features (DenseNet) and a transposed convolution with a skip (U-Net)."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, 8, 3, 1, 1)
        self.b = nn.Conv2d(8, 4, 3, 1, 1)
        self.bn = nn.BatchNorm2d(12)
        self.down = nn.Conv2d(12, 10, 3, 2, 1)
        self.up = nn.ConvTranspose2d(10, 6, 2, 2)
        self.out = nn.Conv2d(18, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        x = torch.relu(self.bn(torch.cat([x, self.b(torch.relu(x))], 1)))
        return self.out(torch.cat([self.up(torch.relu(self.down(x))), x], 1))


class Recurrent(nn.Module):
    """Two directions, two layers."""

    def __init__(self, cell: type[nn.RNNBase]) -> None:
        super().__init__()
        self.embedding = nn.Embedding(60, 16)
        self.cell = cell(16, 12, 2, batch_first=True, bidirectional=True)
        self.head = nn.Linear(24, 5)

    def forward(self, input_ids: Tensor) -> Tensor:
        states, _ = self.cell(self.embedding(input_ids))
        return self.head(states.mean(1))


class GroupNormalised(nn.Module):
    """Group norms, an instance norm and a residual."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 16, 3, 1, 1), nn.GroupNorm(4, 16)
        self.body, self.single = nn.Conv2d(16, 16, 3, 1, 1), nn.GroupNorm(1, 16)
        self.head = nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.norm(self.stem(x)))
        x = x + torch.relu(self.single(self.body(x)))
        return self.head(x.mean((2, 3)))

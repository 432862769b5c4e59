"""Small networks for finger tracks."""

import torch
from torch import Tensor, nn


class TrackNet(nn.Module):
    """Convolutions along a track of points, ``[tracks, points, 2]``; the mean over time is classified."""

    def __init__(self, width: int = 48, classes: int = 4) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv1d(2, width, 3, padding=1, bias=False), nn.BatchNorm1d(width)
        self.conv2, self.bn2 = nn.Conv1d(width, width, 3, padding=1, bias=False), nn.BatchNorm1d(width)
        self.conv3, self.bn3 = nn.Conv1d(width, 2 * width, 3, padding=1, stride=2, bias=False), nn.BatchNorm1d(2 * width)
        self.head = nn.Linear(2 * width, classes)

    def forward(self, track: Tensor) -> Tensor:
        x = track.transpose(1, 2)
        x = torch.relu(self.bn1(self.conv1(x)))
        x = torch.relu(self.bn2(self.conv2(x)))
        x = torch.relu(self.bn3(self.conv3(x)))
        return self.head(x.mean(-1))


def track_net(width: int = 48) -> nn.Module:
    """About 24 thousand parameters."""
    return TrackNet(width)

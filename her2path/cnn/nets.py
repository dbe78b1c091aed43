"""The networks themselves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from her2path.cnn._torch import nn, torch

__all__ = ["ResidualNet", "SeparableNet"]


def _conv_norm(inputs: int, outputs: int, kernel: int, stride: int, groups: int = 1) -> list[Any]:
    conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
    return [conv, nn.BatchNorm2d(outputs)]


class _Separable(nn.Module):
    """Depthwise 3x3, then pointwise; with a shortcut where the shape stays."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *_conv_norm(inputs, inputs, 3, stride, groups=inputs),
            nn.ReLU(inplace=True),
            *_conv_norm(inputs, outputs, 1, 1),
        )
        self.shortcut = inputs == outputs and stride == 1

    def forward(self, x: Any) -> Any:
        y = self.body(x)
        return torch.relu(x + y if self.shortcut else y)


class SeparableNet(nn.Module):
    """A dense stem (two strided 3x3 convolutions), then depthwise-separable stages.

    The dense stem is where lines of one pixel's width are seen; it was also the fastest on a CPU:
    depthwise layers at full resolution are bound by memory. Features are the mean and the maximum
    over the patch: how much of it looks so, and whether any of it does.

    Parameters
    ----------
    channels, outputs : int
        Planes in, logits out.
    widths : four int
        Channels after the stem's two layers and of the two later stages.
    depths : three int
        Blocks of each stage.
    """

    def __init__(
        self, channels: int, outputs: int, widths: tuple[int, ...], depths: tuple[int, ...]
    ) -> None:
        super().__init__()
        layers = [*_conv_norm(channels, widths[0], 3, 2), nn.ReLU(inplace=True)]
        layers += [*_conv_norm(widths[0], widths[1], 3, 2), nn.ReLU(inplace=True)]
        layers += [_Separable(widths[1], widths[1], 1) for _ in range(depths[0])]
        for i in (1, 2):
            layers.append(_Separable(widths[i], widths[i + 1], 2))
            layers += [_Separable(widths[i + 1], widths[i + 1], 1) for _ in range(depths[i] - 1)]
        self.body = nn.Sequential(*layers)
        self.head = nn.Sequential(nn.Dropout(0.2), nn.Linear(2 * widths[3], outputs))

    def features(self, x: Any) -> Any:
        """Return (B, 2 x last width) features of (B, channels, P, P) planes."""
        y = self.body(x)
        return torch.cat([y.mean(dim=(2, 3)), y.amax(dim=(2, 3))], dim=1)

    def forward(self, x: Any) -> Any:
        """Return (B, outputs) logits."""
        return self.head(self.features(x))


class _Residual(nn.Module):
    """Two 3x3 convolutions beside a shortcut."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *_conv_norm(inputs, outputs, 3, stride),
            nn.ReLU(inplace=True),
            *_conv_norm(outputs, outputs, 3, 1),
        )
        same = inputs == outputs and stride == 1
        self.shortcut = nn.Identity() if same else nn.Sequential(
            *_conv_norm(inputs, outputs, 1, stride)
        )  # fmt: skip

    def forward(self, x: Any) -> Any:
        return torch.relu(self.body(x) + self.shortcut(x))


class ResidualNet(nn.Module):
    """A larger backbone for a GPU: the residual network of He et al. 2016 with basic blocks.

    With the default widths and depths it has the layout of ResNet-18 (11 M values), but for the
    planes that it takes. Nothing is pretrained.

    Parameters
    ----------
    channels, outputs : int
        Planes in, logits out.
    widths, depths : sequences of int
        Channels and blocks of each stage.
    """

    def __init__(
        self,
        channels: int,
        outputs: int,
        widths: Sequence[int] = (64, 128, 256, 512),
        depths: Sequence[int] = (2, 2, 2, 2),
    ) -> None:
        super().__init__()
        layers = [*_conv_norm(channels, widths[0], 7, 2), nn.ReLU(inplace=True)]
        layers.append(nn.MaxPool2d(3, 2, 1))
        before = widths[0]
        for i, (width, depth) in enumerate(zip(widths, depths, strict=True)):
            for k in range(depth):
                layers.append(_Residual(before, width, 2 if i and not k else 1))
                before = width
        self.body = nn.Sequential(*layers)
        self.head = nn.Sequential(nn.Dropout(0.2), nn.Linear(before, outputs))

    def features(self, x: Any) -> Any:
        """Return (B, last width) features of (B, channels, P, P) planes."""
        return self.body(x).mean(dim=(2, 3))

    def forward(self, x: Any) -> Any:
        """Return (B, outputs) logits."""
        return self.head(self.features(x))

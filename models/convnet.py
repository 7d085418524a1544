"""A ConvNeXt-style network: depthwise convolutions and a norm over the channels, axis 1; seeded random weights.

Norms: of the patches, and after the depthwise convolution of each block, over axis 1 of [batch, channels, height,
width]; and of the pooled features, over the last axis. Published ConvNeXts have LayerNorm there.

Source: Liu et al., A ConvNet for the 2020s, 2022.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from torch import Tensor, nn

from rms_deploy.models.example import Example, randomize
from rms_deploy.models.norms import make_norm

__all__ = ["CONFIGS", "ConvNet", "ConvNetConfig", "convnet"]


@dataclass(frozen=True)
class ConvNetConfig:
    """Channels and blocks of each stage; each stage but the first halves height and width."""

    channels: tuple[int, ...]
    blocks: tuple[int, ...]
    image: int
    classes: int = 100
    epsilon: float = 1e-6


CONFIGS: Final = {
    "tiny": ConvNetConfig(channels=(16, 32), blocks=(1, 1), image=32),
    "small": ConvNetConfig(channels=(48, 96, 192), blocks=(2, 2, 4), image=128),
    "base": ConvNetConfig(channels=(96, 192, 384, 768), blocks=(3, 3, 9, 3), image=224, classes=1000),
}


class ConvNet(nn.Module):
    """image, [batch, 3, height, width] -> logits, [batch, classes], in the dtype of the weights."""

    def __init__(self, config: ConvNetConfig, norm: str = "rmsnorm", *, seed: int = 0) -> None:
        super().__init__()
        before = 3
        parts: list[nn.Module] = []
        for i, (channels, blocks) in enumerate(zip(config.channels, config.blocks, strict=True)):
            patch = 4 if i == 0 else 2
            parts.append(nn.Conv2d(before, channels, patch, stride=patch))
            parts.append(make_norm(norm, channels, config.epsilon, channels=True))
            parts.extend(_Block(channels, config.epsilon, norm) for _ in range(blocks))
            before = channels
        self.stages = nn.Sequential(*parts)
        self.norm = make_norm(norm, before, config.epsilon)
        self.head = nn.Linear(before, config.classes)
        randomize(self, seed)

    def forward(self, image: Tensor) -> Tensor:
        """Logits of the classes."""
        logits: Tensor = self.head(self.norm(self.stages(image).mean((2, 3))))
        return logits


class _Block(nn.Module):
    def __init__(self, channels: int, epsilon: float, norm: str) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(channels, channels, 7, padding=3, groups=channels)
        self.norm = make_norm(norm, channels, epsilon, channels=True)
        self.up = nn.Conv2d(channels, 4 * channels, 1)
        self.down = nn.Conv2d(4 * channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = x + self.down(F.gelu(self.up(self.norm(self.depthwise(x)))))
        return y


def convnet(size: str = "tiny", norm: str = "rmsnorm", *, seed: int = 0) -> Example:
    """Images of 32, 128 or 224 pixels; base has the sizes of ConvNeXt-T."""
    config = CONFIGS[size]
    shape = (2, 3, config.image, config.image)
    image = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    return Example(ConvNet(config, norm, seed=seed), (image,), {"image": {0: "batch"}}, ("logits",))

"""A vision transformer with RMSNorm: patches, attention over all of them, GELU, residuals; seeded random weights.

Norms: before attention and before the MLP of each layer, and before the head. The published ViT has LayerNorm there;
RMSNorm came with later ones (AIMv2, the encoders of Qwen 2.5 VL and Pixtral).

Source: Dosovitskiy et al., An Image is Worth 16x16 Words, 2021.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from torch import Tensor, nn

from rms_deploy.models.example import Example, randomize
from rms_deploy.models.norms import make_norm

__all__ = ["CONFIGS", "VisionTransformer", "VisionTransformerConfig", "vit"]


@dataclass(frozen=True)
class VisionTransformerConfig:
    """Sizes of the model; `patch` divides `image`, `heads` divides `hidden`."""

    image: int
    patch: int
    hidden: int
    layers: int
    heads: int
    classes: int = 100
    epsilon: float = 1e-6


CONFIGS: Final = {
    "tiny": VisionTransformerConfig(image=32, patch=8, hidden=64, layers=2, heads=4),
    "small": VisionTransformerConfig(image=224, patch=16, hidden=384, layers=6, heads=6),
    "base": VisionTransformerConfig(image=224, patch=16, hidden=768, layers=12, heads=12, classes=1000),
}


class VisionTransformer(nn.Module):
    """image, [batch, 3, size, size] -> logits, [batch, classes], in the dtype of the weights."""

    def __init__(self, config: VisionTransformerConfig, norm: str = "rmsnorm", *, seed: int = 0) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, config.hidden, config.patch, stride=config.patch)
        self.positions = nn.Parameter(torch.zeros((config.image // config.patch) ** 2, config.hidden))
        self.layers = nn.ModuleList(_Layer(config, norm) for _ in range(config.layers))
        self.norm = make_norm(norm, config.hidden, config.epsilon)
        self.head = nn.Linear(config.hidden, config.classes)
        randomize(self, seed)

    def forward(self, image: Tensor) -> Tensor:
        """Logits of the classes, of the mean of all patches."""
        x = self.patches(image).flatten(2).transpose(1, 2) + self.positions
        for layer in self.layers:
            x = layer(x)
        logits: Tensor = self.head(self.norm(x).mean(1))
        return logits


class _Layer(nn.Module):
    def __init__(self, config: VisionTransformerConfig, norm: str) -> None:
        super().__init__()
        self.heads = config.heads
        self.attention_norm = make_norm(norm, config.hidden, config.epsilon)
        self.query_key_value = nn.Linear(config.hidden, 3 * config.hidden)
        self.output = nn.Linear(config.hidden, config.hidden)
        self.mlp_norm = make_norm(norm, config.hidden, config.epsilon)
        self.up = nn.Linear(config.hidden, 4 * config.hidden)
        self.down = nn.Linear(4 * config.hidden, config.hidden)

    def forward(self, x: Tensor) -> Tensor:
        projected = self.query_key_value(self.attention_norm(x)).view(*x.shape[:2], 3, self.heads, -1)
        query, key, value = projected.permute(2, 0, 3, 1, 4).unbind()
        mixed = F.scaled_dot_product_attention(query, key, value)
        x = x + self.output(mixed.transpose(1, 2).flatten(2))
        y: Tensor = x + self.down(F.gelu(self.up(self.mlp_norm(x))))
        return y


def vit(size: str = "tiny", norm: str = "rmsnorm", *, seed: int = 0) -> Example:
    """Images of 32 or 224 pixels; base has the sizes of ViT-B/16."""
    config = CONFIGS[size]
    shape = (2, 3, config.image, config.image)
    image = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    return Example(VisionTransformer(config, norm, seed=seed), (image,), {"image": {0: "batch"}}, ("logits",))

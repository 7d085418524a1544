"""Small real architectures with seeded random weights, by name.

Each name stands for a factory and its arguments; the factory gives (module, example inputs, dynamic shapes, output
names). It is imported, and torch with it, only when the model is built.
"""

from __future__ import annotations

from typing import Any, Final

__all__ = ["MODELS", "SIZES"]

SIZES: Final = ("tiny", "small", "base")
"""tiny is exported and run in seconds; small shows its norms in a profile; base has the sizes of a published model."""

_FAMILIES: Final[dict[str, tuple[str, dict[str, Any]]]] = {
    "llama": ("llama:llama", {}),
    "llama-qknorm": ("llama:llama", {"qk_norm": True}),
    "llama-prefill": ("llama_cache:prefill", {}),
    "llama-decode": ("llama_cache:decode", {}),
    "t5-encoder": ("t5:t5_encoder", {}),
    "gru": ("gru:gru", {}),
    "gru-unrolled": ("gru:gru", {"unrolled": True}),
    "convnet": ("convnet:convnet", {}),
    "mamba2": ("mamba2:mamba2", {}),
    "vit": ("vit:vit", {}),
}

MODELS: Final[dict[str, tuple[str, dict[str, Any]]]] = {
    **{
        f"{family}-{size}": (f"rms_deploy.models.{location}", {"size": size, **options})
        for family, (location, options) in _FAMILIES.items()
        for size in SIZES
    },
    "norm-4096": ("rms_deploy.models.layer:norm_4096", {}),
}
"""Name of each built-in model: the `package.module:factory` behind it, and its arguments. All take `norm` as well."""

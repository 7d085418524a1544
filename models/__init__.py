"""Small real architectures with seeded random weights, by name.

Each name stands for a factory that gives (module, example inputs, dynamic dimensions, output names); it is imported,
and torch with it, only when the model is built.
"""

from __future__ import annotations

from typing import Final

__all__ = ["MODELS"]

MODELS: Final[dict[str, str]] = {
    "llama-tiny": "rms_deploy.models.llama:llama_tiny",
    "llama-small": "rms_deploy.models.llama:llama_small",
    "norm-4096": "rms_deploy.models.layer:norm_4096",
}
"""Name of each built-in model, and the `package.module:factory` behind it."""

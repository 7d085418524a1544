"""The forms that a norm can have in a model: what `export` and `fuse` write, `bench` compares and `inspect` lists."""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum
from typing import Final

from rms_deploy.errors import InputError

__all__ = ["FORM_MEANINGS", "NormForm", "norm_form"]


class NormForm(str, Enum):
    """The form of a norm in a model. Each is its own name: `NormForm.FUSED == "fused"`."""

    FUSED = "fused"
    STANDARD = "standard"
    ONNXRUNTIME = "onnxruntime"
    DECOMPOSED = "decomposed"
    TENSORRT_PLUGIN = "tensorrt-plugin"

    def __str__(self) -> str:
        return self.value


FORM_MEANINGS: Final[dict[NormForm, str]] = {
    NormForm.FUSED: "our op, with its function body",
    NormForm.STANDARD: "ONNX's RMSNormalization, in opset 23 or later",
    NormForm.ONNXRUNTIME: "ONNX Runtime's [Skip]SimplifiedLayerNormalization, which rounds once, after the scale",
    NormForm.DECOMPOSED: "Pow, ReduceMean, Sqrt and so on, in float32 with the casts",
    NormForm.TENSORRT_PLUGIN: "our TensorRT plugin, as ONNX Runtime's TensorRT provider names it",
}


def norm_form(name: str, *, argument: str, accepted: Iterable[NormForm] = NormForm) -> NormForm:
    """The form that is called `name`.

    Args:
        name: of a form.
        argument: what the caller calls it, for the error.
        accepted: the forms that the caller takes.

    Raises:
        InputError: there is no such form, or the caller does not take it.
    """
    forms = tuple(accepted)
    if name not in [form.value for form in forms]:
        raise InputError(f"{argument} {name!r} is not known; use {', '.join(map(str, forms))}")
    return NormForm(name)

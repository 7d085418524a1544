"""What is compared: each built-in model with each norm, the norm decomposed or as one op."""

from __future__ import annotations

import datetime
import platform
import shlex
import statistics
import sys
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import torch
from torch import Tensor, nn

from rms_deploy.exporter.decomposed import decomposed
from rms_deploy.models.norms import ChannelLayerNorm
from rms_deploy.nn import LayerNorm
from rms_deploy.runtime.machine import machine

NORMS = ("layernorm", "rmsnorm", "prmsnorm:0.5", "prmsnorm:0.25", "prmsnorm:0.0625", "none")
FORMS = ("decomposed", "one op")


@dataclass(frozen=True)
class Candidate:
    """A norm in a form; without a norm there is one form."""

    norm: str
    form: str

    @property
    def name(self) -> str:
        return self.norm if self.norm == "none" else f"{self.norm}, {self.form}"


CANDIDATES = [Candidate(norm, form) for form in FORMS for norm in NORMS if (norm, form) != ("none", "one op")]


class PrimitiveLayerNorm(nn.Module):
    """LayerNorm as model code spelled it before frameworks had an op for it; over axis 1 of images."""

    def __init__(self, norm: LayerNorm, axis: int) -> None:
        super().__init__()
        self.norm, self.axis = norm, axis

    def forward(self, x: Tensor) -> Tensor:
        centred = x - x.mean(self.axis, keepdim=True)
        y = centred * torch.rsqrt(centred.pow(2).mean(self.axis, keepdim=True) + self.norm.eps)
        weight, bias = self.norm.weight, self.norm.bias
        if self.axis == 1:
            weight, bias = weight[:, None, None], bias[:, None, None]
        return y * weight + bias


def layer_norm_primitives(module: nn.Module) -> Any:
    """The twin of a LayerNorm in torch's primitives; None for other modules."""
    if not isinstance(module, LayerNorm):
        return None
    return PrimitiveLayerNorm(module, 1 if isinstance(module, ChannelLayerNorm) else -1)


def primitives(module: nn.Module) -> Any:
    """The twin of any norm in torch's primitives; None for other modules."""
    return layer_norm_primitives(module) or decomposed(module)


def interval(values: list[float]) -> tuple[float, float, float]:
    """Median, and the interval that holds it with 95 %: order statistics of the sample (normal approximation)."""
    ordered = sorted(values)
    n = len(ordered)
    reach = 0.98 * n**0.5
    low, high = max(0, int(n / 2 - reach)), min(n - 1, int(n / 2 + reach))
    return statistics.median(ordered), ordered[low], ordered[high]


def conditions(threads: int) -> dict[str, Any]:
    """Of the measurement: machine, versions, date and command."""
    here = machine()
    return {
        "cpu": here.cpu,
        "cores": here.cores,
        "threads": threads,
        "system": platform.system(),
        "load": here.load,
        "python": platform.python_version(),
        **{package: version(package) for package in ("torch", "onnxruntime", "rms-deploy")},
        "date": datetime.date.today().isoformat(),
        "command": shlex.join(["python", *sys.argv]),
    }


def against_layer_norm(times: dict[str, list[float]]) -> dict[str, dict[str, list[float]]]:
    """Of each candidate: its time, and that time against LayerNorm in the same form, each as `interval` gives it.

    Args:
        times: seconds of each round, by name of the candidate.
    """
    result = {}
    for candidate in CANDIDATES:
        own = times[candidate.name]
        base = times[Candidate("layernorm", candidate.form).name]
        result[candidate.name] = {
            "milliseconds": [1e3 * value for value in interval(own)],
            "of_layernorm": list(interval([a / b for a, b in zip(own, base, strict=True)])),
        }
    return result

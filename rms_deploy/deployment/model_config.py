"""The config.pbtxt of a model: what Triton Inference Server is told of it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import ml_dtypes
import numpy as np

from rms_deploy.deployment.protobuf_text import EnumName, as_text
from rms_deploy.errors import InputError
from rms_deploy.onnx_model.signature import TensorSpec, dim_name

__all__ = ["ModelConfig", "check_instances"]

_TYPES: Final[Mapping[np.dtype[Any], str]] = {
    np.dtype(numpy_type): f"TYPE_{name}"
    for numpy_type, name in (
        *((np.bool_, "BOOL"), (np.float16, "FP16"), (np.float32, "FP32"), (np.float64, "FP64")),
        *(
            (getattr(np, kind + str(bits)), f"{kind.upper()}{bits}")
            for kind in ("int", "uint")
            for bits in (8, 16, 32, 64)
        ),
        (ml_dtypes.bfloat16, "BF16"),
    )
}


@dataclass(frozen=True)
class ModelConfig:
    """A model of a repository."""

    name: str
    backend: str
    """Such as onnxruntime."""
    inputs: Sequence[TensorSpec]
    outputs: Sequence[TensorSpec]
    max_batch_size: int = 0
    """Requests of at most so many rows together are computed as one; 0: each request is computed as it comes."""
    max_queue_delay: int | None = None
    """Microseconds that a request may wait for others to join it."""
    instances: Mapping[str, int] = field(default_factory=dict)
    """How many copies of the model run on each device: cpu, gpu (on each), or gpu:1 (on this one)."""
    profile_count: int = 0
    """Optimization profiles of an engine; each instance takes the one that fits a request."""
    parameters: Mapping[str, str] = field(default_factory=dict)
    """Of the backend."""
    op_library: str | None = None
    """The custom-op library, where the server finds it."""
    warmup_shapes: Mapping[str, Sequence[int]] | None = None
    """Whole shapes of the inputs of a request of zeros, with which the server runs the model before it is ready."""

    def text(self) -> str:
        """The content of config.pbtxt.

        Raises:
            InputError: Triton has no such tensor: one of unknown rank, without dimensions or with an empty one, or of
                a type that it does not know; or a first dimension that is no batch, and `max_batch_size` is not 0.
        """
        options: dict[str, Any] = {
            "version_policy": {"all": {}},
            "instance_group": [self._instance_group(device, count) for device, count in self.instances.items()],
            "dynamic_batching": self._dynamic_batching(),
            "parameters": [{"key": key, "value": {"string_value": value}} for key, value in self.parameters.items()],
            "model_warmup": self._warmup(),
        }
        return self.identity() + as_text(options)

    def identity(self) -> str:
        """The first part of the text: what all versions of the model have in common.

        Raises:
            InputError: as `text` says.
        """
        self._check_batch()
        return as_text(
            {
                "name": self.name,
                "backend": self.backend,
                "max_batch_size": self.max_batch_size,
                "input": [self._tensor("input", spec) for spec in self.inputs],
                "output": [self._tensor("output", spec) for spec in self.outputs],
                "model_operations": None if self.op_library is None else {"op_library_filename": self.op_library},
            }
        )

    def _tensor(self, kind: str, spec: TensorSpec) -> dict[str, Any]:
        dims = [dim if isinstance(dim, int) else -1 for dim in _dims(kind, spec)]
        if self.max_batch_size:
            dims = dims[1:]
        if not dims or 0 in dims:
            raise InputError(
                f"{kind} {spec.name} is {spec.describe()}; a tensor of Triton has at least one dimension "
                f"{'besides the batch, ' if self.max_batch_size else ''}and none of size 0"
            )
        return {"name": spec.name, "data_type": _type_name(kind, spec), "dims": dims}

    def _check_batch(self) -> None:
        if not self.max_batch_size:
            return
        batches = {}
        for kind, specs in (("input", self.inputs), ("output", self.outputs)):
            for spec in specs:
                first = next(iter(_dims(kind, spec)), None)
                if first is None or isinstance(first, int):
                    raise InputError(
                        f"{kind} {spec.name} is {spec.describe()}: its first dimension is no batch; "
                        "give `max_batch_size=0`"
                    )
                batches[dim_name(first)] = f"{kind} {spec.name}"
        if len(batches) > 1:
            found = ", ".join(f"{name} in {where}" for name, where in batches.items())
            raise InputError(f"the first dimensions are not one batch: {found}; give `max_batch_size=0`")

    def _instance_group(self, device: str, count: int) -> dict[str, Any]:
        kind, _, index = device.partition(":")
        return {
            "count": count,
            "kind": EnumName(f"KIND_{kind.upper()}"),
            "gpus": [int(index)] if index else None,
            "profile": [str(number) for number in range(self.profile_count)] if self.profile_count > 1 else None,
        }

    def _dynamic_batching(self) -> dict[str, Any] | None:
        if not self.max_batch_size:
            return None
        return {"max_queue_delay_microseconds": self.max_queue_delay}

    def _warmup(self) -> dict[str, Any] | None:
        if self.warmup_shapes is None:
            return None
        first = 1 if self.max_batch_size else 0
        inputs = [
            {
                "key": spec.name,
                "value": {
                    "data_type": _type_name("input", spec),
                    "dims": list(self.warmup_shapes[spec.name][first:]),
                    "zero_data": True,
                },
            }
            for spec in self.inputs
        ]
        batch_size = None
        if self.max_batch_size:
            batch_size = min(next(iter(self.warmup_shapes.values()))[0], self.max_batch_size)
        return {"name": "zeros", "batch_size": batch_size, "inputs": inputs}


def check_instances(instances: Mapping[str, int]) -> None:
    """Say which device or which number of instances is wrong.

    Raises:
        InputError: one is.
    """
    for device, count in instances.items():
        if not re.fullmatch(r"cpu|gpu(:\d+)?", device):
            raise InputError(f"`instances` names the device {device!r}; use cpu, gpu (each), or gpu:0 (the first)")
        if count < 1:
            raise InputError(f"`instances` asks for {count} on {device}; use at least 1")


def _type_name(kind: str, spec: TensorSpec) -> EnumName:
    if spec.dtype not in _TYPES:
        raise InputError(f"{kind} {spec.name} is {spec.describe()}; Triton has no type {spec.dtype}")
    return EnumName(_TYPES[spec.dtype])


def _dims(kind: str, spec: TensorSpec) -> Sequence[Any]:
    if spec.shape is None:
        raise InputError(f"{kind} {spec.name}: the model does not say how many dimensions it has, and Triton must know")
    return tuple(spec.shape)

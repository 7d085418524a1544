"""The kernels of the op benchmark, ours and others. Each makes a function of a case: one run, on tensors held ready."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from importlib import import_module
from typing import Any, Final

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper

from rms_deploy.benchmark.op.cases import OpCase, case_inputs, case_scale, case_shift, paged
from rms_deploy.benchmark.op.onnx_models import EPSILON, case_model, decomposed_model, neighbours, our_model
from rms_deploy.errors import InputError, MissingDependencyError
from rms_deploy.ops import contract
from rms_deploy.ops.element_types import element_dtype
from rms_deploy.ops.foreign_ops import (
    CONTRIB_DOMAIN,
    FOREIGN_NORMS,
    RMS_NORMALIZATION,
    SIMPLIFIED_LAYER_NORMALIZATION,
    SKIP_SIMPLIFIED_LAYER_NORMALIZATION,
    ForeignNorm,
)
from rms_deploy.runtime import onnxruntime_session as runtime

__all__ = ["KERNELS", "copy"]

Run = Callable[[], Any]

_LAYER_NORMALIZATION: Final = FOREIGN_NORMS["LayerNormalization"]


def copy(case: OpCase) -> Run:
    """Copies X to another place, by numpy (memcpy) in one thread; of an add-norm, X and R."""
    pairs = [(paged(x), x) for name, x in case_inputs(case).items() if name != "Z"]

    def run() -> None:
        for to, source in pairs:
            np.copyto(to, source)

    return run


def _run_onnx(model: onnx.ModelProto, case: OpCase) -> Run:
    # Unoptimised, so that each kernel is the op it is named after.
    session = runtime.session(model, threads=case.threads, optimize=False)
    outputs = {output.name: paged(np.zeros(case.shape, element_dtype(case.dtype))) for output in session.get_outputs()}
    return runtime.bound_run(session, case_inputs(case), outputs)


def _ours(case: OpCase, *, share: float | None = None, round_before_scale: bool = False) -> Run:
    if case.op != "norm" and share is not None:
        raise InputError("a partial norm has no residual, no gate and no shift")
    if case.dtype == "float32" and round_before_scale:
        raise InputError("in float32 the rounding orders are one")
    scale_type = contract.ELEMENT_TYPES[case.dtype if round_before_scale else "float32"]
    partial_size = None if share is None else max(1, int(share * case.shape[case.axis]))
    return _run_onnx(our_model(case, partial_size=partial_size, scale_type=scale_type), case)


def _ort(case: OpCase, *, norm: ForeignNorm, opset: int = 17) -> Run:
    """One of ONNX Runtime's own norms, with the neighbours that the case has."""
    op = norm.op_type
    if not case.over_last_axis:
        raise InputError(f"{op} normalises over the last axes only")
    factors = ["scale"] if norm.is_rms else ["scale", "bias"]

    def nodes(x: str, y: str) -> list[onnx.NodeProto]:
        return [helper.make_node(op, [x, *factors], [y], axis=-1, epsilon=EPSILON)]

    scale = case_scale(case, spread=False).astype(element_dtype(case.normalized_dtype))
    return _run_onnx(case_model(case, neighbours(case, nodes), scale, opset=opset), case)


def _ort_skip(case: OpCase) -> Run:
    if case.op != "add-norm" or not case.over_last_axis:
        raise InputError(f"{SKIP_SIMPLIFIED_LAYER_NORMALIZATION.op_type} is an add-norm over the last axis")
    node = helper.make_node(
        SKIP_SIMPLIFIED_LAYER_NORMALIZATION.op_type,
        ["X", "R", "scale"],
        ["Y", "", "", "Sum"],
        domain=CONTRIB_DOMAIN,
        epsilon=EPSILON,
    )
    return _run_onnx(case_model(case, [node], case_scale(case, spread=False), opset=17), case)


def _ort_decomposed(case: OpCase) -> Run:
    return _run_onnx(decomposed_model(case), case)


def _torch(case: OpCase, *, compiled: bool) -> Run:
    if not case.over_last_axis:
        raise InputError("F.rms_norm normalises over the last axes only")
    try:
        import torch
    except ImportError as error:
        raise MissingDependencyError("torch is not installed; run: pip install 'torch<2.14'") from error
    torch.set_num_threads(case.threads)
    n, dtype, silu = case.shape[-1], getattr(torch, case.dtype), torch.nn.functional.silu

    def tensor(array: NDArray[Any]) -> Any:
        return torch.from_numpy(array.astype(np.float32)).to(dtype)

    scale, shift = tensor(case_scale(case, spread=False)), tensor(case_shift(case, spread=False))
    inputs = [tensor(x) for x in case_inputs(case).values()]

    def rms_norm(x: Any) -> Any:
        return torch.nn.functional.rms_norm(x, (n,), scale.to(x.dtype), EPSILON)

    def norm(x: Any, *second: Any) -> Any:
        if case.op == "add-float32-norm":
            total = x.float() + second[0].float()
            return rms_norm(total).to(dtype), total.to(dtype)
        if case.op == "add-norm":
            total = x + second[0]
            return rms_norm(total), total
        if case.op == "gate-norm":
            return rms_norm(x * silu(second[0]))
        if case.op == "norm-gate":
            return rms_norm(x) * silu(second[0])
        return rms_norm(x) + shift if case.op == "norm-shift" else rms_norm(x)

    function: Any = torch.compile(norm) if compiled else norm

    def run() -> None:
        with torch.inference_mode():
            function(*inputs)

    return run


def _openvino(case: OpCase) -> Run:
    try:
        openvino: Any = import_module("openvino")  # optional, so that mypy need not find it
    except ImportError as error:
        raise MissingDependencyError("openvino is not installed; run: pip install openvino") from error
    if case.dtype == "bfloat16":
        raise InputError("OpenVINO takes no bfloat16 arrays")
    core = openvino.Core()
    model = core.read_model(decomposed_model(case).SerializeToString())
    threads = {"INFERENCE_NUM_THREADS": case.threads}
    request = core.compile_model(model, "CPU", threads).create_infer_request()
    inputs = case_inputs(case)
    for name, array in inputs.items():
        request.set_tensor(name, openvino.Tensor(array, shared_memory=True))

    def run(_alive: object = inputs) -> None:  # OpenVINO reads the arrays, and does not keep them
        request.start_async()
        request.wait()

    return run


KERNELS: Final[Mapping[str, Callable[[OpCase], Run]]] = {
    "ours": _ours,
    "ours, round first": partial(_ours, round_before_scale=True),
    "ours, partial 50 %": partial(_ours, share=0.5),
    "ours, partial 25 %": partial(_ours, share=0.25),
    f"ort {SIMPLIFIED_LAYER_NORMALIZATION.op_type}": partial(_ort, norm=SIMPLIFIED_LAYER_NORMALIZATION),
    f"ort {RMS_NORMALIZATION.op_type}": partial(_ort, norm=RMS_NORMALIZATION, opset=23),
    f"ort {SKIP_SIMPLIFIED_LAYER_NORMALIZATION.op_type}": _ort_skip,
    "ort decomposed": _ort_decomposed,
    f"ort {_LAYER_NORMALIZATION.op_type}": partial(_ort, norm=_LAYER_NORMALIZATION),
    "torch eager": partial(_torch, compiled=False),
    "torch compiled": partial(_torch, compiled=True),
    "openvino": _openvino,
}
"""By name. Those that start with `ours` are this project's kernels. One that does not take a case raises InputError."""

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

from rms_deploy.benchmark.op.cases import GATED, OpCase, case_inputs, case_scale, paged
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

_EPSILON: Final = 1e-6
_LAYER_NORMALIZATION: Final = FOREIGN_NORMS["LayerNormalization"]


def copy(case: OpCase) -> Run:
    """Copies X to another place, by numpy (memcpy) in one thread; of an add-norm, X and R."""
    pairs = [(paged(x), x) for name, x in case_inputs(case).items() if name != "Z"]

    def run() -> None:
        for to, source in pairs:
            np.copyto(to, source)

    return run


def _onnx(
    case: OpCase, nodes: list[onnx.NodeProto], scale: NDArray[Any], *, outputs: list[str], opset: int
) -> onnx.ModelProto:
    kind = contract.ELEMENT_TYPES[case.dtype]
    inputs = [helper.make_tensor_value_info(name, kind, case.shape) for name in case_inputs(case)]
    results = [helper.make_tensor_value_info(name, kind, case.shape) for name in outputs]
    constants = [helper.make_tensor("scale", kind, scale.shape, scale.tobytes(), raw=True)]
    if any("bias" in node.input for node in nodes):
        bias = np.zeros_like(scale)
        constants.append(helper.make_tensor("bias", kind, bias.shape, bias.tobytes(), raw=True))
    if any("two" in node.input for node in nodes):
        constants += [helper.make_tensor(name, kind, [], [value]) for name, value in (("two", 2), ("eps", _EPSILON))]
        constants.append(helper.make_tensor("axes", onnx.TensorProto.INT64, [1], [case.axis]))
    graph = helper.make_graph(nodes, "op", inputs, results, constants)
    domains = {"": opset, contract.DOMAIN: contract.VERSION, CONTRIB_DOMAIN: 1}
    imports = [helper.make_opsetid(domain, version) for domain, version in domains.items()]
    return helper.make_model(graph, opset_imports=imports, ir_version=10)


def _run_onnx(model: onnx.ModelProto, case: OpCase) -> Run:
    # Unoptimised, so that each kernel is the op it is named after.
    session = runtime.session(model, threads=case.threads, optimize=False)
    outputs = {output.name: paged(np.zeros(case.shape, element_dtype(case.dtype))) for output in session.get_outputs()}
    return runtime.bound_run(session, case_inputs(case), outputs)


def _ours(case: OpCase, *, share: float | None = None, round_before_scale: bool = False) -> Run:
    if case.op != "norm" and share is not None:
        raise InputError("a partial norm has no residual and no gate")
    if case.dtype == "float32" and round_before_scale:
        raise InputError("in float32 the rounding orders are one")
    scale_type = contract.ELEMENT_TYPES[case.dtype if round_before_scale else "float32"]
    attributes: dict[str, Any] = {"axes": [case.axis], "epsilon": _EPSILON, "scale_type": scale_type}
    op, inputs, outputs = "RMSNorm", ["X", "scale"], ["Y"]
    if case.op == "add-norm":
        op, inputs, outputs = "AddRMSNorm", ["X", "R", "scale"], ["Y", "Sum"]
    if case.op in GATED:
        op, inputs = GATED[case.op], ["X", "Z", "scale"]
    if share is not None:
        op, attributes["partial_size"] = "PartialRMSNorm", max(1, int(share * case.shape[case.axis]))
    node = helper.make_node(op, inputs, outputs, domain=contract.DOMAIN, **attributes)
    return _run_onnx(_onnx(case, [node], case_scale(case, spread=True), outputs=outputs, opset=17), case)


def _ort(case: OpCase, *, norm: ForeignNorm, opset: int = 17) -> Run:
    """One of ONNX Runtime's own norms, behind an Add where the case has one."""
    op = norm.op_type
    if not case.over_last_axis:
        raise InputError(f"{op} normalises over the last axes only")
    inputs = ["X", "scale"] if norm.is_rms else ["X", "scale", "bias"]
    nodes, outputs = [], ["Y"]
    if case.op == "add-norm":
        nodes, outputs = [helper.make_node("Add", ["X", "R"], ["Sum"])], ["Y", "Sum"]
        inputs[0] = "Sum"
    norm_node = helper.make_node(op, inputs, ["Y"], axis=-1, epsilon=_EPSILON)
    nodes = _with_gate(case, [*nodes, norm_node])
    return _run_onnx(_onnx(case, nodes, case_scale(case, spread=False), outputs=outputs, opset=opset), case)


def _with_gate(case: OpCase, norm: list[onnx.NodeProto]) -> list[onnx.NodeProto]:
    """The nodes of a norm of X, with the gate of the case behind them or in front of them."""
    if case.op not in GATED:
        return norm
    gate = [helper.make_node("Sigmoid", ["Z"], ["sigma"]), helper.make_node("Mul", ["Z", "sigma"], ["gate"])]
    if case.op == "norm-gate":
        norm[-1].output[:] = ["ungated"]
        return [*gate, *norm, helper.make_node("Mul", ["ungated", "gate"], ["Y"])]
    for node in norm:
        node.input[:] = ["gated" if name == "X" else name for name in node.input]
    return [*gate, helper.make_node("Mul", ["X", "gate"], ["gated"]), *norm]


def _ort_skip(case: OpCase) -> Run:
    if case.op != "add-norm" or not case.over_last_axis:
        raise InputError(f"{SKIP_SIMPLIFIED_LAYER_NORMALIZATION.op_type} is an add-norm over the last axis")
    node = helper.make_node(
        SKIP_SIMPLIFIED_LAYER_NORMALIZATION.op_type,
        ["X", "R", "scale"],
        ["Y", "", "", "Sum"],
        domain=CONTRIB_DOMAIN,
        epsilon=_EPSILON,
    )
    return _run_onnx(_onnx(case, [node], case_scale(case, spread=False), outputs=["Y", "Sum"], opset=17), case)


def _decomposed(case: OpCase) -> onnx.ModelProto:
    add = case.op == "add-norm"
    x = "Sum" if add else "X"
    nodes = [helper.make_node("Add", ["X", "R"], ["Sum"])] if add else []
    nodes += [
        helper.make_node("Pow", [x, "two"], ["square"]),
        helper.make_node("ReduceMean", ["square", "axes"], ["mean"], keepdims=1),
        helper.make_node("Add", ["mean", "eps"], ["shifted"]),
        helper.make_node("Sqrt", ["shifted"], ["rms"]),
        helper.make_node("Div", [x, "rms"], ["normed"]),
        helper.make_node("Mul", ["normed", "scale"], ["Y"]),
    ]
    nodes = _with_gate(case, nodes)
    return _onnx(case, nodes, case_scale(case, spread=True), outputs=["Y", "Sum"] if add else ["Y"], opset=18)


def _ort_decomposed(case: OpCase) -> Run:
    return _run_onnx(_decomposed(case), case)


def _torch(case: OpCase, *, compiled: bool) -> Run:
    if not case.over_last_axis:
        raise InputError("F.rms_norm normalises over the last axes only")
    try:
        import torch
    except ImportError as error:
        raise MissingDependencyError("torch is not installed; run: pip install 'torch<2.14'") from error
    torch.set_num_threads(case.threads)
    n, dtype = case.shape[-1], getattr(torch, case.dtype)

    def tensor(array: NDArray[Any]) -> Any:
        return torch.from_numpy(array.astype(np.float32)).to(dtype)

    scale, inputs = tensor(case_scale(case, spread=False)), [tensor(x) for x in case_inputs(case).values()]

    def norm(x: Any, *second: Any) -> Any:
        if case.op == "gate-norm":
            x = x * torch.nn.functional.silu(second[0])
        total = x + second[0] if case.op == "add-norm" else x
        y = torch.nn.functional.rms_norm(total, (n,), scale, _EPSILON)
        return y * torch.nn.functional.silu(second[0]) if case.op == "norm-gate" else y, total

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
    model = core.read_model(_decomposed(case).SerializeToString())
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

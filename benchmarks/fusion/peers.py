"""One fuser in a process of its own: `python peers.py NAME FOLDER`.

Reads the stem of a case a line, fuses FOLDER/stem.onnx, runs the result on FOLDER/stem.npz, writes FOLDER/stem.out.npz,
and answers with a line of JSON: how many norms are one op now, or what went wrong. No test and nothing of rms_deploy is
imported, but by the fuser that is rms_deploy.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx

Feeds = dict[str, Any]
Fused = tuple[int, list[Any]]

_NORMS = {
    "RMSNormalization": 1,
    "SimplifiedLayerNormalization": 1,
    "SkipSimplifiedLayerNormalization": 1,
    "RMSNorm": 1,
    "AddRMSNorm": 1,
    "PartialRMSNorm": 1,
}


def _nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                yield from _nodes(attribute.g)


def _count(model: onnx.ModelProto) -> int:
    """Norms that are one node, in the graph, its bodies, and its functions but the bodies of norms themselves."""
    functions = [function for function in model.functions if function.name not in _NORMS]
    nodes = [*_nodes(model.graph), *(node for function in functions for node in function.node)]
    return sum(_NORMS.get(node.op_type, 0) for node in nodes)


def _run(model: onnx.ModelProto, feeds: Feeds) -> list[Any]:
    """On ONNX Runtime without optimisation; on onnx's evaluator what its CPU provider has no kernels for."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    try:
        session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        halves = any(feed.dtype == ml_dtypes.bfloat16 for feed in feeds.values())
        if not halves:
            return list(session.run(None, feeds))
    except Exception as error:
        if "NOT_IMPLEMENTED" not in str(error) and "bfloat16" not in str(error):
            raise
    from onnx.reference import ReferenceEvaluator

    return list(ReferenceEvaluator(model).run(None, feeds))


def _rms_deploy(path: Path, feeds: Feeds) -> Fused:
    import onnx_ir as ir

    from rms_deploy.fusion.fuse import fuse

    model = ir.to_proto(fuse(path).model)
    return _count(model), _run(model, feeds)


def _nothing(path: Path, feeds: Feeds) -> Fused:
    model = onnx.load(path)
    return _count(model), _run(model, feeds)


def _onnxruntime(path: Path, feeds: Feeds) -> Fused:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.optimized_model_filepath = str(path.with_suffix(".optimised"))
    try:
        session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        if any(feed.dtype == ml_dtypes.bfloat16 for feed in feeds.values()):
            raise TypeError("session.run takes no bfloat16 arrays: what it fused is not run, and counts as missed")
        outputs = list(session.run(None, feeds))
    except Exception:
        return 0, _run(onnx.load(path), feeds)  # raises unless the CPU provider lacks kernels for the original too
    return _count(onnx.load(path.with_suffix(".optimised"))), outputs


def _onnxruntime_python(path: Path, feeds: Feeds) -> Fused:
    from onnxruntime.transformers import optimizer

    model = optimizer.optimize_model(str(path), model_type="bert", opt_level=0).model
    return _count(model), _run(model, feeds)


def _onnxscript(path: Path, feeds: Feeds) -> Fused:
    import onnx_ir as ir
    import onnxscript.optimizer
    from onnxscript.rewriter.ort_fusions import optimize_for_ort

    model = ir.load(path)
    onnxscript.optimizer.optimize(model)
    optimized, _ = optimize_for_ort(model)
    proto = ir.to_proto(optimized)
    return _count(proto), _run(proto, feeds)


def _onnxscript_rules(path: Path, feeds: Feeds) -> Fused:
    import onnx_ir as ir
    import onnxscript.optimizer
    from onnxscript.rewriter.rules.fusion import _rms_normalization

    model = ir.load(path)
    onnxscript.optimizer.optimize(model)
    _rms_normalization.fuse_rms_normalization(model)
    proto = ir.to_proto(model)
    return _count(proto), _run(proto, feeds)


def _onnxsim(path: Path, feeds: Feeds) -> Fused:
    import onnxsim

    model, _ = onnxsim.simplify(str(path))
    return _count(model), _run(model, feeds)


def _onnxsim_23(path: Path, feeds: Feeds) -> Fused:
    import onnxsim

    original = onnx.load(path)
    opset = next(entry.version for entry in original.opset_import if entry.domain in ("", "ai.onnx"))
    with contextlib.suppress(Exception):  # what cannot be converted is given as it is
        original = onnx.version_converter.convert_version(original, 23) if opset < 23 else original
    model, _ = onnxsim.simplify(original)
    return _count(model), _run(model, feeds)


def _onnxslim(path: Path, feeds: Feeds) -> Fused:
    import onnxslim

    model = onnxslim.slim(str(path))
    return _count(model), _run(model, feeds)


def _openvino(path: Path, feeds: Feeds) -> Fused:
    import openvino as ov

    compiled = ov.Core().compile_model(str(path), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    kinds = [node.get_rt_info()["layerType"].astype(str) for node in compiled.get_runtime_model().get_ordered_ops()]
    request = compiled.create_infer_request()
    for name, feed in feeds.items():
        half = feed.dtype == ml_dtypes.bfloat16
        tensor = ov.Tensor(feed.view(np.uint16), feed.shape, ov.Type.bf16) if half else ov.Tensor(feed)
        request.set_tensor(compiled.input(name), tensor)
    request.infer()
    outputs = [_openvino_array(request.get_tensor(output)) for output in compiled.outputs]
    return sum(kind in ("RMS", "RMSNorm") for kind in kinds), outputs


def _openvino_array(tensor: Any) -> Any:
    bfloat16 = str(tensor.element_type) == "<Type: 'bfloat16'>"
    return tensor.data.view(ml_dtypes.bfloat16) if bfloat16 else np.array(tensor.data)


PEERS: dict[str, tuple[str, Callable[[Path, Feeds], Fused]]] = {
    "rms-deploy": ("rms-deploy", _rms_deploy),
    "(left as it is)": ("onnx", _nothing),
    "ONNX Runtime": ("onnxruntime", _onnxruntime),
    "ONNX Runtime's Python tool": ("onnxruntime", _onnxruntime_python),
    "onnxscript (optimize_for_ort)": ("onnxscript", _onnxscript),
    "onnxscript (RMSNormalization rules)": ("onnxscript", _onnxscript_rules),
    "onnxsim": ("onnxsim", _onnxsim),
    "onnxsim, opset raised to 23": ("onnxsim", _onnxsim_23),
    "onnxslim": ("onnxslim", _onnxslim),
    "OpenVINO": ("openvino", _openvino),
}
"""Name in the table -> (distribution, fuser)."""


def _read(path: Path) -> Feeds:
    kinds = json.loads(path.with_suffix(".json").read_text())
    with np.load(path) as arrays:
        return {name: arrays[name].view(np.dtype(kinds[name])).reshape(arrays[name].shape) for name in arrays.files}


def write_arrays(path: Path, arrays: Feeds) -> None:
    """Arrays of any type, the bits of bfloat16 as integers."""
    plain = {name: a.view(np.uint16) if a.dtype == ml_dtypes.bfloat16 else a for name, a in arrays.items()}
    np.savez(path, **plain)
    path.with_suffix(".json").write_text(json.dumps({name: a.dtype.name for name, a in arrays.items()}))


def read_arrays(path: Path) -> Feeds:
    return _read(path)


def _serve(name: str, folder: Path) -> None:
    """Answer cases until there are no more. Whatever the fuser prints goes to stderr."""
    distribution, fuser = PEERS[name]
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    print(json.dumps({"version": importlib.metadata.version(distribution)}), file=answers, flush=True)
    for line in sys.stdin:
        stem = line.strip()
        answer: dict[str, Any] = {}
        try:
            with warnings.catch_warnings(), np.errstate(all="ignore"):
                warnings.simplefilter("ignore")
                count, outputs = fuser(folder / f"{stem}.onnx", _read(folder / f"{stem}.npz"))
            named = {f"{number:03}": np.asarray(output) for number, output in enumerate(outputs)}
            write_arrays(folder / f"{stem}.out.npz", named)
            answer["fused"] = count
        except Exception as error:
            answer["error"] = f"{type(error).__name__}: {error}".splitlines()[0][:200]
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    _serve(sys.argv[1], Path(sys.argv[2]))

"""Small graphs in ONNX text, and the proof that a fused model computes what it did."""

from __future__ import annotations

import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import onnx.parser
import onnx.reference
import onnx_ir as ir
import onnxruntime as ort
import pytest

from rms_deploy.errors import RmsDeployError
from rms_deploy.fusion.fuse import FusionResult, fuse
from rms_deploy.ops import schemas
from rms_deploy.ops.contract import OPS
from rms_deploy.ops.ulp import ulp_distance
from rms_deploy.runtime import onnxruntime_session as runtime


@pytest.fixture
def ctrl_c() -> Iterator[None]:
    """SIGINT raises KeyboardInterrupt, as in a program of its own; processes that share out tests ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


_INITIALIZERS = {
    "eps": "float eps = {3e-4}",
    "eps1": "float[1] eps1 = {3e-4}",
    "eps111": "float[1,1,1] eps111 = {3e-4}",
    "two": "float two = {2}",
    "three": "float three = {3}",
    "one": "float one = {1}",
    "half": "float half = {0.5}",
    "minus_half": "float minus_half = {-0.5}",
    "minus_one": "float minus_one = {-1}",
    "eight": "float eight = {8}",
    "eighth": "float eighth = {0.125}",
    "floor": "float floor = {0.3}",
    "last": "int64[1] last = {-1}",
    "scale": "float[8] scale = {1.5, -0.7, 0.3, 2.1, -1.2, 0.9, 1.1, 0.4}",
}
_DIMS = {"b": 3, "s": 5}


def build(
    body: str, *, inputs: str = "float[b,s,8] x", outputs: str = "float[b,s,8] y", opset: int = 18
) -> onnx.ModelProto:
    """A model of `body`, in ONNX text; constants named above are declared where it uses them."""
    names = set(re.findall(r"\w+", body)) - set(re.findall(r"(\w+)\s*=", body))
    initializers = ", ".join(text for name, text in _INITIALIZERS.items() if name in names and f" {name}" not in inputs)
    header = f'<ir_version: 8, opset_import: ["" : {opset}, "com.microsoft" : 1]>'
    declared = f" <{initializers}>" if initializers else ""
    return onnx.parser.parse_model(f"{header} g ({inputs}) => ({outputs}){declared} {{ {body} }}")


def feeds_of(model: onnx.ModelProto, seed: int = 0) -> dict[str, Any]:
    """Random numbers with an outlier channel, rows of all magnitudes around the epsilon, and a zero row."""
    generator = np.random.default_rng(seed)
    feeds = {}
    for value in model.graph.input:
        tensor = value.type.tensor_type
        shape = [_DIMS.get(dim.dim_param, dim.dim_value) or 2 for dim in tensor.shape.dim]
        dtype = ir.DataType(tensor.elem_type).numpy()
        if dtype.kind in "iu":
            feeds[value.name] = generator.integers(0, 2, shape).astype(dtype)
            continue
        array = generator.standard_normal(shape)
        if len(shape) > 1:
            array[..., 0] *= 30
            array *= 10.0 ** generator.integers(-3, 2, [*shape[:-1], 1])
            array.reshape(-1, shape[-1])[-1] = 0
        feeds[value.name] = array.astype(dtype)
    return feeds


def run(model: onnx.ModelProto, feeds: dict[str, Any]) -> list[Any]:
    """ONNX Runtime without optimisation; onnx's own evaluator where half types occur.

    ONNX Runtime's CPU provider computes float16 in float32, drops pairs of casts as it does so even when unoptimised,
    and so loses the order of rounding that is to be compared. It has no bfloat16 at all.
    """
    native = any(node.op_type == "SimplifiedLayerNormalization" for node in model.graph.node)
    half = (onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16)
    if not native and any(
        value.type.tensor_type.elem_type in half for value in (*model.graph.input, *model.graph.output)
    ):
        return list(onnx.reference.ReferenceEvaluator(model).run(None, feeds))
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return list(session.run(None, feeds))


def assert_equal(actual: list[Any], expected: list[Any], *, through_layers: bool = False) -> None:
    """Equal up to the order in which float32 statistics are rounded.

    Div by a root, and Mul by its reciprocal, differ by three roundings of float32: 4 ulp with the scale. In a half type
    that difference is far below one ulp. It changes an element only where it crosses a rounding boundary: by 2 ulp at
    most after the scale, and in few elements; the wrong order of rounding and scaling changes about a quarter of them.

    `through_layers`: matrix products follow, which turn an error of one element into one of the size of the largest. A
    float32 norm is off by 4 eps at most, a half type by one rounding in few elements: 16 eps of the largest bound a few
    layers of either.
    """
    assert len(actual) == len(expected)
    for a, e in zip(actual, expected, strict=True):
        assert a.dtype == e.dtype
        assert a.shape == e.shape
        if a.dtype.kind in "iub":
            np.testing.assert_array_equal(a, e)
            continue
        if through_layers:
            wide_a, wide_e = a.astype(np.float64), e.astype(np.float64)
            tolerance = 16 * float(ml_dtypes.finfo(a.dtype).eps) * np.abs(wide_e).max(initial=0)
            np.testing.assert_allclose(wide_a, wide_e, rtol=0, atol=tolerance)
            continue
        distance = ulp_distance(np.ascontiguousarray(a), np.ascontiguousarray(e))
        assert distance.max(initial=0) <= (4 if a.dtype.itemsize == 4 else 2)
        if a.dtype.itemsize == 2:
            assert np.count_nonzero(distance) <= max(1, a.size // 50)


def check(
    model: onnx.ModelProto,
    *,
    norms: int = 1,
    near_misses: int = 0,
    feeds: dict[str, Any] | None = None,
    through_layers: bool = False,
    **parts: bool,
) -> FusionResult:
    """Fuse `model`: so many norms, a valid graph, the same signature, the same numbers, and nothing to do again.

    `parts`: those of `fuse`, such as `residual`.
    """
    result = fuse(model, **parts)
    fused = ir.to_proto(result.model)
    assert len(result.norms) == norms, (result.norms, result.near_misses)
    assert len(result.near_misses) == near_misses, result.near_misses
    schemas.register()
    onnx.checker.check_model(fused, full_check=True)
    onnx.shape_inference.infer_shapes(fused, check_type=True, strict_mode=True, data_prop=True)
    assert list(fused.graph.input) == list(model.graph.input)
    assert [value.name for value in fused.graph.output] == [value.name for value in model.graph.output]
    feeds = feeds_of(model) if feeds is None else feeds
    expected = run(model, feeds)
    assert_equal(run(fused, feeds), expected, through_layers=through_layers)
    if {node.op_type for node in fused.graph.node} <= set(OPS):
        kernel = list(runtime.run(runtime.session(fused), feeds).values())
        assert_equal(kernel, expected, through_layers=through_layers)
    again = fuse(fused, **parts)
    assert not again.norms
    assert ir.to_proto(again.model).SerializeToString(deterministic=True) == fused.SerializeToString(deterministic=True)
    return result


def near_miss(model: onnx.ModelProto, *, piece: str, reason: str) -> None:
    """Nothing is fused, nothing is changed, and the first near miss says why."""
    before = ir.to_proto(ir.from_proto(model)).SerializeToString(deterministic=True)
    result = fuse(model)
    assert not result.norms
    assert result.near_misses, "no near miss"
    assert result.near_misses[0].piece == piece, result.near_misses
    assert reason in result.near_misses[0].reason, result.near_misses
    assert ir.to_proto(result.model).SerializeToString(deterministic=True) == before


def check_written(path: Path, original: Path | onnx.ModelProto | None = None) -> None:
    """A file that this package wrote: onnx's checker passes it, shapes included, and ONNX Runtime loads it.

    Where ONNX Runtime does not load `original`, for a domain that it does not know, it need not load the file.
    """
    schemas.register()
    onnx.checker.check_model(path, full_check=True)
    if original is None or loads(original):
        assert loads(path), f"ONNX Runtime loads the original, and not {path}"


def loads(model: Path | onnx.ModelProto) -> bool:
    """Whether ONNX Runtime does, with our library where it is needed."""
    try:
        runtime.session(model, threads=1)
    except RmsDeployError:
        return False
    return True


@pytest.fixture(name="check_written")
def _check_written():
    return check_written


@pytest.fixture(name="build")
def _build():
    return build


@pytest.fixture(name="check")
def _check():
    return check


@pytest.fixture(name="near_miss")
def _near_miss():
    return near_miss


@pytest.fixture(name="run")
def _run():
    return run


@pytest.fixture(name="feeds_of")
def _feeds_of():
    return feeds_of


@pytest.fixture(name="assert_equal")
def _assert_equal():
    return assert_equal

"""The ops inside graphs: shape inference, optional outputs, reused memory, threads, and what lies around the output."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper

from rms_deploy.errors import RunError
from rms_deploy.ops import contract
from rms_deploy.ops.reference import rms_norm
from rms_deploy.runtime import onnxruntime_session as runtime

from .one_node import assert_close, element_type, model_of, node_model, run_node, samples, weights


def norm(op, inputs, outputs, **attributes):
    return helper.make_node(op, inputs, outputs, domain=contract.DOMAIN, **attributes)


def two_norms(shape, dtype=TensorProto.FLOAT, extra=(), outputs=("Z",)):
    """Z = RMSNorm(Y), where Y, Sum = AddRMSNorm(X, R)."""
    scale = helper.make_tensor("scale", TensorProto.FLOAT, [64], np.ones(64, np.float32).tobytes(), raw=True)
    nodes = [norm("AddRMSNorm", ["X", "R", "scale"], ["Y", "Sum"]), norm("RMSNorm", ["Y", "scale"], ["Z"]), *extra]
    inputs = [helper.make_tensor_value_info(name, dtype, shape) for name in ("X", "R")]
    results = [helper.make_value_info(name, onnx.TypeProto()) for name in outputs]
    return model_of(helper.make_graph(nodes, "two_norms", inputs, results, [scale]))


@pytest.mark.parametrize("dtype", contract.ELEMENT_TYPES.values(), ids=contract.ELEMENT_TYPES)
@pytest.mark.parametrize("shape", [[2, 3, 64], ["batch", "sequence", 64], ["batch", 4, 64]], ids=str)
def test_types_and_shapes_of_the_outputs_are_known(shape, dtype):
    session = runtime.session(two_norms(shape, dtype, outputs=("Z", "Sum")))
    expected = {1: "tensor(float)", 10: "tensor(float16)", 16: "tensor(bfloat16)"}[dtype]
    assert [(v.type, v.shape) for v in session.get_outputs()] == [(expected, shape)] * 2


def test_an_unnamed_dimension_stays_unknown():
    z = runtime.session(two_norms([None, 4, 64])).get_outputs()[0]
    assert z.shape[1:] == [4, 64]
    assert not isinstance(z.shape[0], int)


def test_an_unknown_rank_stays_unknown():
    x = samples((2, 64), "float32")
    session = runtime.session(two_norms(None))
    assert runtime.run(session, {"X": x, "R": x})["Z"].shape == (2, 64)


def test_a_known_shape_folds_what_depends_on_it(tmp_path):
    extra = [helper.make_node("Shape", ["Z"], ["size"])]
    model = two_norms([2, 3, 64], extra=extra, outputs=("size", "Z"))
    runtime.session(model, optimized_path=tmp_path / "optimized.onnx")
    optimized = onnx.load(tmp_path / "optimized.onnx")
    assert [node.op_type for node in optimized.graph.node] == ["AddRMSNorm", "RMSNorm"]


@pytest.mark.parametrize("outputs", [["Y"], ["Y", ""]], ids=["left-out", "unnamed"])
def test_a_sum_that_is_left_out_is_refused(outputs):
    """ONNX Runtime writes past the end of the outputs when a shape function sets one that the node does not have."""
    x, scale = samples((2, 35), "float32"), weights((35,), "float32")
    with pytest.raises(RunError, match="AddRMSNorm"):
        run_node("AddRMSNorm", {"X": x, "R": x, "scale": scale}, outputs=outputs)


@pytest.mark.parametrize("shape", [(40, 257), (3, 96, 7)], ids=["rows", "columns"])
def test_memory_that_is_reused(types, shape):
    """A chain whose buffers ONNX Runtime may share between inputs and outputs, the same tensor twice among them."""
    axes, scale = [1], weights(shape[1:2] + (1,) * (len(shape) - 2), types[1])
    x = samples(shape, types[0])
    kind = element_type(x.dtype)
    nodes = [
        helper.make_node("Neg", ["X"], ["A"]),  # a value that is not an input of the graph
        norm("RMSNorm", ["A", "scale"], ["B"], axes=axes),
        norm("AddRMSNorm", ["B", "B", "scale"], ["C", "S"], axes=axes),
        norm("AddRMSNorm", ["C", "S", "scale"], ["D", "S2"], axes=axes),
        norm("AddRMSNorm", ["D", "S2", "scale"], ["E", "S3"], axes=axes),
        norm("PartialRMSNorm", ["E", "scale"], ["Y"], axes=axes, partial_size=11),
    ]
    if types[0] == "bfloat16":  # the CPU provider has no Neg for it
        nodes[0] = helper.make_node("Identity", ["X"], ["A"])
    graph = helper.make_graph(
        nodes,
        "chain",
        [
            helper.make_tensor_value_info("X", kind, shape),
            helper.make_tensor_value_info("scale", element_type(scale.dtype), scale.shape),
        ],
        [helper.make_tensor_value_info("Y", kind, shape)],
    )
    y = runtime.run(runtime.session(model_of(graph), threads=1), {"X": x, "scale": scale})["Y"]

    def one(op, names=("Y",), **inputs):
        partial = {"partial_size": 11} if op == "PartialRMSNorm" else {}
        out = run_node(op, {**inputs, "scale": scale}, axes=axes, **partial)
        return [out[name] for name in names]

    (b,) = one("RMSNorm", X=x if types[0] == "bfloat16" else -x)
    c, s = one("AddRMSNorm", ("Y", "Sum"), X=b, R=b)
    d, s2 = one("AddRMSNorm", ("Y", "Sum"), X=c, R=s)
    (e,) = one("AddRMSNorm", X=d, R=s2)
    assert y.tobytes() == one("PartialRMSNorm", X=e)[0].tobytes()


@pytest.mark.parametrize("shape", [(1000, 129), (5, 40_000), (3, 50, 900)], ids=str)
@pytest.mark.parametrize("op", ["RMSNorm", "AddRMSNorm"])
def test_any_number_of_threads_gives_the_same_bits(types, shape, op):
    x = samples(shape, types[0])
    scale = weights(shape[1:2] + (1,) * (len(shape) - 2), types[1])
    inputs = {"X": x, **({"R": x[::-1].copy()} if op == "AddRMSNorm" else {}), "scale": scale}
    results = [run_node(op, inputs, axes=[1], threads=threads) for threads in (1, 2, 3)]
    for name in results[0]:
        assert len({result[name].tobytes() for result in results}) == 1
    first = inputs["X"] if op == "RMSNorm" else results[0]["Sum"]
    assert_close(results[0]["Y"], rms_norm(first, scale, axes=[1]))


@pytest.mark.parametrize("offset", [1, 2, 3, 5, 7])
@pytest.mark.parametrize("dtype", [np.float32, np.float16], ids=["float32", "float16"])
@pytest.mark.parametrize(("shape", "axes"), [((3, 45), [1]), ((2, 11, 21), [1])], ids=["rows", "columns"])
def test_misaligned_memory_with_sentinels_around_it(shape, axes, dtype, offset):
    """Inputs and output lie at odd addresses of larger arrays; nothing around the output is written."""
    size = int(np.prod(shape))
    source, target = np.full(size + 16, np.nan, dtype), np.full(size + 16, 7, dtype)
    x = source[offset : offset + size].reshape(shape)
    x[:] = samples(shape, np.dtype(dtype).name)
    scale = weights(shape[1:2] + (1,) * (len(shape) - 2), "float32")
    session = runtime.session(node_model("RMSNorm", {"X": x, "scale": scale}, axes=axes), threads=1)
    binding = session.io_binding()
    binding.bind_ortvalue_input("X", ort.OrtValue.ortvalue_from_numpy(x))
    binding.bind_ortvalue_input("scale", ort.OrtValue.ortvalue_from_numpy(scale))
    out = target[offset : offset + size].reshape(shape)
    binding.bind_ortvalue_output("Y", ort.OrtValue.ortvalue_from_numpy(out))
    session.run_with_iobinding(binding)
    assert_close(out, rms_norm(x, scale, axes=axes))
    assert (target[:offset] == 7).all()
    assert (target[offset + size :] == 7).all()

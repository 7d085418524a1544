"""What other tools leave of a fused file: `fuse` mends it, `inspect` says so, `unfuse` and `verify` take it."""

from __future__ import annotations

import json

import numpy as np
import onnx
import onnx.compose
import onnx_ir as ir
import onnxruntime as ort
import pytest
from click.testing import CliRunner

from rms_deploy import onnxruntime_library
from rms_deploy.cli.main import rms_deploy
from rms_deploy.errors import InputError
from rms_deploy.fusion.fuse import fuse
from rms_deploy.fusion.inspect import inspect
from rms_deploy.fusion.unfuse import unfuse
from rms_deploy.ops.functions import attach_functions
from rms_deploy.verification.verify import verify

TEXT = """<ir_version: 10, opset_import: ["": 20, "rms_deploy": 1]>
g (float[b,8] x, float[b,8] r, float[8] w) => (float[b,8] y) {
    n, s = rms_deploy.AddRMSNorm (x, r, w)
    y = rms_deploy.RMSNorm (n, w)
}"""
OLD_BODY = """<domain: "rms_deploy", opset_import: ["" : 20]>
RMSNorm <axes, epsilon, rms_epsilon, rms_min, scale_type> (X, scale) => (Y) {
    Two = Constant <value_float = 2.0> ()
    Square = Pow (X, Two)
    Axes = Constant <value_ints: ints = @axes> ()
    MeanSquare = ReduceMean <keepdims = 1> (Square, Axes)
    Epsilon = Constant <value_float: float = @epsilon> ()
    Biased = Add (MeanSquare, Epsilon)
    Root0 = Sqrt (Biased)
    Normed = Div (X, Root0)
    Y = Mul (Normed, scale)
}"""


def fused():
    model = ir.from_onnx_text(TEXT)
    attach_functions(model)
    return ir.to_proto(model)


def without_bodies(model):
    del model.functions[:]


def raised(model):
    model.opset_import[0].version = 21


def pruned(model):
    del model.graph.node[0].output[1]


def prefixed(model):
    model.CopyFrom(onnx.compose.add_prefix(model, "a_", rename_inputs=False, rename_outputs=False))


def in_half_with_an_old_body(model):
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.elem_type = onnx.TensorProto.FLOAT16
    with_an_old_body(model)


def with_an_old_body(model):
    (index,) = [index for index, function in enumerate(model.functions) if function.name == "RMSNorm"]
    model.functions[index].CopyFrom(onnx.parser.parse_function(OLD_BODY))


NO_BODY = "runs only with the library (2 norms): no body"
FAULTS = {
    without_bodies: [NO_BODY],
    raised: ["runs only with the library (2 norms): a body of opset 20 in a model of opset 21"],
    pruned: ["the library does not take it (1 norm): without its Sum"],
    prefixed: [
        "the library does not take it (1 norm): called a_AddRMSNorm",
        "the library does not take it (1 norm): called a_RMSNorm",
    ],
    in_half_with_an_old_body: ["runs only with the library (1 norm): a body that does not take float16"],
}


@pytest.fixture(params=FAULTS, ids=lambda break_it: break_it.__name__)
def break_it(request):
    return request.param


@pytest.fixture
def path(break_it, tmp_path):
    model = fused()
    break_it(model)
    onnx.save(model, tmp_path / "broken.onnx")
    return tmp_path / "broken.onnx"


def outputs(model, *, library):
    options = ort.SessionOptions()
    options.log_severity_level = 4
    if library:
        options.register_custom_ops_library(str(onnxruntime_library()))
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    generator = np.random.default_rng(0)
    dtype = np.float16 if "16" in session.get_inputs()[0].type else np.float32
    feeds = {name: generator.standard_normal(shape).astype(dtype) for name, shape in (("x", (3, 8)), ("r", (3, 8)))}
    return session.run(None, {**feeds, "w": np.linspace(0.5, 2, 8, dtype=dtype)})


def test_fuse_mends_it(path, tmp_path):
    result = fuse(path, tmp_path / "mended.onnx")
    assert (len(result.norms), len(result.fused_before)) == (0, 2)
    assert result.repairs
    onnx.checker.check_model(tmp_path / "mended.onnx", full_check=True)
    (expected,) = outputs(fused().SerializeToString(), library=False)
    for library in (False, True):
        (y,) = outputs(tmp_path / "mended.onnx", library=library)
        # float32: the sum of 8 squares in another order; float16: X, R and scale are rounded, and so is Y.
        np.testing.assert_allclose(y, expected, rtol=4e-6 if y.dtype == np.float32 else 4e-3)
    again = fuse(tmp_path / "mended.onnx", tmp_path / "again.onnx")
    assert not again.repairs
    assert (tmp_path / "again.onnx").read_bytes() == (tmp_path / "mended.onnx").read_bytes()


def test_a_body_of_another_version_is_written_anew(tmp_path):
    model = fused()
    with_an_old_body(model)
    onnx.save(model, tmp_path / "old.onnx")
    assert inspect(tmp_path / "old.onnx").faults == ()
    assert len(unfuse(tmp_path / "old.onnx").norms) == 2
    result = fuse(tmp_path / "old.onnx", tmp_path / "new.onnx")
    assert result.repairs == ("2 norms: a body that another version wrote",)
    assert {f.name: f for f in onnx.load(tmp_path / "new.onnx").functions} == {f.name: f for f in fused().functions}
    assert fuse(tmp_path / "new.onnx").repairs == ()


def test_inspect_says_it(break_it, path):
    found = inspect(path)
    assert list(found.faults) == FAULTS[break_it]
    assert sum(norm.note.endswith("; fuse the model again") for norm in found.norms) == len(
        {norm.node for norm in found.norms if norm.note}
    )
    assert inspect(fuse(path).model).faults == ()


def test_unfuse_takes_it(path, tmp_path):
    assert len(unfuse(path, tmp_path / "unfused.onnx").norms) == 2
    assert outputs(tmp_path / "unfused.onnx", library=False)


def test_verify_takes_what_is_mended(path, tmp_path):
    fuse(path, tmp_path / "mended.onnx")
    unfuse(path, tmp_path / "unfused.onnx")
    assert verify(tmp_path / "unfused.onnx", tmp_path / "mended.onnx").passed


@pytest.mark.parametrize("break_it", [without_bodies, raised, in_half_with_an_old_body], indirect=True)
def test_verify_takes_it_with_the_library(path, tmp_path):
    unfuse(path, tmp_path / "unfused.onnx")
    assert verify(tmp_path / "unfused.onnx", path).passed
    assert verify(path, tmp_path / "unfused.onnx").passed


@pytest.mark.parametrize("break_it", [pruned], indirect=True)
def test_what_no_runtime_takes_is_one_line(path):
    done = CliRunner().invoke(rms_deploy, ["verify", str(path), str(path)], catch_exceptions=False)
    assert done.exit_code == 1
    assert "AddRMSNorm" in done.stderr


@pytest.mark.parametrize("break_it", [without_bodies], indirect=True)
def test_the_commands(path, tmp_path):
    def invoke(*arguments):
        done = CliRunner().invoke(rms_deploy, [*map(str, arguments)], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return done.stdout

    assert f"{NO_BODY}; rms-deploy fuse mends it" in invoke("inspect", path)
    assert json.loads(invoke("inspect", path, "--json"))["faults"] == [NO_BODY]
    assert json.loads(invoke("fuse", path, "-o", tmp_path / "out.onnx", "--json"))["repairs"] == ["2 norms: no body"]
    assert "mended 2 norms: no body" in invoke("fuse", path, "-o", tmp_path / "out.onnx")
    assert "mends" not in invoke("inspect", tmp_path / "out.onnx")


REFERENCE = """<ir_version: 9, opset_import: ["": 20, "rms_deploy": 1, "own": 1]>
g (float[2,3,8] x, float[8] w) => (float[2,3,8] y) {{ y = own.F <value = {value}> (x, w) }}
<domain: "own", opset_import: ["": 20, "rms_deploy": 1]>
F <value> (x, w) => (y) {{ y = rms_deploy.{op} <{kind} = @value> (x, w) }}"""


@pytest.mark.parametrize(
    ("op", "kind", "value"),
    [
        ("RMSNorm", "epsilon: float", "0.5"),
        ("RMSNorm", "rms_min: float", "4.0"),
        ("RMSNorm", "axes: ints", "[1, 2]"),
        ("PartialRMSNorm", "partial_size = 12, axes: ints", "[1, 2]"),
    ],
)
def test_an_attribute_of_the_function_around_a_norm(op, kind, value):
    """Each call may set it: a body can follow it, and what has to have its value says so."""
    model = onnx.parser.parse_model(REFERENCE.format(op=op, kind=kind, value=value))
    mended = fuse(model).model
    x = np.random.default_rng(0).standard_normal((2, 3, 8)).astype(np.float32)
    axes = (1, 2) if "axes" in kind else (2,)
    first = x.reshape(2, -1)[:, :12] if op == "PartialRMSNorm" else x
    mean = np.mean(first**2, axis=-1 if op == "PartialRMSNorm" else axes, keepdims=True).reshape(2, -1, 1)
    root = np.sqrt(mean + (0.5 if "epsilon" in kind else 1e-6))
    expected = x / np.maximum(root, 4.0 if "min" in kind else 0)
    session = ort.InferenceSession(ir.to_proto(mended).SerializeToString(), providers=["CPUExecutionProvider"])
    (y,) = session.run(None, {"x": x, "w": np.ones(8, np.float32)})
    np.testing.assert_allclose(y, expected, rtol=4e-6)  # sums of at most 24 squares in another order
    with pytest.raises(InputError, match="is an attribute of the function around it"):
        unfuse(model)

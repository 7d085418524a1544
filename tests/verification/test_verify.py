"""Equal models are proven equal; each kind of wrong one is found out."""

from __future__ import annotations

import json
import weakref
from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import onnx_ir as ir
import pytest

from rms_deploy.errors import InputError, ModelFileError, RunError
from rms_deploy.fusion.unfuse import unfuse
from rms_deploy.onnx_model.file import save_model
from rms_deploy.ops.functions import attach_functions
from rms_deploy.runtime import onnxruntime_session as onnxruntime
from rms_deploy.runtime import tensorrt_session as tensorrt
from rms_deploy.verification import verify as verification
from rms_deploy.verification.checks import _verdict
from rms_deploy.verification.difference import difference
from rms_deploy.verification.tolerance import tolerance_for
from rms_deploy.verification.verify import verify

CODES = {"float": 1, "float16": 10, "bfloat16": 16}
SCALE = (
    "<float[8] w = {1.5, -0.7, 0.3, 2.1, -1.2, 0.9, 1.1, 0.4}, float[8] v = {-0.7, 1.5, 0.3, 2.1, -1.2, 0.9, 1.1, 0.4},"
    " bfloat16 one = {16256}>"  # the bits of 1
)
DECOMPOSED = """
    wide = Cast<to=1>(x) two = Constant<value_float=2.0>() square = Pow(wide, two)
    axes = Constant<value_ints=[-1]>() mean = ReduceMean<keepdims=1>(square, axes)
    epsilon = Constant<value_float=1e-6>() biased = Add(mean, epsilon) root = Sqrt(biased)
    normed = Div(wide, root) scaled = Mul(normed, w) y = Cast<to={code}>(scaled)
"""
FUSED = "y = rms_deploy.RMSNorm<epsilon=1e-6>(x, w)"


def write(path: Path, body: str, *, dtype: str = "float", inputs: str = "", function: bool = True) -> Path:
    header = '<ir_version: 8, opset_import: ["" : 18, "rms_deploy" : 1]>'
    inputs = inputs or f"{dtype}[batch,seq,8] x"
    code = CODES[dtype]
    text = f"{header} g ({inputs}) => ({dtype}[batch,seq,8] y) {SCALE} {{ {body.format(code=code)} }}"
    model = ir.from_proto(onnx.parser.parse_model(text))
    if function:
        attach_functions(model)
    save_model(model, path)
    return path


@pytest.fixture(params=CODES)
def pair(request, tmp_path):
    """A decomposed norm and a writer of candidates, in each dtype."""
    reference = write(tmp_path / "a.onnx", DECOMPOSED, dtype=request.param)
    return reference, lambda body: write(tmp_path / "b.onnx", body, dtype=request.param), request.param


@pytest.mark.parametrize("library", [True, False])
def test_a_fused_twin_is_equal_for_every_kind_of_input(pair, library):
    reference, candidate, dtype = pair
    result = verify(reference, candidate(FUSED), library=library)
    assert result.passed, result.worst
    assert [check.kind for check in result.checks] == ["normal", "outlier", "tiny", "huge"]
    for check in result.checks:
        assert check.difference.elements == check.difference.finite == 2 * 16 * 8
        # One rounding of the output is off by 0.29 eps; three times that is more than any order of float32 sums adds.
        eps = {"float": 2**-23, "float16": 2**-10, "bfloat16": 2**-7}[dtype]
        assert check.candidate_error is not None
        assert check.candidate_error.relative_l2 < eps
    assert result.reference_run == "as it is, unoptimised"
    assert result.truth == "the reference in float64"
    json.dumps(result.to_dict(), allow_nan=False)


@pytest.mark.parametrize(
    "body",
    [
        "y = rms_deploy.RMSNorm<epsilon=1e-5>(x, w)",
        "y = rms_deploy.RMSNorm<epsilon=1.1e-6>(x, w)",
        "y = rms_deploy.RMSNorm<epsilon=1e-6>(x, v)",
        "y = rms_deploy.PartialRMSNorm<epsilon=1e-6, partial_size=7>(x, w)",
        "y = rms_deploy.RMSNorm<epsilon=0.0, rms_epsilon=1e-6>(x, w)",
    ],
)
def test_a_wrong_norm_is_not_equal(pair, body):
    reference, candidate, _ = pair
    result = verify(reference, candidate(body))
    assert not result.passed
    assert not result.worst.passed
    assert result.worst.difference.relative_l2 > result.tolerance


ROUNDED_SCALE = FUSED.replace("1e-6", "1e-6, scale_type=16")


@pytest.mark.parametrize("body", [ROUNDED_SCALE, ROUNDED_SCALE.replace("1e-6", "1e-5")])
def test_bfloat16_without_a_kernel_is_compared_in_float32(tmp_path, body):
    """ONNX Runtime's CPU provider has no bfloat16 Mul: the reference cannot run as it is, the candidate can or not."""
    low = DECOMPOSED.replace("scaled =", "low = Cast<to=16>(normed) v16 = Cast<to=16>(w) y = Mul(low, v16) unused =")
    reference = write(tmp_path / "a.onnx", low.replace("y = Cast<to={code}>(scaled)", ""), dtype="bfloat16")
    candidate = write(tmp_path / "b.onnx", body, dtype="bfloat16")
    result = verify(reference, candidate)
    assert result.reference_run.startswith("upcast to float32")
    assert result.candidate_run == "optimised, with our library"
    assert result.tolerance_origin.startswith("4 eps(bfloat16)")
    assert result.passed == (body == ROUNDED_SCALE)
    candidate = write(tmp_path / "c.onnx", body.replace("y =", "z =") + " y = Mul(z, one)", dtype="bfloat16")
    result = verify(reference, candidate)
    assert result.candidate_run.startswith("upcast to float32")
    assert result.tolerance_origin.startswith("4 eps(float32)")
    assert result.passed == (body == ROUNDED_SCALE)


def rows(first: str, second: str) -> str:
    return f"rows = Constant<value = float[2,8] {{{{{first}, {second}}}}}>()"


@pytest.mark.parametrize("is_swapped", [False, True])
def test_a_scale_of_several_rows(tmp_path, is_swapped):
    """A row in the place of another is found."""
    one, other = "1.5, -0.7, 0.3, 2.1, -1.2, 0.9, 1.1, 0.4", "0.4, 1.1, 0.9, -1.2, 2.1, 0.3, -0.7, 1.5"
    decomposed = DECOMPOSED.replace("normed, w", "normed, rows")
    fused = FUSED.replace("w)", "rows)")
    inputs = "float[batch,2,8] x"
    reference = write(tmp_path / "a.onnx", f"{rows(one, other)} {decomposed}", inputs=inputs)
    weights = rows(other, one) if is_swapped else rows(one, other)
    result = verify(reference, write(tmp_path / "b.onnx", f"{weights} {fused}", inputs=inputs))
    assert result.passed != is_swapped


def test_a_nan_where_the_reference_has_none_is_not_equal(tmp_path):
    reference = write(tmp_path / "a.onnx", DECOMPOSED)
    body = FUSED.replace("y =", "z =") + (
        " c = Constant<value_float=3.0>() nan = Constant<value_float=-1.0>() r = Sqrt(nan)"
        " big = Greater(z, c) y = Where(big, r, z)"
    )
    result = verify(reference, write(tmp_path / "b.onnx", body))
    assert not result.passed
    assert result.worst.difference.nonfinite_mismatches > 0
    assert "NaN or infinite where the other is not" in result.worst.note


def test_two_models_that_give_nothing_but_nan_prove_nothing(tmp_path):
    body = "z = Sub(x, x) y = Div(z, z)"
    result = verify(write(tmp_path / "a.onnx", body), write(tmp_path / "b.onnx", body))
    assert not result.passed
    assert result.checks[0].note == "no element is finite: nothing is proven"


def test_a_reference_that_overflows_is_not_the_measure(tmp_path):
    """It normalises 10000 x, whose squares overflow float32 for huge x: there it divides by infinity and gives 0."""
    body = (
        DECOMPOSED.replace("Pow(wide, two)", "Mul(s, s)")
        .replace("square =", "factor = Constant<value_float=1e4>() s = Mul(wide, factor) square =")
        .replace("normed = Div(wide, root)", "normed = Div(s, root)")
    )
    result = verify(
        write(tmp_path / "a.onnx", body), write(tmp_path / "b.onnx", "y = rms_deploy.RMSNorm<epsilon=1e-14>(x, w)")
    )
    checks = {check.kind: check for check in result.checks}
    assert checks["huge"].passed
    assert "the reference is further than the tolerance from the truth" in checks["huge"].note
    assert checks["normal"].passed
    assert not checks["normal"].note


@pytest.mark.parametrize(
    ("to_reference", "reference_error", "candidate_error", "passed"),
    [
        (1, 0, 0, True),
        (1, 9, 9, True),
        (2, 9, 1, True),
        (2, 9, 9, False),
        (2, 1, 1, False),
        (2, None, None, False),
    ],
)
def test_the_truth_decides_only_where_the_reference_is_off(to_reference, reference_error, candidate_error, passed):
    """The tolerance is 1; the truth is 0."""

    def at(distance):
        return None if distance is None else difference(np.array([1.0 + distance]), np.array([1.0]))

    assert (
        _verdict("huge", at(to_reference), at(reference_error), at(candidate_error), lambda found: found.within(1.0))[0]
        == passed
    )


def test_an_untyped_constant_is_no_rounding_to_bfloat16(tmp_path):
    """Without value_info, the product of two constants says no type: it is float32 all the same."""
    body = "a = Constant<value_float=2.0>() b = Constant<value_float={}>() c = Mul(a, b) y = Mul(x, c)"
    reference, wrong = tmp_path / "a.onnx", tmp_path / "b.onnx"
    for path, factor in ((reference, 3.0), (wrong, 3.01)):
        text = (
            f'<ir_version: 8, opset_import: ["" : 18]> g (float[2,8] x) => (float[2,8] y) {{ {body.format(factor)} }}'
        )
        onnx.save(onnx.parser.parse_model(text), path)
    result = verify(reference, wrong)
    assert not result.passed
    assert result.tolerance_origin == "4 eps(float32) sqrt(2 roundings in a row)"
    assert verify(reference, reference).passed


def test_an_integer_output_must_be_equal(tmp_path):
    text = '<ir_version: 8, opset_import: ["" : 18]> g (float[4,8] x) => (int64[4,1] y) {{ y = {}<axis=1>(x) }}'
    paths = []
    for op in ("ArgMax", "ArgMin"):
        paths.append(tmp_path / f"{op}.onnx")
        onnx.save(onnx.parser.parse_model(text.format(op)), paths[-1])
    assert verify(paths[0], paths[0]).passed
    assert not verify(paths[0], paths[1], tolerance=100).passed


QUANTIZED = """<ir_version: 9, opset_import: ["" : 20, "rms_deploy" : 1]> g (float[4,8] x) => (TYPE[4,8] y)
    <float[8] w = {1.5, -0.7, 0.3, 2.1, -1.2, 0.9, 1.1, 0.4}>
    { y = rms_deploy.RMSNormQuantize <epsilon = EPSILON, y_scale = 0.02, output_dtype = CODE> (x, w) }"""


@pytest.mark.parametrize(("name", "code"), [("int8", 3), ("float8e4m3fn", 17)])
def test_a_quantised_output_is_compared_in_codes_and_in_float64(name, code, tmp_path):
    text = QUANTIZED.replace("TYPE", name).replace("CODE", str(code))
    paths = []
    for epsilon in ("0.001", "0.01"):
        model = ir.from_proto(onnx.parser.parse_model(text.replace("EPSILON", epsilon)))
        attach_functions(model)
        paths.append(tmp_path / f"{epsilon}.onnx")
        save_model(model, paths[-1])
    unfused = tmp_path / "unfused.onnx"
    unfuse(paths[0], unfused)
    result = verify(unfused, paths[0], library=False)
    assert result.passed
    assert result.is_complete
    assert result.formula.endswith("QuantizeLinear in float32")
    assert not verify(unfused, paths[1], library=False).passed


def test_a_tipped_code_is_explained(tmp_path):
    """A scale that is off by 2^-20 tips a code here and there; one that is off by a hundredth does not pass."""
    text = QUANTIZED.replace("TYPE", "float").replace("CODE", "3").replace("EPSILON", "0.001")
    text = text.replace("y = rms_deploy", "q = rms_deploy").replace("(x, w) }", "(x, v) y = Cast <to = 1> (q) }")
    text = text.replace("{ q =", "{ v = Mul (w, f) q =").replace("<float[8] w", "<float f = {FACTOR}, float[8] w")
    paths = []
    for factor in ("1", "1.000001", "1.01"):
        model = ir.from_proto(onnx.parser.parse_model(text.replace("FACTOR", factor).replace("[4,8]", "[4096,8]")))
        attach_functions(model)
        paths.append(tmp_path / f"{factor}.onnx")
        save_model(model, paths[-1])
    near, far = (verify(paths[0], path, library=False) for path in paths[1:])
    assert near.tolerance_origin == "4 eps(float32) sqrt(2 roundings in a row), behind 1 quantisation"
    assert all(check.difference.within(near.tolerance) for check in near.checks)
    assert near.worst.difference.relative_l2 > tolerance_for(np.dtype(np.float32), 2)
    assert not any(check.difference.within(far.tolerance) for check in far.checks if check.kind != "tiny")


def test_ids_stay_inside_the_table_and_need_one_kind_only(tmp_path):
    text = (
        '<ir_version: 8, opset_import: ["" : 18]> g (int64[batch,seq] ids) => (float[batch,seq,2] y) '
        "<float[3,2] table = {1, 2, 3, 4, 5, 6}> { y = Gather(table, ids) }"
    )
    onnx.save(onnx.parser.parse_model(text), tmp_path / "a.onnx")
    result = verify(tmp_path / "a.onnx", tmp_path / "a.onnx", dims={"seq": 50})
    assert result.passed
    assert [check.kind for check in result.checks] == ["normal"]
    assert result.shapes == {"ids": (2, 50)}


def test_real_inputs_and_a_given_tolerance(tmp_path):
    reference = write(tmp_path / "a.onnx", DECOMPOSED)
    candidate = write(tmp_path / "b.onnx", FUSED.replace("1e-6", "1e-5"))
    x = np.random.default_rng(0).standard_normal((1, 3, 8)).astype(np.float32)
    np.savez(tmp_path / "in.npz", x=x)
    for inputs in (tmp_path / "in.npz", {"x": x}):
        result = verify(reference, candidate, inputs=inputs)
        assert [check.kind for check in result.checks] == ["given"]
        assert not result.passed
        # The mean square is about 1: 9e-6 more under the root changes it by 4.5e-6.
        assert verify(reference, candidate, inputs=inputs, tolerance=1e-5).passed


def test_the_seed_decides(tmp_path):
    reference, candidate = write(tmp_path / "a.onnx", DECOMPOSED), write(tmp_path / "b.onnx", FUSED)
    first, same, other = (verify(reference, candidate, seed=seed).to_dict() for seed in (0, 0, 1))
    assert first == same
    assert first["checks"] != other["checks"]


def test_what_cannot_be_compared_is_one_line(tmp_path):
    reference = write(tmp_path / "a.onnx", DECOMPOSED)
    half = write(tmp_path / "half.onnx", DECOMPOSED, dtype="float16")
    with pytest.raises(InputError, match=r"input x is float32.* in the first model and float16"):
        verify(reference, half)
    with pytest.raises(InputError, match="inputs differ: x in the first, x, z in the second"):
        verify(reference, write(tmp_path / "more.onnx", DECOMPOSED, inputs="float[batch,seq,8] x, float[1] z"))
    with pytest.raises(InputError, match="tolerance is -1; use 0 or more"):
        verify(reference, reference, tolerance=-1)
    with pytest.raises(InputError, match="leave the shapes out"):
        verify(reference, reference, inputs={}, dims={"batch": 1})
    with pytest.raises(ModelFileError, match="no such file"):
        verify(reference, tmp_path / "missing.onnx")


def test_a_model_that_the_runtime_refuses_is_one_line(tmp_path):
    reference = write(tmp_path / "a.onnx", DECOMPOSED)
    unknown = write(tmp_path / "b.onnx", "y = rms_deploy.Unknown(x)", function=False)
    with pytest.raises(RunError, match="Unknown") as caught:
        verify(reference, unknown)
    assert "\n" not in str(caught.value)
    bare = write(tmp_path / "c.onnx", FUSED, function=False)
    assert verify(reference, bare).passed
    assert verify(bare, reference).passed, "without a function body, the reference needs the library"
    with pytest.raises(RunError, match="RMSNorm"):
        verify(reference, bare, library=False)
    with pytest.raises(RunError, match=r"inputs x \[2, 16, 8\], z \[3\] do not run"):
        body = DECOMPOSED.replace("scaled = Mul(normed, w)", "u = Mul(normed, w) scaled = Add(u, z)")
        path = write(tmp_path / "d.onnx", body, inputs="float[batch,seq,8] x, float[n] z")
        verify(path, path, dims={"n": 3})


def test_an_engine_is_compared_as_it_runs_and_not_as_a_formula(tmp_path, monkeypatch):
    """No engine runs without a GPU: an ONNX Runtime session stands in for its session."""
    reference = write(tmp_path / "a.onnx", DECOMPOSED)
    wrong = write(tmp_path / "wrong.onnx", "y = rms_deploy.RMSNorm<epsilon=0.5>(x, w)")
    for stand_in, passed in ((reference, True), (wrong, False)):
        monkeypatch.setattr(tensorrt, "session", {tmp_path / "a.engine": onnxruntime.session(stand_in)}.get)
        monkeypatch.setattr(tensorrt, "run", onnxruntime.run)
        result = verify(reference, tmp_path / "a.engine")
        assert result.passed == passed
        assert (result.candidate_run, result.formula) == ("as an engine", "not compared: an engine has no float64")


ENDLESS = """<ir_version: 8, opset_import: ["" : 18]> g (float[b,8] x) => (float[b,8] y) <bool yes = {1}> {
    y = Loop (, yes, x) <body = body (int64 i, bool k, float[b,8] a) => (bool j, float[b,8] d)
    { j = Identity (k) d = Identity (a) }> }"""


def test_nothing_of_the_models_as_deployed_is_left_when_the_formulas_are_compared(tmp_path, monkeypatch):
    """Neither a session nor an output as ONNX Runtime gives it, which holds the memory of its session."""
    given, left = [], []

    def session(*args, **options):
        made = make_session(*args, **options)
        given.append(weakref.ref(made))
        return made

    def run(*args):
        outputs = run_session(*args)
        given.extend(map(weakref.ref, outputs.values()))
        return outputs

    def truth_run(*args, **options):
        left.append([reference() is not None for reference in given])
        return make_truth(*args, **options)

    make_session, run_session, make_truth = onnxruntime.session, onnxruntime.run, verification.truth_run
    monkeypatch.setattr(onnxruntime, "session", session)
    monkeypatch.setattr(onnxruntime, "run", run)
    monkeypatch.setattr(verification, "truth_run", truth_run)
    path = write(tmp_path / "a.onnx", DECOMPOSED)
    assert verify(path, path).passed
    assert left == [[False] * 10], "two sessions, and an output for each of four kinds of inputs, twice"


def test_memory_in_which_a_model_does_not_run_is_one_line(tmp_path):
    path = write(tmp_path / "a.onnx", FUSED)
    with pytest.raises(
        InputError, match=r"^`memory` is 9\.3e-08 GiB; ONNX Runtime needs about .+ GiB for the weights of "
    ):
        verify(path, path, memory=100)
    assert verify(path, path, memory=10_000).is_complete


def test_a_model_that_never_ends_is_given_up(tmp_path):
    onnx.save(onnx.parser.parse_model(ENDLESS), tmp_path / "endless.onnx")
    with pytest.raises(RunError, match="did not end within 6 s"):
        verify(tmp_path / "endless.onnx", tmp_path / "endless.onnx", timeout=6)


def test_in_another_process_the_result_is_the_same():
    text = ENDLESS.replace("y = Loop (, yes", "y = Loop (two, yes").replace("bool yes", "int64 two = {2}, bool yes")
    model = onnx.parser.parse_model(text)
    assert verify(model, model, timeout=100).to_dict() == verify(model, model).to_dict()


@pytest.mark.parametrize("timeout", [0, -1, float("nan")])
def test_a_timeout_is_more_than_nothing(timeout):
    model = onnx.parser.parse_model(ENDLESS)
    with pytest.raises(InputError, match="use more than 0 seconds"):
        verify(model, model, timeout=timeout)


def test_another_process_takes_no_models_in_memory():
    model = ir.from_proto(onnx.parser.parse_model(ENDLESS))
    with pytest.raises(InputError, match="files or protos"):
        verify(model, model, timeout=100)


@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_a_server_is_compared_as_it_answers(tmp_path, protocol):
    from ..made_server import Model, serving

    reference = write(tmp_path / "a.onnx", DECOMPOSED)
    wrong = write(tmp_path / "wrong.onnx", "y = rms_deploy.RMSNorm<epsilon=0.5>(x, w)")
    for served, passed in ((reference, True), (wrong, False)):
        session = onnxruntime.session(served)
        model = Model(lambda feeds, session=session: onnxruntime.run(session, feeds), {"x": "FP32"}, {"y": "FP32"})
        with serving(model, protocol) as url:
            result = verify(reference, url)
        assert result.passed == passed
        assert (result.candidate, result.candidate_run) == (url, "by the server")
        assert result.formula == "not compared: a server has no float64"
        assert model.requests == len(result.checks) == 4


def test_another_model_at_an_endpoint_and_no_server(tmp_path):
    from ..made_server import Model, serving

    reference = write(tmp_path / "a.onnx", DECOMPOSED)
    with serving(Model(dict, {"ids": "FP32"}, {"y": "FP32"}), "grpc") as url:
        with pytest.raises(InputError, match=f"the models' inputs differ: x in {reference}, ids at {url}; give the"):
            verify(reference, url)
        with pytest.raises(RunError, match="the server has no model n; it has m, other"):
            verify(reference, url.replace("/m", "/n"))
    with pytest.raises(InputError, match="is no endpoint; write it as grpc://host:port/model"):
        verify(reference, "ftp://h/m")

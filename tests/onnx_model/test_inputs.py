"""Random inputs keep their promises; inputs from a file must fit."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import onnx.parser
import onnx_ir as ir
import pytest

from rms_deploy.errors import InputError
from rms_deploy.onnx_model.inputs import MAGNITUDES, load_inputs, random_inputs, resolve_inputs
from rms_deploy.onnx_model.shapes import resolve_shapes


def model(inputs: str) -> ir.Model:
    text = (
        f'<ir_version: 8, opset_import: ["" : 18]> g ({inputs}) => (float y) '
        "<float[7,1] table = {0,0,0,0,0,0,0}> { y = Gather(table, ids) }"
    )
    return ir.from_proto(onnx.parser.parse_model(text))


def draw(inputs: str, **options):
    graph = model(inputs)
    return random_inputs(graph, resolve_shapes(graph), **options)


def test_the_seed_and_the_name_decide_and_nothing_else():
    few, many = draw("float[4,8] x"), draw("int64[3] ids, float[4,8] z, float[4,8] x")
    np.testing.assert_array_equal(few["x"], many["x"])
    assert not np.array_equal(many["x"], many["z"])
    assert not np.array_equal(few["x"], draw("float[4,8] x", seed=1)["x"])
    np.testing.assert_array_equal(draw("float16[4,8] x")["x"], few["x"].astype(np.float16))


def test_integers_stay_in_the_range_that_their_use_allows():
    feeds = draw(
        "int64[50,40] ids, int64[50,40] attention_mask, bool[50,40] b, int64[2,5] position_ids, int32 n, "
        "uint8[99,9] pixels"
    )
    assert feeds["ids"].min() == 0
    assert feeds["ids"].max() == 6
    for name in ("attention_mask", "b"):
        assert np.unique(feeds[name]).tolist() == [0, 1]
        assert feeds[name][:, 0].all(), "a row that is masked entirely has no softmax"
    assert feeds["position_ids"].tolist() == [[0, 1, 2, 3, 4]] * 2
    assert feeds["n"] == 1
    assert feeds["pixels"].max() > 200
    dtypes = {"ids": "int64", "attention_mask": "int64", "b": "bool", "n": "int32", "pixels": "uint8"}
    assert {name: feeds[name].dtype.name for name in dtypes} == dtypes


@pytest.mark.parametrize("dtype", ["float", "float16", "bfloat16", "double"])
@pytest.mark.parametrize("magnitude", MAGNITUDES)
def test_floats_are_finite_and_of_the_dtype(dtype, magnitude):
    x = draw(f"{dtype}[4,16,256] x", magnitude=magnitude)["x"]
    assert x.dtype.name == {"float": "float32", "double": "float64"}.get(dtype, dtype)
    assert np.isfinite(x.astype(np.float64)).all()
    assert np.count_nonzero(x) > 0.99 * x.size


@pytest.mark.parametrize("magnitude", MAGNITUDES)
def test_a_cache_is_always_normal(magnitude):
    feeds = draw("float[b,4,p,8] past_0_key, float[b,4,p,8] x", magnitude=magnitude)
    assert np.abs(feeds["past_0_key"]).max() < 6
    assert np.abs(feeds["past_0_key"]).mean() == pytest.approx(0.8, abs=0.1)


def test_a_model_with_no_floats_but_a_cache_has_one_magnitude():
    graph = model("int64[3] ids, float[b,4,p,8] past_0_key")
    assert list(resolve_inputs(graph, magnitudes=MAGNITUDES)) == ["normal"]
    assert len(resolve_inputs(model("int64[3] ids, float[b,p,8] past"), magnitudes=MAGNITUDES)) == len(MAGNITUDES)


def test_outliers_are_one_channel():
    size = np.sqrt(np.mean(np.square(draw("float[64,256] x", magnitude="outlier")["x"]), axis=0))
    # The root mean square of 64 normal numbers is 1 with a deviation of 1 / sqrt(128) = 0.09.
    assert np.count_nonzero(size > 500) == 1
    assert np.sort(size)[:-1].max() < 2


def test_tiny_squares_are_below_every_usual_epsilon_but_the_numbers_are_not_subnormal():
    for dtype, epsilon in (("float", 1e-7), ("bfloat16", 1e-7), ("float16", 1e-5)):
        x = draw(f"{dtype}[64,256] x", magnitude="tiny")["x"].astype(np.float64)
        assert np.mean(np.square(x)) < epsilon
        assert np.median(np.abs(x)) > ml_dtypes.finfo({"float": "float32"}.get(dtype, dtype)).smallest_normal


def test_huge_sums_of_squares_are_finite_in_float32_but_would_not_be_10_times_larger():
    for dtype in ("float", "bfloat16"):
        x = draw(f"{dtype}[2,16,256] x", magnitude="huge")["x"].astype(np.float32)
        assert np.isfinite(np.sum(np.square(x), dtype=np.float32))
        with np.errstate(over="ignore"):
            assert np.isinf(np.sum(np.square(10 * x), dtype=np.float32))


def test_a_scalar_and_an_empty_tensor_can_be_drawn():
    for magnitude in MAGNITUDES:
        feeds = draw("float x, float[0,4] z, float[4,0] u, bool[0] m", magnitude=magnitude)
        assert {name: array.shape for name, array in feeds.items()} == {"x": (), "z": (0, 4), "u": (4, 0), "m": (0,)}
        assert all(isinstance(array, np.ndarray) for array in feeds.values())  # ONNX Runtime takes nothing else


def test_a_shape_beyond_memory_is_one_line():
    graph = model("float[n] x")
    with pytest.raises(InputError, match=r"input x: shape \[1152921504606846976\] does not fit in memory"):
        random_inputs(graph, {"x": (2**60,)})


def test_a_file_gives_the_arrays_bfloat16_among_them(tmp_path):
    graph = model("bfloat16[2] x, int64[n] ids")
    x = np.array([1, 2]).astype(ml_dtypes.bfloat16)
    np.savez(tmp_path / "in.npz", x=x, ids=np.array([3, 4, 5]))
    feeds = load_inputs(tmp_path / "in.npz", graph)
    assert feeds["x"].dtype == ml_dtypes.bfloat16
    np.testing.assert_array_equal(feeds["x"], x)
    np.testing.assert_array_equal(feeds["ids"], [3, 4, 5])


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({}, "no array for input x, ids; the model needs x, ids"),
        ({"x": np.zeros(2, np.float32)}, "no array for input ids"),
        ({"x": np.zeros(2, np.float32), "ids": np.zeros(1, np.int64), "z": np.zeros(1)}, "no input 'z'; it has x, ids"),
        ({"x": np.zeros(2), "ids": np.zeros(1, np.int64)}, "input x: dtype float64 was given; the model takes float32"),
        (
            {"x": np.zeros(3, np.float32), "ids": np.zeros(1, np.int64)},
            r"shape \[3\] was given; .* float32\[2\]",
        ),
    ],
)
def test_a_file_that_does_not_fit_is_refused(tmp_path, arrays, message):
    np.savez(tmp_path / "in.npz", **arrays)
    with pytest.raises(InputError, match=message):
        load_inputs(tmp_path / "in.npz", model("float[2] x, int64[n] ids"))


def test_what_is_no_npz_file_is_refused(tmp_path):
    graph = model("float[2] x")
    with pytest.raises(InputError, match="no such file"):
        load_inputs(tmp_path / "missing.npz", graph)
    np.save(tmp_path / "one.npy", np.zeros(2))
    with pytest.raises(InputError, match="holds one array"):
        load_inputs(tmp_path / "one.npy", graph)
    np.savez(tmp_path / "pickled.npz", x=np.array([None]))
    for content in (b"", b"text", (tmp_path / "pickled.npz").read_bytes()[:60], b"PK\x03\x04"):
        (tmp_path / "bad.npz").write_bytes(content)
        with pytest.raises(InputError, match=r"is not an .npz file of plain arrays"):
            load_inputs(tmp_path / "bad.npz", graph)
    with pytest.raises(InputError, match=r"is not an .npz file of plain arrays"):
        load_inputs(tmp_path / "pickled.npz", graph)

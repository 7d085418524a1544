"""The weights of a model in half precision become those that it was made from, by name or by their numbers."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import onnx_ir as ir
import pytest

from rms_deploy.verification.unrounded import unround

FLOAT, FLOAT16 = ir.DataType.FLOAT, ir.DataType.FLOAT16
W = np.array([1.0001, -2.3, 0.7], np.float32)


def model(**weights):
    graph = ir.Graph([], [], nodes=[], opset_imports={"": 18}, name="g")
    for name, array in weights.items():
        value = ir.Value(name=name, type=ir.TensorType(ir.DataType.from_numpy(array.dtype)))
        value.const_value = ir.tensor(array, name=name)
        graph.register_initializer(value)
    return ir.Model(graph, ir_version=8)


def numbers(of, name="w"):
    return of.graph.initializers[name].const_value.numpy()


def test_by_name():
    cast = model(w=W.astype(np.float16))
    assert unround(cast, model(w=W)) == ()
    assert np.array_equal(numbers(cast), W)
    assert cast.graph.initializers["w"].dtype == FLOAT


@pytest.mark.parametrize("name", ["other", "w"])
def test_by_numbers_where_the_name_or_the_shape_is_another(name):
    cast = model(**{name: W.astype(np.float16).reshape(1, 3)})
    assert unround(cast, model(w=2 * W, folded=W)) == ()
    assert np.array_equal(numbers(cast, name), W.reshape(1, 3))


@pytest.mark.parametrize("shape", [(3,), (1, 3)])
def test_the_numbers_are_not_copied(shape):
    cast, reference = model(w=W.astype(np.float16).reshape(shape)), model(w=W)
    unround(cast, reference)
    assert np.shares_memory(numbers(cast), numbers(reference))


def test_masks_are_rounded_as_a_cast_rounds_them():
    lowest = np.array([np.finfo(np.float32).min], np.float32)
    cast = model(w=np.array([-65504], np.float16))
    assert unround(cast, model(w=lowest)) == ()
    assert numbers(cast) == lowest


def test_a_float16_weight_in_bfloat16():
    cast = model(w=W.astype(np.float16).astype(ml_dtypes.bfloat16))
    assert unround(cast, model(w=W.astype(np.float16))) == ()
    assert np.array_equal(numbers(cast), W.astype(np.float16))


def test_another_weight_is_named_and_stays():
    wrong = np.nextafter(W.astype(np.float16), np.float16(9))
    cast = model(w=wrong)
    assert unround(cast, model(w=W)) == ("w",)
    assert np.array_equal(numbers(cast), wrong)


def test_what_was_in_a_half_type_before_and_whole_numbers_are_nothing_to_name():
    cast = model(w=W.astype(np.float16), unit=np.ones(3, np.float16))
    assert unround(cast, model(w=W.astype(np.float16), v=W)) == ()
    assert {value.dtype for value in cast.graph.initializers.values()} == {FLOAT16}

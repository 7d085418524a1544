"""config.pbtxt, read with Triton's own definition, and what Triton has no word for."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import onnx_ir as ir
import pytest

from rms_deploy.deployment.model_config import ModelConfig, check_instances
from rms_deploy.errors import InputError
from rms_deploy.onnx_model.signature import TensorSpec

from .made_config import parsed


def spec(name="x", shape=("batch", 8), dtype=np.float32):
    return TensorSpec(name, np.dtype(dtype), None if shape is None else ir.Shape(shape))


def config(inputs=None, outputs=None, **options):
    return ModelConfig("m", "onnxruntime", inputs or (spec(),), outputs or (spec("y"),), **options)


def test_without_a_batch_every_dimension_is_there():
    read = parsed(config((spec(), spec("n", (3, None, 1), np.int64))).text())
    assert (read.name, read.backend, read.max_batch_size) == ("m", "onnxruntime", 0)
    assert [(i.name, i.data_type, list(i.dims)) for i in read.input] == [("x", 11, [-1, 8]), ("n", 9, [3, -1, 1])]
    assert [(o.name, o.data_type, list(o.dims)) for o in read.output] == [("y", 11, [-1, 8])]
    assert not read.HasField("dynamic_batching")
    assert read.version_policy.HasField("all")


def test_with_a_batch_the_first_dimension_is_left_out():
    read = parsed(config(max_batch_size=16, max_queue_delay=250).text())
    assert (read.max_batch_size, list(read.input[0].dims), list(read.output[0].dims)) == (16, [8], [8])
    assert read.dynamic_batching.max_queue_delay_microseconds == 250
    assert parsed(config(max_batch_size=1).text()).HasField("dynamic_batching")


@pytest.mark.parametrize(
    ("dtype", "name"),
    [
        *((np.bool_, "BOOL"), (np.uint8, "UINT8"), (np.uint16, "UINT16"), (np.uint32, "UINT32")),
        *((np.uint64, "UINT64"), (np.int8, "INT8"), (np.int16, "INT16"), (np.int32, "INT32"), (np.int64, "INT64")),
        *((np.float16, "FP16"), (np.float32, "FP32"), (np.float64, "FP64"), (ml_dtypes.bfloat16, "BF16")),
    ],
)
def test_every_type_that_triton_has(dtype, name):
    read = parsed(config((spec(dtype=dtype),)).text())
    assert (
        type(read).DESCRIPTOR.file.enum_types_by_name["DataType"].values_by_number[read.input[0].data_type].name
        == f"TYPE_{name}"
    )


def test_instances_by_device():
    read = parsed(config(instances={"cpu": 2, "gpu": 1, "gpu:1": 3}).text())
    kinds = {"KIND_GPU": 1, "KIND_CPU": 2}
    groups = [(group.count, group.kind, list(group.gpus)) for group in read.instance_group]
    assert groups == [(2, kinds["KIND_CPU"], []), (1, kinds["KIND_GPU"], []), (3, kinds["KIND_GPU"], [1])]


def test_every_instance_of_an_engine_has_all_optimization_profiles():
    groups = parsed(config(instances={"gpu": 1, "gpu:1": 1}, profile_count=3).text()).instance_group
    assert [list(group.profile) for group in groups] == [["0", "1", "2"]] * 2
    assert not parsed(config(instances={"gpu": 1}, profile_count=1).text()).instance_group[0].profile


def test_library_and_parameters():
    read = parsed(config(op_library="/models/m/lib.so", parameters={"intra_op_thread_count": "2"}).text())
    assert list(read.model_operations.op_library_filename) == ["/models/m/lib.so"]
    assert read.parameters["intra_op_thread_count"].string_value == "2"


@pytest.mark.parametrize(("max_batch_size", "batch_size", "dims"), [(0, 0, [4, 8]), (2, 2, [8]), (16, 4, [8])])
def test_warm_up(max_batch_size, batch_size, dims):
    read = parsed(config(max_batch_size=max_batch_size, warmup_shapes={"x": (4, 8)}).text())
    (warmup,) = read.model_warmup
    assert (warmup.batch_size, list(warmup.inputs["x"].dims)) == (batch_size, dims)
    assert warmup.inputs["x"].zero_data
    assert warmup.inputs["x"].data_type == read.input[0].data_type


def test_the_identity_is_the_beginning_and_has_no_options():
    plain, tuned = config(), config(instances={"cpu": 4}, parameters={"a": "b"}, warmup_shapes={"x": (1, 8)})
    assert plain.identity() == tuned.identity()
    assert tuned.text().startswith(plain.identity())
    for other in (config(max_batch_size=4), config(op_library="lib.so"), config((spec("z"),))):
        assert other.identity() != plain.identity()


@pytest.mark.parametrize(
    ("inputs", "outputs", "batch", "message"),
    [
        ((spec(shape=None),), None, 0, "input x: the model does not say how many dimensions it has"),
        ((spec(shape=()),), None, 0, r"input x is float32\[\]; a tensor of Triton has at least one dimension and none"),
        ((spec(shape=(2, 0)),), None, 0, r"input x is float32\[2,0\]; a tensor of Triton has .* none of size 0"),
        ((spec(dtype=np.complex64),), None, 0, r"input x is complex64\[batch,8\]; Triton has no type complex64"),
        (None, (spec("y", ("batch",)),), 4, "output y .* at least one dimension besides the batch"),
        ((spec(shape=(8, 8)),), None, 4, r"input x is float32\[8,8\]: its first dimension is no batch; .*batch_size=0"),
        (None, (spec("y", ()),), 4, r"output y is float32\[\]: its first dimension is no batch"),
        (None, (spec("y", ("rows", 8)),), 4, "not one batch: batch in input x, rows in output y"),
    ],
)
def test_what_triton_has_no_word_for_is_one_line(inputs, outputs, batch, message):
    with pytest.raises(InputError, match=message) as caught:
        config(inputs, outputs, max_batch_size=batch).text()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("instances", [{"cuda": 1}, {"gpu:": 1}, {"gpu:a": 1}, {"": 1}])
def test_an_unknown_device(instances):
    with pytest.raises(InputError, match=r"names the device '.*'; use cpu, gpu \(each\), or gpu:0"):
        check_instances(instances)


def test_no_instance():
    with pytest.raises(InputError, match="asks for 0 on cpu; use at least 1"):
        check_instances({"gpu:0": 1, "cpu": 0})

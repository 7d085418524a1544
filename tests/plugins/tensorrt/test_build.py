"""Models through TensorRT-RTX's parser and builder, on a machine that need not have a GPU."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import onnx_ir as ir
import pytest

from rms_deploy.fusion.targets import lower
from rms_deploy.ops.contract import ELEMENT_TYPES, OPS, QUANTIZED_TYPES
from rms_deploy.ops.nodes import write_defaults

from .networks import Network, node_model, quantized_network

CAPABILITIES = ("SM75", "SM80", "SM86", "SM89", "SM120", "SM121")


@pytest.fixture(scope="module")
def logger(trt):
    return trt.Logger(trt.Logger.ERROR)


def plugins_of(network):
    return [name for kind, name in network.layers() if kind == "PLUGIN_V3"]


@pytest.mark.parametrize("shape", [(2, 64), ("batch", "sequence", 64), ("a", "b", "c", "d")], ids=str)
@pytest.mark.parametrize("op", OPS)
def test_a_node_becomes_a_plugin_of_its_types_and_shape(trt, logger, op, types, shape):
    network = Network(trt, logger, node_model(op, types, shape=shape))
    assert network.errors == []
    assert plugins_of(network) == ["norm"]
    x = network.network.get_input(0)
    outputs = [network.network.get_output(i) for i in range(network.network.num_outputs)]
    assert len(outputs) == len(OPS[op].outputs)
    types_of_outputs = [output.dtype for output in outputs]
    assert types_of_outputs == [trt.DataType.INT8 if OPS[op].is_quantized else x.dtype, x.dtype][: len(outputs)]
    for output in outputs:
        assert tuple(output.shape) == tuple(x.shape) == tuple(n if isinstance(n, int) else -1 for n in shape)


@pytest.mark.parametrize("op", OPS)
def test_a_node_builds_with_every_attribute(trt, logger, op, types):
    """SM120: TensorRT-RTX builds bfloat16 for no device below SM80."""
    attributes = {
        "axes": [-2, -1],
        "epsilon": 1e-5,
        "rms_epsilon": 1e-3,
        "rms_min": 1e-2,
        "scale_type": ELEMENT_TYPES[types[0]],
    }
    model = node_model(op, types, shape=("batch", 4, 16), scale=(4, 16), **attributes)
    network = Network(trt, logger, model)
    assert network.errors == []
    assert network.plan("SM120")


@pytest.mark.parametrize("op", [op.name for op in OPS.values() if op.is_add])
def test_a_float32_residual(trt, logger, op):
    """Its sum is float32 too; X and Y are not."""
    network = Network(trt, logger, node_model(op, ("bfloat16", "float32"), residual="float32"))
    assert network.errors == []
    assert plugins_of(network) == ["norm"]
    y, total = (network.network.get_output(i) for i in range(2))
    assert y.dtype == (trt.DataType.INT8 if OPS[op].is_quantized else trt.DataType.BF16)
    assert total.dtype == trt.DataType.FLOAT
    assert network.plan("SM120")


@pytest.mark.parametrize("is_add", [False, True], ids=["norm", "add norm"])
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("output_dtype", QUANTIZED_TYPES)
def test_a_quantised_norm_in_front_of_a_quantised_product(trt, logger, output_dtype, dtype, is_add):
    """TensorRT takes the codes as they are: behind the plugin comes a dequantisation, and no other quantisation."""
    network = Network(trt, logger, quantized_network(dtype, output_dtype, is_add=is_add))
    assert network.errors == []
    assert plugins_of(network) == ["norm"]
    kinds = [kind for kind, _ in network.layers()]
    assert kinds.count("DEQUANTIZE") == 2
    assert "QUANTIZE" not in kinds
    plugin = next(layer for layer in map(network.network.get_layer, range(len(kinds))) if layer.name == "norm")
    assert plugin.get_output(0).dtype == (trt.DataType.INT8 if output_dtype == "int8" else trt.DataType.FP8)
    assert network.plan("SM120")


@pytest.mark.parametrize(
    ("shape", "scale"), [(("batch", "sequence", 4, 16), (4, 16)), ((2, "sequence", 64), (2, 1, 64))]
)
def test_a_scale_of_several_rows(trt, logger, types, shape, scale):
    """For each group, and for each sample."""
    network = Network(trt, logger, node_model(types=types, shape=shape, scale=scale))
    assert network.errors == []
    assert plugins_of(network) == ["norm"]
    assert network.plan("SM120")


@pytest.mark.parametrize("axes", [[0], [1], [-1], [0, 1], [2, 1], [0, 1, 2]], ids=str)
def test_any_block_of_axes(trt, logger, axes):
    network = Network(trt, logger, node_model(shape=(2, 3, 4), scale=(1,), axes=axes))
    assert network.errors == []
    assert plugins_of(network) == ["norm"]
    assert network.plan("SM75")


@pytest.mark.parametrize("shape", [(0, 64), (2, 0)], ids=str)
def test_an_empty_tensor(trt, logger, shape):
    network = Network(trt, logger, node_model(shape=shape, scale=(shape[-1],)))
    assert network.errors == []
    assert network.plan("SM75")


def test_the_op_in_the_domain_of_onnx_runtimes_provider(trt, logger):
    plugin = {"plugin_namespace": "rms_deploy", "plugin_version": "1"}
    network = Network(trt, logger, node_model(domain="trt.plugins", **plugin))
    assert network.errors == []
    assert plugins_of(network) == ["norm"]


@pytest.mark.parametrize("capability", CAPABILITIES)
@pytest.mark.parametrize("op", ["RMSNorm", "RMSNormSiluGate", "RMSNormShift", "AddFloat32RMSNorm", "RMSNormQuantize"])
def test_an_engine_for_each_device(trt, logger, op, capability):
    network = Network(trt, logger, node_model(op))
    assert plugins_of(network) == ["norm"]
    assert network.plan(capability)


def test_the_library_goes_into_the_plan(trt, logger, library):
    model = node_model()
    bare = Network(trt, logger, model).plan(*CAPABILITIES)
    whole = Network(trt, logger, model).plan(*CAPABILITIES, library=library)
    content = library.read_bytes()
    assert content in whole
    assert content not in bare
    assert 0 <= len(whole) - len(bare) - len(content) < 4096


RUN = """
import sys, tensorrt_rtx as trt
class Recorder(trt.ILogger):
    def log(self, severity, message):
        print(message)
recorder = Recorder()
runtime = trt.Runtime(recorder)
engine = runtime.deserialize_cuda_engine(open(sys.argv[1], "rb").read())
print("engine", engine is not None)
"""


def test_a_fresh_process_takes_the_library_out_of_the_plan(trt, logger, library, tmp_path):
    """Without a GPU that is as far as it goes: TensorRT then fails to make a CUDA stream."""
    plan = tmp_path / "model.engine"
    plan.write_bytes(Network(trt, logger, node_model()).plan(*CAPABILITIES, library=library))
    done = subprocess.run([sys.executable, "-c", RUN, str(plan)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert f"Deserialized plugin library with size {library.stat().st_size}" in done.stdout
    assert "engine True" in done.stdout or "Cuda Runtime" in done.stdout


def test_the_same_model_builds_of_tensorrts_own_layers(trt, logger):
    model = ir.from_proto(node_model())
    for node in model.graph:
        write_defaults(node)
    network = Network(trt, logger, ir.to_proto(lower(model, "primitives").model))
    assert network.errors == []
    assert plugins_of(network) == []
    assert network.plan(*CAPABILITIES)


def test_builds_in_two_threads_give_what_one_gives(trt, logger, library):
    models = [node_model("AddRMSNorm", epsilon=epsilon) for epsilon in (1e-6, 1e-5)]

    def build(model):
        return Network(trt, logger, model).plan("SM120", library=library)

    with ThreadPoolExecutor(2) as threads:
        plans = list(threads.map(build, models * 4))
    assert all(plans)
    assert {len(plan) for plan in plans} == {len(build(models[0]))}

"""Which TensorRT is taken, what it is asked for, and what its errors say."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest

from rms_deploy.errors import EngineError, InputError, MissingDependencyError
from rms_deploy.runtime.tensorrt_api import TensorRT, tensorrt, text_of


@pytest.fixture
def rtx():
    pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx-cu13 is not installed")
    return tensorrt("tensorrt-rtx")


@pytest.fixture
def hidden(monkeypatch):
    """No runtime can be imported."""
    for module in ("tensorrt", "tensorrt_rtx"):
        monkeypatch.setitem(sys.modules, module, None)


def module(name, monkeypatch, **content):
    made = SimpleNamespace(__version__="10.9.0", **content)
    monkeypatch.setitem(sys.modules, name, made)
    return made


@pytest.mark.usefixtures("hidden")
@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            None,
            "tensorrt and tensorrt-rtx are not installed; "
            "run: pip install tensorrt or run: pip install tensorrt-rtx-cu13",
        ),
        ("tensorrt", "tensorrt is not installed; run: pip install tensorrt"),
        ("tensorrt-rtx", "tensorrt-rtx is not installed; run: pip install tensorrt-rtx-cu13"),
    ],
)
def test_a_missing_runtime_is_named_with_its_command(name, message):
    with pytest.raises(MissingDependencyError) as raised:
        tensorrt(name)
    assert str(raised.value) == message


@pytest.mark.usefixtures("hidden")
def test_the_one_that_is_installed_is_taken(monkeypatch):
    made = module("tensorrt_rtx", monkeypatch)
    assert tensorrt().module is made
    assert tensorrt().is_rtx
    module("tensorrt", monkeypatch)
    assert tensorrt().name == "tensorrt"
    assert tensorrt("tensorrt-rtx").is_rtx


@pytest.mark.usefixtures("hidden")
def test_one_that_does_not_load_says_why(monkeypatch, tmp_path):
    (tmp_path / "tensorrt.py").write_text("raise ImportError('libnvinfer.so.10: cannot open shared object file')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "tensorrt")
    with pytest.raises(MissingDependencyError, match=r"^tensorrt does not load: libnvinfer\.so\.10: cannot open"):
        tensorrt()


def test_an_unknown_runtime_is_refused():
    with pytest.raises(InputError, match="runtime 'onnx' is not known; use tensorrt or tensorrt-rtx"):
        tensorrt("onnx")


def test_capabilities_in_the_order_of_their_numbers(rtx):
    known = rtx.capabilities()
    assert {"sm75", "sm89", "sm120"} <= set(known)
    assert known == sorted(known, key=lambda name: int(name[2:]))


def test_the_gpus_that_a_runtime_has_engines_for(rtx):
    """An H200 refused an engine of TensorRT-RTX 1.7.1."""
    runs = {capability: rtx.runs_on(capability) for capability in ("sm75", "sm87", "sm90", "sm100", "sm120", "sm150")}
    assert [capability for capability, does in runs.items() if does] == ["sm75", "sm120", "sm150"]
    assert TensorRT("tensorrt", SimpleNamespace(__version__="11")).runs_on("sm90")


def test_devices_that_a_runtime_does_not_build_for(rtx):
    config = SimpleNamespace(set_compute_capability=lambda *_: True)
    with pytest.raises(InputError, match=r"device sm90 is not known to tensorrt-rtx .*; use sm75, "):
        rtx.set_devices(config, ["sm90"])
    message = "device sm90: tensorrt builds for the GPU that it runs on; leave `devices` out, or take `runtime="
    with pytest.raises(InputError, match=message):
        TensorRT("tensorrt", SimpleNamespace(__version__="11")).set_devices(config, ["sm90"])


@pytest.mark.parametrize("option", ["version_compatible", "hardware_compatible"])
def test_what_rtx_cannot_do_is_refused(option):
    asked = {"version_compatible": False, "hardware_compatible": False, option: True}
    with pytest.raises(InputError, match=f"^tensorrt-rtx .*leave `{option}` out"):
        TensorRT("tensorrt-rtx", None).check_portable(**asked)
    TensorRT("tensorrt", None).check_portable(**asked)


def test_networks_are_strongly_typed_where_that_is_a_choice():
    builder = SimpleNamespace(create_network=lambda flags: flags)
    choice = SimpleNamespace(NetworkDefinitionCreationFlag=SimpleNamespace(STRONGLY_TYPED=1))
    assert TensorRT("tensorrt", choice).network(builder) == 2
    none = SimpleNamespace(NetworkDefinitionCreationFlag=SimpleNamespace())
    assert TensorRT("tensorrt", none).network(builder) == 0


def test_rtx_compiles_before_it_runs_and_is_asked_what_it_can_capture():
    """An engine of TensorRT-RTX does not load without a GPU: the calls, on the names that its module has."""
    strategies = SimpleNamespace(EAGER="eager")
    module = SimpleNamespace(DynamicShapesKernelSpecializationStrategy=strategies)
    engine = SimpleNamespace(create_runtime_config=SimpleNamespace, create_execution_context=lambda *given: given)
    (config,) = TensorRT("tensorrt-rtx", module).execution_context(engine)
    assert config.dynamic_shapes_kernel_specialization_strategy == "eager"
    assert TensorRT("tensorrt", module).execution_context(engine) == ()
    context = SimpleNamespace(is_stream_capturable=lambda stream: stream == 7)
    assert [TensorRT("tensorrt-rtx", module).can_capture(context, stream) for stream in (7, 8)] == [True, False]
    assert TensorRT("tensorrt", module).can_capture(None, 8)


def test_rtx_has_the_names_that_are_used(rtx):
    module = rtx.module
    assert "EAGER" in module.DynamicShapesKernelSpecializationStrategy.__members__
    assert hasattr(module.ICudaEngine, "create_runtime_config")
    assert hasattr(module.IRuntimeConfig, "dynamic_shapes_kernel_specialization_strategy")
    assert hasattr(module.IExecutionContext, "is_stream_capturable")


def test_tensorrt_without_a_gpu(monkeypatch):
    def refuse(_logger):
        raise TypeError("pybind11::init(): factory function returned nullptr")

    api = TensorRT("tensorrt", SimpleNamespace(__version__="11.0", Builder=refuse))
    monkeypatch.setattr(TensorRT, "logger", lambda _self: None)
    with pytest.raises(
        EngineError, match=r"^tensorrt 11\.0 found no GPU to build on; .*`runtime=\"tensorrt-rtx\"` builds for"
    ):
        api.builder()


def test_errors_are_collected_while_a_block_runs(rtx):
    logger = rtx.logger()
    with rtx.errors() as outer:
        with rtx.errors() as inner:
            logger.log(rtx.module.ILogger.ERROR, "first")
            logger.log(rtx.module.ILogger.WARNING, "not an error")
        logger.log(rtx.module.ILogger.ERROR, "second")
    logger.log(rtx.module.ILogger.ERROR, "third")
    assert (inner, outer) == (["first"], ["first", "second"])


@pytest.mark.parametrize(
    ("logged", "text"),
    [
        ([], "no reason was given"),
        (["a\n b", "c"], "a b"),
        (
            ["IBuilder::buildSerializedNetwork: Error Code 7: BuildCanceled (by user In next at /_src/a.cpp:92)"],
            "IBuilder::buildSerializedNetwork: Error Code 7: BuildCanceled (by user)",
        ),
    ],
)
def test_an_error_in_one_line(logged, text):
    assert text_of(logged) == text

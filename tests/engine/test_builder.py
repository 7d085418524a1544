"""The network that TensorRT makes of a model, and what a build is told."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from rms_deploy.engine import builder
from rms_deploy.engine.builder import BuildOptions, build_plan, parsed_plugins
from rms_deploy.engine.parser_input import with_decomposed_norms, with_plugin_norms
from rms_deploy.engine.progress import BuildProgress
from rms_deploy.engine.source_model import source_model
from rms_deploy.errors import EngineError, InputError
from rms_deploy.onnx_model.optimization_profiles import resolve_profiles
from rms_deploy.runtime.tensorrt_plugin import load_plugins

PLUGINS = ["rms_deploy.AddRMSNorm.0", "rms_deploy.RMSNorm.1", "rms_deploy.PartialRMSNorm.2"]


@pytest.fixture
def plan(rtx, small):
    """The plan of the small model."""

    def make(prepare, **options):
        with source_model(small()) as source:
            profiles = resolve_profiles(source.model, ())
            return build_plan(
                rtx,
                prepare(source.model),
                source,
                BuildOptions(optimization_profiles=profiles, devices=("sm120",), **options),
                embedded=None,
                progress=BuildProgress(),
            )

    return make


@pytest.mark.usefixtures("library")
def test_layers_say_what_they_are(plan, rtx):
    load_plugins(rtx)
    layers = {layer.name: layer for layer in plan(lambda model: with_plugin_norms(model)[0]).layers}
    assert [name for name, layer in layers.items() if layer.is_norm] == PLUGINS
    assert {layers[name].type for name in PLUGINS} == {"PLUGIN_V3"}
    assert all(layers[name].is_node for name in PLUGINS)
    assert (layers["W"].type, layers["W"].is_node) == ("CONSTANT", False)


@pytest.mark.usefixtures("library")
def test_no_layer_of_a_decomposed_model_is_a_norm(plan, rtx):
    load_plugins(rtx)
    layers = plan(with_decomposed_norms).layers
    assert not [layer for layer in layers if layer.is_norm]
    assert {"UNARY", "REDUCE", "ELEMENTWISE"} <= {layer.type for layer in layers if layer.is_node}


@pytest.mark.usefixtures("library")
def test_plugins_are_known_without_a_build(rtx, small):
    load_plugins(rtx)
    with source_model(small()) as source:
        assert parsed_plugins(rtx, with_plugin_norms(source.model)[0], source) == set(PLUGINS)
        assert parsed_plugins(rtx, with_decomposed_norms(source.model), source) == frozenset()


@pytest.mark.parametrize("made", [None, "a cache"])
def test_a_timing_cache_that_does_not_fit(made):
    """TensorRT-RTX takes any bytes for one."""
    config = SimpleNamespace(create_timing_cache=lambda _: made, set_timing_cache=lambda *_, **__: False)
    with pytest.raises(InputError, match="the file of `timing_cache` is of another GPU or version, or no timing cache"):
        builder._timing_cache(config, b"not a cache")


def test_a_build_that_takes_a_gpu_says_so(plan, monkeypatch):
    monkeypatch.setattr(builder, "gpus", tuple)
    with pytest.raises(
        EngineError, match=r"builds no engine: .*; an engine that can be refitted is built on a GPU only"
    ):
        plan(with_decomposed_norms, refit=True)


class Layer:
    type = "plugin"

    def __init__(self, namespace):
        core = SimpleNamespace(plugin_namespace=namespace)
        self.plugin = SimpleNamespace(get_capability_interface=lambda _kind: core)


def test_another_plugin_is_no_norm():
    kinds, parts = SimpleNamespace(PLUGIN_V3="plugin"), SimpleNamespace(CORE="core")
    trt = SimpleNamespace(LayerType=kinds, PluginCapabilityType=parts, IPluginV3Layer=Layer)
    assert builder._is_norm(trt, Layer("rms_deploy"))
    assert not builder._is_norm(trt, Layer("somebody"))

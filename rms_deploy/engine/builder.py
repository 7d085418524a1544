"""From an ONNX model to the plan of an engine."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

import onnx_ir as ir

from rms_deploy.engine.progress import BuildProgress
from rms_deploy.engine.source_model import SourceModel
from rms_deploy.errors import EngineError, InputError
from rms_deploy.onnx_model.optimization_profiles import OptimizationProfile
from rms_deploy.ops.contract import DOMAIN
from rms_deploy.runtime.gpus import gpus
from rms_deploy.runtime.tensorrt_api import TensorRT, text_of

__all__ = ["BuildOptions", "NetworkLayer", "Plan", "build_plan", "parsed_plugins"]

_filtering: Final = threading.Lock()
"""Held while warnings are filtered, because the filters are those of all threads."""


@dataclass(frozen=True)
class BuildOptions:
    """What TensorRT is asked for."""

    optimization_profiles: tuple[OptimizationProfile, ...] = ()
    devices: tuple[str, ...] = ()
    """Compute capabilities, such as sm120; none: those that the runtime chooses."""
    workspace: int | None = None
    """Bytes; None: all memory of the device."""
    opt_level: int | None = None
    version_compatible: bool = False
    hardware_compatible: bool = False
    strip_weights: bool = False
    refit: bool = False
    timing_cache: bytes | None = None
    """None: without; empty: a new one."""


class NetworkLayer(NamedTuple):
    """A layer of the network that the parser made."""

    name: str
    type: str
    """TensorRT's word, such as ELEMENTWISE."""
    is_node: bool
    """Whether it comes from a node of the model; else the parser added it, to hold weights or to compute a shape."""
    is_norm: bool
    """Whether it is a plugin of ours."""


@dataclass(frozen=True)
class Plan:
    """An engine as it is written to a file."""

    data: Any
    """TensorRT's own buffer, because a copy may be gigabytes."""
    layers: tuple[NetworkLayer, ...]
    timing_cache: bytes | None


def build_plan(
    api: TensorRT,
    model: ir.Model,
    source: SourceModel,
    options: BuildOptions,
    *,
    embedded: Path | None,
    progress: BuildProgress,
) -> Plan:
    """Parse `model` and build it. Its norms become plugins if it has no functions for them and they are registered.

    Args:
        api: the runtime.
        model: the network.
        source: what it was made from.
        options: of the build.
        embedded: a plugin library to write into the plan; None: none.
        progress: follows the build, and can stop it.

    Raises:
        InputError: an option that the runtime does not know.
        EngineError: TensorRT refuses the model, or the build fails or is cancelled.
    """
    with api.errors() as errors:
        builder = api.builder()
        network, _keep = _parsed(api, builder, model, source)
        config = _config(api, builder, options)
        config.progress_monitor = monitor = progress.monitor(api.module)
        if embedded is not None:
            config.plugins_to_serialize = [str(embedded)]
        cache = _timing_cache(config, options.timing_cache)
        plan = builder.build_serialized_network(network, config)
        del monitor  # it had to live until here
        if progress.failure is not None:
            raise progress.failure
        if plan is None:
            refits = options.refit or options.strip_weights
            hint = "; an engine that can be refitted is built on a GPU only" if refits and not gpus() else ""
            raise EngineError(f"{source.name}: {api.name} {api.version} builds no engine: {text_of(errors)}{hint}")
        return Plan(plan, tuple(_layers(api, network)), cache and bytes(cache.serialize()))


def parsed_plugins(api: TensorRT, model: ir.Model, source: SourceModel) -> frozenset[str]:
    """The names of the layers that become plugins of ours when TensorRT parses `model`; nothing is built.

    Raises:
        EngineError: TensorRT refuses the model.
    """
    network, _keep = _parsed(api, api.builder(), model, source)
    return frozenset(layer.name for layer in _layers(api, network) if layer.is_norm)


def _parsed(api: TensorRT, builder: Any, model: ir.Model, source: SourceModel) -> tuple[Any, Any]:
    """The network, and the parser, whose memory it uses."""
    network = api.network(builder)
    parser = api.module.OnnxParser(network, api.logger())
    with api.errors() as errors:
        # Weights that lie in a file of their own are read from beside the source.
        parsed = parser.parse(ir.to_proto(model).SerializeToString(), str(source.path))
    if not parsed:
        error = parser.get_error(0)
        where = f"{error.node_operator()} node {error.node_name() or '?'}: " if error.node_operator() else ""
        # What a plugin says of its attributes is logged before the parser reports that it has no plugin.
        reasons = [text for text in errors if not text.startswith("ModelImporter")] or [where + error.desc()]
        raise EngineError(f"{source.name}: {api.name} {api.version} refuses it: {text_of(reasons)}")
    return network, parser


def _layers(api: TensorRT, network: Any) -> Iterator[NetworkLayer]:
    for index in range(network.num_layers):
        layer = network.get_layer(index)
        # The parser writes the name of the node there.
        yield NetworkLayer(str(layer.name), layer.type.name, bool(layer.metadata), _is_norm(api.module, layer))


def _is_norm(trt: Any, layer: Any) -> bool:
    if layer.type != trt.LayerType.PLUGIN_V3:
        return False
    layer.__class__ = trt.IPluginV3Layer  # the way from a layer to its kind that TensorRT documents
    core = layer.plugin.get_capability_interface(trt.PluginCapabilityType.CORE)
    return bool(core.plugin_namespace == DOMAIN)


def _config(api: TensorRT, builder: Any, options: BuildOptions) -> Any:
    trt = api.module
    api.check_portable(version_compatible=options.version_compatible, hardware_compatible=options.hardware_compatible)
    config = builder.create_builder_config()
    api.set_devices(config, options.devices)
    for profile in options.optimization_profiles:
        config.add_optimization_profile(_profile(builder, profile))
    if options.workspace is not None:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, options.workspace)
    if options.opt_level is not None:
        config.builder_optimization_level = options.opt_level
    if options.version_compatible:
        config.set_flag(trt.BuilderFlag.VERSION_COMPATIBLE)
    if options.hardware_compatible:
        config.hardware_compatibility_level = trt.HardwareCompatibilityLevel.AMPERE_PLUS
    if options.strip_weights:
        config.set_flag(trt.BuilderFlag.STRIP_PLAN)
    if options.refit:
        config.set_flag(trt.BuilderFlag.REFIT)
    return config


def _profile(builder: Any, profile: OptimizationProfile) -> Any:
    made = builder.create_optimization_profile()
    for name, (low, usual, high) in profile.items():
        made.set_shape(name, low, usual, high)
    return made


def _timing_cache(config: Any, content: bytes | None) -> Any:
    if content is None:
        return None
    with _filtering, warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # TensorRT-RTX: see TensorRT.keeps_timings
        cache = config.create_timing_cache(content)
        if cache is None or not config.set_timing_cache(cache, ignore_mismatch=False):
            raise InputError(
                "the file of `timing_cache` is of another GPU or version, or no timing cache; give a new name"
            )
    return cache

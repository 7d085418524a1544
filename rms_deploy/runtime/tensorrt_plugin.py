"""Our plugin library in TensorRT's registry, and what is wrong where a norm finds no plugin in it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import onnx_ir as ir

import rms_deploy
from rms_deploy.errors import BuildError, RunError
from rms_deploy.fusion.grammar import Facts, graphs_of, label
from rms_deploy.fusion.passes.lower_to_plugins import PLUGIN_DOMAIN
from rms_deploy.ops.contract import DOMAIN, ELEMENT_TYPES, OPS, PLUGIN_VERSION
from rms_deploy.runtime.tensorrt_api import TensorRT, text_of

__all__ = ["is_registered", "load_plugins", "plugin_faults", "tensorrt_library"]

_LIBRARY: Final = "librms_deploy_tensorrt.so"
_loading: Final = threading.Lock()


def tensorrt_library() -> Path:
    """The TensorRT plugin library of this installation, for `IPluginRegistry.load_library`, and for `trtexec
    --dynamicPlugins`.

    Raises:
        BuildError: the installation has none.
    """
    for folder in rms_deploy.__path__:  # an editable install has two: the source, and where it put what it compiled
        path = Path(folder) / "lib" / _LIBRARY
        if path.is_file():
            return path
    raise BuildError(
        f"{_LIBRARY} is not built; reinstall rms-deploy with a CUDA compiler at hand (pip installs one): pip install ."
    )


def load_plugins(api: TensorRT) -> Path:
    """Load our library into the registry of this process, once, and give its path.

    Raises:
        BuildError: the installation has none.
        RunError: TensorRT refuses it.
    """
    path = tensorrt_library()
    with _loading:
        if all(is_registered(api, name) for name in OPS):
            return path
        with api.errors() as errors:
            handle = api.module.get_plugin_registry().load_library(str(path))
        if handle is None or not all(is_registered(api, name) for name in OPS):
            raise RunError(f"{path} does not load into {api.name} {api.version}: {text_of(errors)}")
    return path


def is_registered(api: TensorRT, name: str) -> bool:
    """Whether the registry of this process has the plugin of this op."""
    registry = api.module.get_plugin_registry()
    return any(
        (creator.name, creator.plugin_version, creator.plugin_namespace) == (name, PLUGIN_VERSION, DOMAIN)
        for creator in registry.all_creators
    )


def plugin_faults(model: ir.Model) -> Iterator[str]:
    """Why a norm of `model` finds no plugin of our library: its name, version, namespace or a type; a line each.

    A node counts as a norm of ours if its domain, its op or its plugin_namespace says so.
    """
    facts = Facts(model)
    for graph in graphs_of(model):
        for node in graph:
            version, namespace = _text(node, "plugin_version"), _text(node, "plugin_namespace")
            domain = None if node.domain == PLUGIN_DOMAIN else node.domain
            if DOMAIN not in (domain, namespace) and (node.op_type not in OPS or not (domain or namespace)):
                continue
            who = f"{label(node)} ({node.domain}::{node.op_type})"
            if node.op_type not in OPS:
                yield f"{who}: name: there is no such plugin; the library has {', '.join(OPS)}"
                continue
            if version not in (None, PLUGIN_VERSION):
                yield f"{who}: version: plugin_version is {version!r}; the library has {PLUGIN_VERSION!r}"
            if (namespace or domain) != DOMAIN:
                yield f"{who}: namespace: is {namespace or domain!r}; the plugin's is {DOMAIN!r}"
            yield from (f"{who}: type: {fault}" for fault in _type_faults(node, facts))


def _type_faults(node: ir.Node, facts: Facts) -> Iterator[str]:
    names = {ir.DataType(number): name for name, number in ELEMENT_TYPES.items()}
    inputs = dict(zip((name for name, _ in OPS[node.op_type].inputs), node.inputs, strict=False))
    types = {name: None if value is None else facts.dtype(value) for name, value in inputs.items()}
    x = types.get("X")
    for name, dtype in types.items():
        if dtype is None:
            continue
        if dtype not in names:
            yield f"{name} is {dtype.name.lower()}; the plugin takes {', '.join(names.values())}"
        elif x in names and dtype != x and not (name == "scale" and dtype == ir.DataType.FLOAT):
            other = " or float32" if name == "scale" and x != ir.DataType.FLOAT else ""
            yield f"{name} is {names[dtype]} and X {names[x]}; the plugin takes {names[x]}{other} here"


def _text(node: ir.Node, name: str) -> str | None:
    attribute = node.attributes.get(name)
    return None if attribute is None or attribute.is_ref() else str(attribute.value)

"""Why a norm of a model finds no TensorRT plugin."""

from __future__ import annotations

from collections.abc import Iterator

import onnx_ir as ir

from rms_deploy.onnx_model.analysis import Facts
from rms_deploy.ops.contract import DOMAIN, ELEMENT_TYPES, OPS, PLUGIN_DOMAIN, PLUGIN_VERSION
from rms_deploy.ops.nodes import graphs_of, label

__all__ = ["plugin_faults"]


def plugin_faults(model: ir.Model) -> Iterator[str]:
    """A line for each reason why a norm of `model` finds no plugin in our library: name, version, namespace or type.

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
    variables = dict(OPS[node.op_type].inputs)
    inputs = dict(zip(variables, node.inputs, strict=False))
    types = {name: None if value is None else facts.dtype(value) for name, value in inputs.items()}
    # TensorRT's parser makes float32 of float64
    types = {name: ir.DataType.FLOAT if dtype == ir.DataType.DOUBLE else dtype for name, dtype in types.items()}
    x = types.get("X")
    for name, dtype in types.items():
        may_be_wide = variables[name] != "T"
        if dtype is None:
            continue
        if dtype not in names:
            yield f"{name} is {dtype.name.lower()}; the plugin takes {', '.join(names.values())}"
        elif x in names and dtype != x and not (may_be_wide and dtype == ir.DataType.FLOAT):
            other = " or float32" if may_be_wide and x != ir.DataType.FLOAT else ""
            yield f"{name} is {names[dtype]} and X {names[x]}; the plugin takes {names[x]}{other} here"
        elif name == "shift" and types["scale"] in names and dtype != types["scale"]:
            yield f"shift is {names[dtype]} and scale {names[types['scale']]}; the plugin takes one type of both"


def _text(node: ir.Node, name: str) -> str | None:
    attribute = node.attributes.get(name)
    return None if attribute is None or attribute.is_ref() else str(attribute.value)

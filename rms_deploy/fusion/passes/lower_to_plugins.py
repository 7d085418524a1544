"""Our ops in the domain in which ONNX Runtime's TensorRT provider looks for plugins."""

from __future__ import annotations

import onnx_ir as ir

from rms_deploy.ops.contract import DOMAIN, OPS, PLUGIN_DOMAIN, PLUGIN_VERSION, VERSION
from rms_deploy.ops.nodes import graphs_of, norm_nodes

__all__ = ["LowerToPlugins", "raise_plugins"]


class LowerToPlugins(ir.passes.InPlacePass):
    """Move our nodes to the domain `trt.plugins`; the namespace and version of the plugin become attributes.

    No function bodies are possible there: the model runs only where the plugin is loaded.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Lower in place."""
        nodes = list(norm_nodes(model))
        for node in nodes:
            node.domain = PLUGIN_DOMAIN
            node.attributes["plugin_namespace"] = ir.AttrString("plugin_namespace", DOMAIN)
            node.attributes["plugin_version"] = ir.AttrString("plugin_version", PLUGIN_VERSION)
            assert node.graph is not None
            node.graph.opset_imports[PLUGIN_DOMAIN] = 1
        if nodes:
            model.opset_imports[PLUGIN_DOMAIN] = 1
            model.opset_imports.pop(DOMAIN, None)
        return ir.passes.PassResult(model, bool(nodes))


def raise_plugins(model: ir.Model) -> bool:
    """Move the nodes of `LowerToPlugins` back to our domain; whether there were any."""
    imports = (model.opset_imports, *(function.opset_imports for function in model.functions.values()))
    if all(PLUGIN_DOMAIN not in domains for domains in imports):
        return False
    raised = False
    for graph in graphs_of(model):
        ours, others = 0, 0
        for node in graph:
            if node.domain != PLUGIN_DOMAIN:
                continue
            namespace = node.attributes.get("plugin_namespace")
            if node.op_type not in OPS or namespace is None or namespace.value != DOMAIN:
                others += 1
                continue
            node.domain = DOMAIN
            del node.attributes["plugin_namespace"]
            node.attributes.pop("plugin_version", None)
            model.opset_imports[DOMAIN] = graph.opset_imports[DOMAIN] = VERSION
            ours += 1
        raised |= bool(ours)
        if ours and not others:
            graph.opset_imports.pop(PLUGIN_DOMAIN, None)
    if raised and not any(node.domain == PLUGIN_DOMAIN for graph in graphs_of(model) for node in graph):
        model.opset_imports.pop(PLUGIN_DOMAIN, None)
    return raised

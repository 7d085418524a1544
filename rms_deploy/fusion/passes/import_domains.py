"""Every domain that a norm can be of, imported where its nodes are."""

from __future__ import annotations

from typing import Final

import onnx_ir as ir

from rms_deploy.ops.contract import DOMAIN, PLUGIN_DOMAIN, VERSION
from rms_deploy.ops.foreign_ops import CONTRIB_DOMAIN
from rms_deploy.ops.nodes import all_graphs

__all__ = ["import_domains"]

_VERSIONS: Final = {DOMAIN: VERSION, PLUGIN_DOMAIN: 1, CONTRIB_DOMAIN: 1}


def import_domains(model: ir.Model) -> None:
    """Import the domains of the norms that the main graph and each function has; bodies inside them import nothing.

    An import that is there keeps its version.
    """
    for root in (model.graph, *(f.graph for f in model.functions.values() if f.domain != DOMAIN)):
        used = {node.domain for graph in all_graphs([root]) for node in graph}
        for domain, version in _VERSIONS.items():
            if domain in used:
                root.opset_imports.setdefault(domain, version)

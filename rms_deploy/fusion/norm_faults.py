"""What other tools broke of the norms of a model that was fused before."""

from __future__ import annotations

from collections import Counter

import onnx_ir as ir

from rms_deploy.fusion.norm import NOTE
from rms_deploy.onnx_model.analysis import Facts
from rms_deploy.onnx_model.body_faults import body_faults

__all__ = ["note_faults"]


def note_faults(model: ir.Model, facts: Facts, restored: dict[ir.Node, str]) -> tuple[str, ...]:
    """Note with each of our nodes what is wrong with it, for `Norm.note`.

    Args:
        model: after `restore_ops`.
        facts: of the model.
        restored: what `restore_ops` gave.

    Returns:
        What is wrong with how many norms, a line for each kind.
    """
    faults = {node: ("runs only with the library", fault) for node, fault in body_faults(model, facts).items()}
    faults.update({node: ("the library does not take it", fault) for node, fault in restored.items()})
    for node, (effect, fault) in faults.items():
        node.meta[NOTE] = f"{effect}: {fault}; fuse the model again"
    return tuple(
        f"{effect} ({count} norm{'s' * (count > 1)}): {fault}"
        for (effect, fault), count in Counter(faults.values()).items()
    )

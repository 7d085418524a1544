"""`inspect`: the norms of a model, fused or not, and why."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import onnx
import onnx_ir as ir

from rms_deploy.fusion.grammar import ELEMENT_NAMES, Facts, graphs_of, label, search
from rms_deploy.fusion.norm import NOTE, PROOF, NearMiss, Norm, near_miss, place_of
from rms_deploy.fusion.passes.expand_skip_norm import is_skip_norm, why_not_expanded
from rms_deploy.fusion.replacement import emission
from rms_deploy.onnx_model import file as modelfile
from rms_deploy.ops.contract import DOMAIN, OPS

__all__ = ["Inspection", "NearMiss", "Norm", "described", "inspect", "native", "opened"]

_NATIVE = (
    "RMSNormalization",
    "SimplifiedLayerNormalization",
    "SkipSimplifiedLayerNormalization",
    "LayerNormalization",
    "SkipLayerNormalization",
)
_NATIVE_DOMAINS = ("", "com.microsoft")
_FUSE_TAKES = "fuse takes it"


@dataclass(frozen=True)
class Inspection:
    """The norms of a model in the order of the graph, and what only looks like one."""

    norms: tuple[Norm, ...]
    near_misses: tuple[NearMiss, ...]

    def count(self) -> dict[str, int]:
        """How many there are of each form and kind, such as `fused RMSNorm`."""
        return dict(Counter(f"{norm.form} {norm.kind}" for norm in self.norms))

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        norms, misses = ([asdict(item) for item in items] for items in (self.norms, self.near_misses))
        return {"count": self.count(), "norms": norms, "near_misses": misses}


def opened(model: str | os.PathLike[str] | onnx.ModelProto | ir.Model) -> ir.Model:
    """A model of our own: read from the file, or a copy of what was given that shares its weights."""
    if not isinstance(model, (ir.Model, onnx.ModelProto)):
        return modelfile.load(model)
    own = ir.from_proto(model) if isinstance(model, onnx.ModelProto) else model.clone()
    modelfile.normalize_domains(own)
    return own


def inspect(model: str | os.PathLike[str] | onnx.ModelProto | ir.Model) -> Inspection:
    """List the norms of a model. Nothing is changed.

    Args:
        model: a file, a proto or an onnx-ir model.

    Raises:
        ModelFileError: the file cannot be read.
    """
    model = opened(model)
    facts = Facts(model)
    norms: list[Norm] = []
    misses: list[NearMiss] = []
    for graph in graphs_of(model):
        for node in graph:
            if node.domain == DOMAIN and node.op_type in OPS:
                norms.append(described(node, facts))
                continue
            findings = search(node, facts)
            reasons = [near_miss(refusal) for refusal in findings.refusals]
            if node.op_type in _NATIVE and node.domain in _NATIVE_DOMAINS:
                norms.append(native(node, facts, reasons, taken=bool(findings.norms)))
                continue
            misses += reasons
            norms += [replace(emission(f, facts).described(f, facts), note=_FUSE_TAKES) for f in findings.norms]
    return Inspection(tuple(norms), tuple(misses))


def described(node: ir.Node, facts: Facts) -> Norm:
    """A node of our domain, as `inspect` lists it."""
    op = OPS[node.op_type]
    given = {name: attribute.value for name, attribute in node.attributes.items() if not attribute.is_ref()}
    values: dict[str, Any] = {"partial_size": None, **op.defaults(), **given}
    x = node.inputs[0]
    dtype = None if x is None else facts.dtype(x)
    rounds_first = values["scale_type"] != ir.DataType.FLOAT
    rounding: Literal["once", "before scale"] = "before scale" if rounds_first else "once"
    axes = tuple(values["axes"])
    proof = node.meta.get(PROOF)
    return Norm(
        kind=node.op_type,
        form="fused",
        node=label(node),
        place=place_of(node),
        dtype=None if dtype is None else ELEMENT_NAMES.get(dtype, dtype.name.lower()),
        axes=axes,
        n=_block_size(node.inputs[:-1], axes, facts),
        epsilon=values["epsilon"],
        rms_epsilon=values["rms_epsilon"],
        rms_min=values["rms_min"],
        partial_size=values["partial_size"],
        rounding=None if dtype == ir.DataType.FLOAT else rounding,
        scale=_scale(node.inputs[-1], facts),
        note=node.meta.get(NOTE, ""),
        max_ulp=None if proof is None else proof.max_ulp,
        unproven="" if proof is None else proof.why_not,
    )


def native(node: ir.Node, facts: Facts, reasons: list[NearMiss], *, taken: bool) -> Norm:
    """One node that is a whole norm, of another domain, as `inspect` lists it."""
    x = node.inputs[0] if node.inputs else None
    scale = {"Skip": 2}.get(node.op_type[:4], 1)
    epsilon, axis = node.attributes.get("epsilon"), node.attributes.get("axis")
    default = 1e-12 if scale == 2 else 1e-5
    first = -1 if axis is None or axis.is_ref() else axis.as_int()
    rank = None if x is None else facts.rank(x)
    start = first if first < 0 or rank is None else first - rank
    axes = tuple(range(start, 0)) if start < 0 else None
    dtype = None if x is None else facts.dtype(x)
    why_not = "; ".join(miss.reason for miss in reasons) or "fuse does not take this op"
    if is_skip_norm(node):
        why_not = why_not_expanded(node, facts) or ""
        taken = not why_not
    note = _FUSE_TAKES if taken else why_not
    return Norm(
        kind=node.op_type,
        form="native",
        node=label(node),
        place=place_of(node),
        dtype=None if dtype is None else ELEMENT_NAMES.get(dtype, dtype.name.lower()),
        axes=axes,
        n=None if axes is None else _block_size(node.inputs[:1], axes, facts),
        epsilon=default if epsilon is None else None if epsilon.is_ref() else epsilon.as_float(),
        rms_epsilon=0.0,
        rms_min=0.0,
        partial_size=None,
        rounding=None,
        scale=_scale(node.inputs[scale] if len(node.inputs) > scale else None, facts),
        note=note,
    )


def _scale(value: ir.Value | None, facts: Facts) -> str:
    dtype = None if value is None else facts.dtype(value)
    if value is None or dtype is None:
        return "none" if value is None else "unknown"
    shape = facts.shape(value)
    dims = "?" if shape is None else ", ".join("?" if dim is None else str(dim) for dim in shape)
    return f"{ELEMENT_NAMES.get(dtype, dtype.name.lower())}[{dims}]"


def _block_size(inputs: Iterable[ir.Value | None], axes: tuple[int, ...], facts: Facts) -> int | None:
    for value in inputs:
        shape = None if value is None else facts.shape(value)
        if shape is None:
            continue
        size = 1
        for axis in axes:
            dim = shape[axis] if -len(shape) <= axis < len(shape) else None
            if not isinstance(dim, int):
                break
            size *= dim
        else:
            return size
    return None

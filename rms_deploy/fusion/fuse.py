"""`fuse`: every RMSNorm that the grammar matches becomes one op."""

from __future__ import annotations

import gc
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Final

import onnx
import onnx_ir as ir

from rms_deploy.display import Displayed, Table
from rms_deploy.fusion.describe import describe_foreign, describe_fused, describe_match
from rms_deploy.fusion.grammar.match import Match
from rms_deploy.fusion.half_fused import half_fused
from rms_deploy.fusion.near_miss import NearMiss
from rms_deploy.fusion.norm import Norm
from rms_deploy.fusion.norm_tables import near_miss_table, norm_table
from rms_deploy.fusion.passes.decomposed_form import is_decomposed_form
from rms_deploy.fusion.passes.fuse_add_rms_norm import FuseAddRMSNorm
from rms_deploy.fusion.passes.fuse_float32_sum import FuseFloat32Sum
from rms_deploy.fusion.passes.fuse_gate import FuseGate
from rms_deploy.fusion.passes.fuse_part import FuseResult
from rms_deploy.fusion.passes.fuse_quantize import FuseQuantize
from rms_deploy.fusion.passes.fuse_rms_norm import FuseRMSNorm, FuseRMSNormResult
from rms_deploy.fusion.passes.fuse_shift import FuseShift
from rms_deploy.fusion.passes.lower_to_plugins import raise_plugins
from rms_deploy.fusion.passes.restore_ops import restore_ops
from rms_deploy.fusion.targets import lower
from rms_deploy.onnx_model.analysis import Facts
from rms_deploy.onnx_model.body_faults import body_faults
from rms_deploy.onnx_model.file import open_model, save_model
from rms_deploy.ops.contract import DOMAIN
from rms_deploy.ops.foreign_ops import FOREIGN_NORMS, foreign_norm
from rms_deploy.ops.forms import NormForm, norm_form
from rms_deploy.ops.function_body import CONSTANT_OPSET
from rms_deploy.ops.nodes import graphs_of, norm_nodes
from rms_deploy.output_file import check_output

__all__ = ["VERIFY_LIMIT", "FusionResult", "fuse"]

VERIFY_LIMIT: Final = 20_000
"""Nodes of a model up to which its norms are run by default, which then takes some seconds."""

_Pass = Callable[..., ir.passes.InPlacePass]

_PARTS: Final[tuple[tuple[str, _Pass], ...]] = (
    ("shift", FuseShift),
    ("residual", FuseAddRMSNorm),
    ("residual", FuseFloat32Sum),
    ("gate", FuseGate),
    ("quantization", FuseQuantize),
)
"""What is fused into norms that are ops already, in this order."""

_OLD_BODY: Final = "a body that another version wrote"


@dataclass(frozen=True, repr=False)
class FusionResult(Displayed):
    """What `fuse` did."""

    model: ir.Model = field(repr=False)
    norms: tuple[Norm, ...]
    """Norms that are one op now and were not before."""
    fused_before: tuple[Norm, ...]
    """Norms that were one of our ops before, or in the form of the target."""
    near_misses: tuple[NearMiss, ...]
    """What looks like RMSNorm and is not fused, and the scales, residuals, gates, shifts and quantisations that stay
    outside of a norm."""
    repairs: tuple[str, ...] = ()
    """What was wrong with norms that were fused before, and is mended: `5 norms: no body`."""
    written: bool = False
    """Whether the model was written to a file."""

    @property
    def worst_ulp(self) -> int | None:
        """The largest distance between a norm and its op, of those that were run; None: none was."""
        return max((norm.max_ulp for norm in self.norms if norm.max_ulp is not None), default=None)

    def _line(self) -> str:
        before = f", {len(self.fused_before)} were fused before" if self.fused_before else ""
        return f"fused {len(self.norms)} norms{before}, {len(self.near_misses)} near misses"

    def tables(self) -> Iterable[Table]:
        """The norms, and the near misses."""
        yield norm_table((*self.norms, *self.fused_before))
        yield near_miss_table(self.near_misses)

    def to_dict(self) -> dict[str, Any]:
        """For JSON; without the model."""
        return {
            "norm_count": len(self.norms),
            "fused_before_count": len(self.fused_before),
            "near_miss_count": len(self.near_misses),
            "repairs": list(self.repairs),
            "norms": [asdict(norm) for norm in self.norms],
            "fused_before": [asdict(norm) for norm in self.fused_before],
            "near_misses": [asdict(miss) for miss in self.near_misses],
        }


@contextmanager
def _uncollected() -> Iterator[None]:
    """Switch Python's cyclic garbage collector off.

    The collector goes through all references of the graph again and again, which takes a quarter of the time, and
    hardly any of them becomes garbage.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


@_uncollected()
def fuse(
    model: str | os.PathLike[str] | onnx.ModelProto | ir.Model,
    output: str | os.PathLike[str] | None = None,
    *,
    target: str = NormForm.FUSED,
    functions: bool = True,
    residual: bool = True,
    gate: bool = True,
    shift: bool = True,
    quantization: bool = True,
    allow_precision_gain: bool = False,
    verify: bool | None = None,
    require_all: bool = False,
    save_as_external: bool = False,
) -> FusionResult:
    """Make each RMSNorm of a model, decomposed or an op of ONNX or ONNX Runtime, one op of the domain `rms_deploy`.

    What cannot be proven to be RMSNorm stays as it is, and `near_misses` gives the reason. The order of rounding that
    the model has is kept. Nothing but the norms, and what only they read, is changed; a model without norms stays, byte
    for byte, what it was, and so does one that was fused before.

    Args:
        model: a file, a proto or an onnx-ir model. A given model is not changed: its graph is copied, its weights
            are shared with the result.
        output: where to write the fused model; may be the file that was read.
        target: the form that the norms get, one of `NormForm`. What it cannot express stays an op of our domain.
        functions: give the ops of our domain their function bodies.
        residual: also fuse a residual Add into the norm of its sum (`AddRMSNorm`).
        gate: also fuse a gate into its norm (`RMSNormSiluGate`, `RMSNormSigmoidGate`, `SiluGateRMSNorm`), where the
            target has such ops.
        shift: also fuse a shift into its norm (`RMSNormShift`, `AddRMSNormShift`), where the target has such ops.
        quantization: also fuse QuantizeLinear into the norm whose result it reads (`RMSNormQuantize`,
            `AddRMSNormQuantize`), where the target has such ops.
        allow_precision_gain: also fuse norms that take their statistics in a half type. The op takes them in float32,
            so the result differs, and is nearer to the exact one; the note of such a norm says so.
        verify: run each norm, cut out of the model, in both forms before it is replaced; if they differ, it is a near
            miss. Default: in models of up to `VERIFY_LIMIT` nodes.
        require_all: write nothing if there is a near miss.
        save_as_external: write all weights to one data file, `<output>.data`; by default data files stay as they are,
            and the result refers to them.

    Raises:
        ModelFileError: the file cannot be read.
        OutputError: `output` cannot be written.
        InputError: the opset is too old for the body of an op that the model needs, or no such target.
    """
    if output is not None:
        check_output(Path(output))
    form = norm_form(target, argument="target")
    fused = open_model(model)
    raised = form is not NormForm.TENSORRT_PLUGIN and raise_plugins(fused)
    faults = list(restore_ops(fused).values())
    before = set(norm_nodes(fused))
    if verify is None:
        verify = sum(len(graph) for graph in fused.graphs()) <= VERIFY_LIMIT
    skip = partial(_is_target, form)
    has_ours = form in (NormForm.FUSED, NormForm.TENSORRT_PLUGIN)
    wanted = {"residual": residual, "gate": gate, "shift": shift, "quantization": quantization}
    parts = [part for part, is_wanted in wanted.items() if is_wanted and (has_ours or part == "residual")]
    passes = [each for part, each in _PARTS if part in parts and (has_ours or each is FuseAddRMSNorm)]
    result, modified, facts = _fuse_norms(
        fused,
        passes=passes,
        allow_gain=allow_precision_gain,
        prove=verify,
        one_body=functions and form is NormForm.FUSED and fused.opset_imports.get("", 0) < CONSTANT_OPSET,
        skip=skip,
        keep=is_decomposed_form if form is NormForm.DECOMPOSED else _never,
    )
    near_misses = result.near_misses
    if form is not NormForm.DECOMPOSED:
        expected = [part for part in parts if has_ours or form is not NormForm.STANDARD]
        near_misses = (*near_misses, *half_fused(fused, facts, parts=expected))
    after = [(node, describe_fused(node, facts)) for node in norm_nodes(fused)]
    kept = [describe_foreign(node, facts) for node in _in_form(form, fused) if skip(node, facts)]
    kept += [replace(describe_match(match, facts), note="") for match in result.kept]
    if before and functions and form is NormForm.FUSED:
        faults += [fault for node, fault in body_faults(fused, facts).items() if node in before]
    modified |= raised or bool(faults)
    is_old = not modified and functions and form is NormForm.FUSED
    lowered = lower(fused, form, functions=functions, facts=facts, modified=modified)
    if is_old and lowered.modified:
        faults = [_OLD_BODY] * len(before)
    fused, modified = lowered.model, lowered.modified
    written = output is not None and not (require_all and near_misses)
    if output is not None and written:
        unchanged = None if modified or isinstance(model, ir.Model) else model
        save_model(fused, output, external=save_as_external, unchanged=unchanged)
    return FusionResult(
        fused,
        norms=tuple(norm for node, norm in after if node not in before),
        fused_before=(*(norm for node, norm in after if node in before), *kept),
        near_misses=near_misses,
        repairs=tuple(f"{count} norm{'s' * (count > 1)}: {fault}" for fault, count in Counter(faults).items()),
        written=written,
    )


def _fuse_norms(
    model: ir.Model, *, passes: Sequence[_Pass], prove: bool, **options: Any
) -> tuple[FuseRMSNormResult, bool, Facts]:
    """Fuse until nothing is found: more is known of the shapes behind a norm once it is an op.

    In a model of one graph all is known at once, as a rule. Of branches, loops and functions what is known depends on
    what was fused, so that the last round is one that changed nothing: fusing the result again then changes nothing.

    Returns:
        The result of the last round, whether the model was changed in any, and what is known of it.
    """
    modified, has_bodies = False, _has_bodies(model)
    thorough = has_bodies
    while True:
        facts = Facts(model, thorough=thorough)
        result = FuseRMSNorm(facts, prove=prove, **options)(model)
        assert isinstance(result, FuseRMSNormResult)
        steps: list[FuseRMSNormResult | FuseResult] = [result]
        for fuse_part in passes:
            step = fuse_part(facts, prove=prove)(model)
            assert isinstance(step, FuseResult)
            steps.append(step)
        changed = any(step.modified for step in steps)
        modified |= changed
        is_decided = all(step.is_decided for step in steps) and not (changed and _is_open(model, facts))
        if (is_decided and not has_bodies) or (thorough and not changed):
            return result, modified, facts
        thorough = True


def _is_open(model: ir.Model, facts: Facts) -> bool:
    """Whether there is a norm of which not even the rank is known."""
    return any(facts.shape(node.outputs[0]) is None for node in norm_nodes(model))


def _has_bodies(model: ir.Model) -> bool:
    """Whether there are graphs besides the main one, and the bodies of our ops."""
    is_called = any(function.domain != DOMAIN for function in model.functions.values())
    return is_called or next(iter(model.graph.subgraphs()), None) is not None


def _never(match: Match, facts: Facts) -> bool:  # noqa: ARG001 - the signature of a filter
    return False


def _in_form(form: NormForm, model: ir.Model) -> Iterator[ir.Node]:
    """The nodes that may be an op of ONNX or ONNX Runtime in the form of the target."""
    if any(norm.form is form for norm in FOREIGN_NORMS.values()):
        yield from (node for graph in graphs_of(model) for node in graph if node.op_type in FOREIGN_NORMS)


def _is_target(form: NormForm, node: ir.Node, facts: Facts) -> bool:
    """Whether `node` is the op that the target makes of a norm, and valid: x and scale have one type."""
    norm = foreign_norm(node)
    if norm is None or not norm.is_rms or norm.form is not form or node.domain != norm.domains[0]:
        return False
    types = [facts.dtype(value) for value in node.inputs if value is not None]
    return len(types) > 1 and len(set(types)) == 1

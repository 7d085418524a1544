"""`cast`: a float32 model in half precision, its norms fused first, and compared with the original at the end."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import onnx
import onnx_ir as ir
from numpy.typing import NDArray

from rms_deploy.conversion.angles import nodes_of_angles
from rms_deploy.conversion.half import to_half
from rms_deploy.conversion.prepare import prepare
from rms_deploy.conversion.ranges import largest_values, out_of_range
from rms_deploy.conversion.type_rules import nodes_without_half, touches_float32
from rms_deploy.display import Displayed, Table
from rms_deploy.errors import InputError, RunError
from rms_deploy.fusion.fuse import fuse
from rms_deploy.fusion.near_miss import NearMiss
from rms_deploy.fusion.norm import Norm
from rms_deploy.fusion.norm_tables import near_miss_table
from rms_deploy.onnx_model.file import open_model, save_model
from rms_deploy.onnx_model.inputs import Magnitude, resolve_inputs
from rms_deploy.ops.element_types import HALF
from rms_deploy.ops.forms import NormForm, norm_form
from rms_deploy.ops.nodes import all_graphs, bodies_of
from rms_deploy.output_file import check_output
from rms_deploy.verification.result import Verification
from rms_deploy.verification.verify import verify as compare

__all__ = ["CastResult", "KeptNode", "cast"]

_SAMPLES: Final[tuple[Magnitude, ...]] = ("normal", "outlier")

_FIRST_OPSET: Final = {ir.DataType.FLOAT16: 9, ir.DataType.BFLOAT16: 13}
"""The first with Where, by which the ranges are looked at; the first with bfloat16."""

_Given = Mapping[str, Any]


@dataclass(frozen=True)
class KeptNode:
    """A node that stays in float32."""

    node: str
    op_type: str
    reason: str


@dataclass(frozen=True, repr=False)
class CastResult(Displayed):
    """What `cast` did."""

    model: ir.Model = field(repr=False)
    to: str
    norms: tuple[Norm, ...]
    """The norms that are one op, as they were in float32."""
    near_misses: tuple[NearMiss, ...]
    """What looks like RMSNorm and is not fused, as in `FusionResult`."""
    cast_count: int
    """Nodes that were in float32 and are in the half type."""
    kept: tuple[KeptNode, ...]
    """Nodes that stay in float32, each with its reason."""
    verification: Verification | None
    """The comparison with the original; None: it was left out."""
    written: bool
    """Whether the model was written to a file."""

    def _line(self) -> str:
        norms = f"{len(self.norms)} of them norms"
        return f"cast {self.cast_count} of {self.cast_count + len(self.kept)} nodes to {self.to}, {norms}"

    def tables(self) -> Iterable[Table]:
        """What stays in float32, and the near misses."""
        rows = [(kept.node, kept.op_type, kept.reason) for kept in self.kept]
        yield Table(("stays in float32", "operator", "why"), rows, left=3)
        yield near_miss_table(self.near_misses)

    def to_dict(self) -> dict[str, Any]:
        """For JSON; without the model."""
        return {
            "to": self.to,
            "norm_count": len(self.norms),
            "near_miss_count": len(self.near_misses),
            "cast_count": self.cast_count,
            "kept_count": len(self.kept),
            "kept": [asdict(node) for node in self.kept],
            "near_misses": [asdict(miss) for miss in self.near_misses],
            "verification": None if self.verification is None else self.verification.to_dict(),
        }


def cast(
    model: str | os.PathLike[str] | onnx.ModelProto | ir.Model,
    output: str | os.PathLike[str] | None = None,
    *,
    to: str = "float16",
    target: str = NormForm.FUSED,
    keep: Sequence[str] = (),
    keep_io: bool = False,
    inputs: str | os.PathLike[str] | Mapping[str, NDArray[Any]] | None = None,
    shapes: Mapping[str, Sequence[int]] | None = None,
    dims: Mapping[str, int] | None = None,
    seed: int = 0,
    verify: bool = True,
    timeout: float | None = None,
    save_as_external: bool = False,
) -> CastResult:
    """Write a float32 model in half precision: weights, values, inputs and outputs.

    Every RMSNorm is fused first, so that it keeps its statistics in float32 inside one op. ONNX Runtime's converter
    casts the rest. These nodes stay in float32:

    1. those in `keep`;
    2. operators that have no form in the half type, and those that the converter keeps;
    3. sums such as ReduceMean that no fused norm holds;
    4. what computes a Sin or Cos from positions;
    5. for float16, what reads or gives a value beyond its range. Weights are looked at, and what the model computes for
       sample inputs. The largest number of a value has to lie between 6.1e-5 and 16376, a quarter of float16's largest.

    A weight is rounded to nearest. The -3.4e38 of a mask becomes the smallest number of the half type.

    At the end the result is compared with the original, as `rms_deploy.verify` does with `cast`.

    Args:
        model: a file, a proto or an onnx-ir model. A given model is not changed.
        output: where to write the result, if it passes; may be the file that was read.
        to: float16 or bfloat16.
        target: the form of the norms, one of `NormForm`.
        keep: nodes that stay in float32, by name or by operator, such as `Softmax`.
        keep_io: inputs and outputs stay in float32.
        inputs: an .npz file or arrays by name, the sample of rule 5 and of the comparison; default: random ones, also
            with an outlier channel.
        shapes: of random inputs, by name.
        dims: sizes of named dynamic dimensions, for random inputs.
        seed: of the random inputs.
        verify: compare the result with the original.
        timeout: seconds after which that ends with an error, as for `rms_deploy.verify`: in a process of its own.
        save_as_external: write all weights to one data file, `<output>.data`.

    Raises:
        ModelFileError: the file cannot be read.
        OutputError: `output` cannot be written.
        InputError: there is nothing in float32, no such type, target or node to keep, or inputs that do not fit.
        RunError: ONNX Runtime does not run the model, or its cast, or it did not end within `timeout`.
        MissingDependencyError: ONNX Runtime is not installed.
    """
    if output is not None:
        check_output(Path(output))
    half = _half_type(to)
    form = norm_form(target, argument="target")
    given: dict[str, Any] = {"inputs": inputs, "shapes": shapes, "dims": dims, "seed": seed}
    fused = fuse(model)
    opset, first = fused.model.opset_imports.get(""), _FIRST_OPSET[half]
    if opset is not None and opset < first:
        raise InputError(f"{to} needs opset >= {first}, the model has {opset}; raise it with onnx.version_converter")
    prepare(fused.model)
    nodes = [node for graph in all_graphs([fused.model.graph]) for node in graph if touches_float32(node)]
    if not nodes:
        raise InputError("the model has nothing in float32 to cast")
    reasons = {**nodes_of_angles(fused.model), **nodes_without_half(fused.model, half), **_asked_for(fused.model, keep)}
    if half == ir.DataType.FLOAT16:
        largest = largest_values(fused.model, resolve_inputs(fused.model, magnitudes=_SAMPLES, **given).values())
        reasons = {**out_of_range(fused.model, largest, half, keep_io=keep_io), **reasons}
    kept = _kept(nodes, reasons)
    result = fuse(to_half(fused.model, half, kept=kept.keys(), keep_io=keep_io), verify=False).model
    tested, result = result, fuse(result, target=form, verify=False).model if form is not NormForm.FUSED else result
    if form is not NormForm.TENSORRT_PLUGIN:  # which only TensorRT runs
        tested = result
    verification = _compared(model, tested, timeout, given) if verify else None
    written = output is not None and (verification is None or verification.passed)
    if output is not None and written:
        save_model(result, output, external=save_as_external)
    return CastResult(
        result,
        to=to,
        norms=(*fused.norms, *fused.fused_before),
        near_misses=fused.near_misses,
        cast_count=len(nodes) - len(kept),
        kept=tuple(kept.values()),
        verification=verification,
        written=written,
    )


def _compared(
    model: str | os.PathLike[str] | onnx.ModelProto | ir.Model, tested: ir.Model, timeout: float | None, given: _Given
) -> Verification:
    """The original and its cast, as a file, which another process can read."""
    with TemporaryDirectory(prefix="rms-deploy-") as folder:
        candidate, original = Path(folder) / "cast.onnx", Path(folder) / "original.onnx"
        save_model(tested, candidate)
        if isinstance(model, ir.Model):
            save_model(open_model(model), original)
        reference = original if isinstance(model, ir.Model) else model
        try:
            return compare(reference, candidate, cast=True, timeout=timeout, **given)
        except RunError as error:
            raise RunError(
                f"the comparison with the original failed: {error}; nothing was written; `verify=False` leaves it out"
            ) from error


def _half_type(to: str) -> ir.DataType:
    names = {half.name.lower(): half for half in HALF}
    if to not in names:
        raise InputError(f"`to` is {to!r}; use {' or '.join(sorted(names, reverse=True))}")
    return names[to]


def _kept(nodes: Iterable[ir.Node], reasons: Mapping[ir.Node, str]) -> dict[str, KeptNode]:
    """The nodes that stay in float32 by name, in the order of the model."""
    for node in reasons:
        if any(True for _ in bodies_of(node)):
            raise InputError(
                f"node {node.name} ({node.op_type}) cannot stay in float32 as a whole ({reasons[node]}), as it holds "
                "other nodes; name those in `keep`"
            )
    return {
        node.name or "": KeptNode(node.name or "", node.op_type, reasons[node]) for node in nodes if node in reasons
    }


def _asked_for(model: ir.Model, keep: Sequence[str]) -> dict[ir.Node, str]:
    found: dict[ir.Node, str] = {}
    for name in keep:
        named = [node for graph in all_graphs([model.graph]) for node in graph if name in (node.name, node.op_type)]
        if not named:
            raise InputError(f"`keep`: the fused model has no node and no operator {name!r}")
        found |= dict.fromkeys(named, "asked for")
    return found

"""RMSNorm modules of other libraries, replaced by those of `rms_deploy.nn` that compute the same."""

from __future__ import annotations

from rms_deploy.ops import torch_check  # noqa: F401 - first: it says what is missing

# isort: split
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from rms_deploy.display import Displayed, Table
from rms_deploy.exporter.module_tree import replace
from rms_deploy.exporter.norm_probe import NotReplaceableError, probe
from rms_deploy.nn import RMSNorm

__all__ = ["SwapReport", "find_norms", "swap"]


@dataclass(repr=False)
class SwapReport(Displayed):
    """What `swap` did.

    Attributes:
        swapped: name in the module tree, and the RMSNorm that is there now.
        kept: name in the module tree, and why a module that is called an RMSNorm stayed.
    """

    swapped: dict[str, RMSNorm] = field(default_factory=dict)
    kept: dict[str, str] = field(default_factory=dict)

    def tables(self) -> Iterable[Table]:
        """A row for each module that was swapped or kept."""
        rows = [(name, str(norm)) for name, norm in self.swapped.items()]
        rows += [(name, f"kept: {reason}") for name, reason in self.kept.items()]
        yield Table(("module", "norm"), rows, left=2)

    def _line(self) -> str:
        return f"{len(self.swapped)} swapped, {len(self.kept)} kept"

    def to_dict(self) -> dict[str, Any]:
        """For JSON; each norm as text."""
        return {"swapped": {name: str(norm) for name, norm in self.swapped.items()}, "kept": dict(self.kept)}


def swap(module: nn.Module) -> SwapReport:
    """Replace, in place, each submodule that is an RMSNorm by ours; weights are shared, not copied.

    Running a copy of each shows whether it is one, and its epsilon, offset (1 + w) and rounding order (see
    `rms_deploy.exporter.norm_probe`). The weight is called `weight` afterwards, whatever its name was. `module` itself
    is not replaced.
    """
    norms, report = find_norms(module)
    if module in norms:
        report.swapped.pop("")
        report.kept[""] = "it is the whole module, and has no place to be replaced in"
    replace(module, lambda child: norms.get(child) if child is not module else None)
    return report


def find_norms(module: nn.Module) -> tuple[dict[nn.Module, RMSNorm], SwapReport]:
    """Each module that can be replaced, with its replacement; and the report of doing so. Changes nothing."""
    norms: dict[nn.Module, RMSNorm] = {}
    report = SwapReport()
    for name, child in module.named_modules():
        if not _is_candidate(child):
            continue
        try:
            norms[child] = report.swapped[name] = probe(child)
        except NotReplaceableError as error:
            if _is_called_rms_norm(child):
                report.kept[name] = str(error)
    return norms, report


def _is_candidate(module: nn.Module) -> bool:
    """Whether it may be an RMSNorm: torch has one; elsewhere, T5LayerNorm and others do not say so in their names."""
    kind = type(module)
    if isinstance(module, RMSNorm) or "norm" not in kind.__name__.lower():
        return False
    return isinstance(module, nn.RMSNorm) or not kind.__module__.startswith("torch.")


def _is_called_rms_norm(module: nn.Module) -> bool:
    name = type(module).__name__.lower()
    return "rmsnorm" in name or "rms_norm" in name or name.endswith("t5layernorm")

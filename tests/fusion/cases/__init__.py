"""Graphs that are RMSNorm, and graphs that look like it: one table for the tests and for the comparison with peers."""

from __future__ import annotations

from .case import Case
from .casts import CASTS
from .context import CONTEXT
from .decoys import DECOYS
from .exporters import EXPORTERS
from .gate import GATE
from .native import NATIVE
from .pieces import PIECES
from .rare import RARE
from .residual import RESIDUAL

__all__ = ["CASES", "Case"]

CASES: list[Case] = [*PIECES, *CASTS, *NATIVE, *RESIDUAL, *GATE, *CONTEXT, *EXPORTERS, *RARE, *DECOYS]

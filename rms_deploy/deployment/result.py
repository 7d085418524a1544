"""What `package` wrote."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

__all__ = ["PackageResult"]


@dataclass(frozen=True)
class PackageResult:
    """A version of a model in a repository."""

    repository: str
    name: str
    version: int
    backend: str
    files: tuple[str, ...]
    """Of this version and of the model, relative to the repository."""
    command: tuple[str, ...]
    """What starts the server."""
    notes: tuple[str, ...] = ()
    """What the user should know."""

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)

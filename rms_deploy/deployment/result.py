"""What `package` wrote."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from rms_deploy.display import Displayed, Table

__all__ = ["PackageResult"]


@dataclass(frozen=True, repr=False)
class PackageResult(Displayed):
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

    def tables(self) -> Iterable[Table]:
        """The files."""
        yield Table(("file",), [(file,) for file in self.files])

    def _line(self) -> str:
        return f"{self.name}, version {self.version}, for the backend {self.backend}, in {self.repository}"

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)

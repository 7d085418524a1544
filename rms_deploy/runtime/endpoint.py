"""Where a server answers for a model: grpc://host:port/model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, TypeGuard
from urllib.parse import unquote, urlsplit

from rms_deploy.errors import InputError

__all__ = ["Endpoint", "is_endpoint"]

_FORM: Final = "write it as grpc://host:port/model or http://host:port/model, and /version behind it for one version"


@dataclass(frozen=True)
class Endpoint:
    """A model of a server that speaks the Open Inference Protocol."""

    url: str
    protocol: str
    """grpc or http."""
    address: str
    """host:port"""
    model: str
    version: str = ""
    """Empty: the server's choice, the newest as a rule."""

    @classmethod
    def of(cls, url: str) -> Endpoint:
        """Read a URL.

        Raises:
            InputError: it is none, or not of this form.
        """
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port
        except ValueError as error:
            raise InputError(f"{url}: is no endpoint: {error}; {_FORM}") from error
        path = [unquote(part) for part in parts.path.strip("/").split("/")]
        if parts.scheme not in ("grpc", "http") or not host or port is None:
            raise InputError(f"{url}: is no endpoint; {_FORM}")
        if len(path) > 2 or not all(path) or parts.query or parts.fragment or parts.username is not None:
            raise InputError(f"{url}: does not name one model; {_FORM}")
        return cls(url, parts.scheme, parts.netloc, *path)


def is_endpoint(model: Any) -> TypeGuard[str]:
    """Whether `model` is a URL, not a file or a model in memory."""
    return isinstance(model, str) and "://" in model

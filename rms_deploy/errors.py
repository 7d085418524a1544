"""The errors that a user's input can cause. The command line prints each as one line and exits with 1."""

from __future__ import annotations

__all__ = [
    "EngineError",
    "ExportError",
    "InputError",
    "InstallationError",
    "MissingDependencyError",
    "ModelFileError",
    "OutputError",
    "RmsDeployError",
    "RunError",
    "one_line",
]


class RmsDeployError(Exception):
    """Base of every error that says: the input is wrong, not the program."""


class InputError(RmsDeployError):
    """A value (dtype, shape, name, attribute) that is not accepted."""


class ModelFileError(RmsDeployError):
    """A model file that cannot be read: missing, truncated, not ONNX, too new, or without its external data."""


class OutputError(RmsDeployError):
    """A target that cannot be written."""


class ExportError(RmsDeployError):
    """A module that the exporter refused."""


class EngineError(RmsDeployError):
    """An engine that TensorRT did not build: it refused the model or the plugin library, or the build failed."""


class RunError(RmsDeployError):
    """A model that a runtime refused to load or to run."""


class InstallationError(RmsDeployError):
    """Something is missing here: a compiled library, a GPU, an execution provider."""


class MissingDependencyError(InstallationError):
    """An optional package that is not installed; the message holds the pip command."""


def one_line(error: BaseException) -> str:
    """Type and message of an error that is not ours: its first line, and the second where that ends in a colon."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    shown = " ".join(lines[:2] if lines and lines[0].endswith(":") else lines[:1])
    return f"{type(error).__name__}: {shown}" if shown else type(error).__name__

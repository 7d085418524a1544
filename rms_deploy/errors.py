"""The errors that a user's input can cause. The command line prints each as one line and exits with 1."""

from __future__ import annotations

__all__ = [
    "BuildError",
    "ExportError",
    "InputError",
    "MissingDependencyError",
    "ModelFileError",
    "OutputError",
    "RmsDeployError",
    "RunError",
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


class RunError(RmsDeployError):
    """A model that a runtime refused to load or to run."""


class BuildError(RmsDeployError):
    """A part of the installation that is not there, such as the compiled library."""


class MissingDependencyError(RmsDeployError):
    """An optional package that is not installed; the message holds the pip command."""

"""Whether torch is installed: importing this module, before torch itself, says what to do if it is not."""

from __future__ import annotations

from rms_deploy.errors import MissingDependencyError

__all__ = ["missing"]


def missing(error: ModuleNotFoundError) -> MissingDependencyError:
    """The pip command for what `error` did not find."""
    # Below 2.14, as in pyproject.toml: from there on, the default build for Linux brings gigabytes of CUDA packages.
    package = str(error.name).partition(".")[0]
    return MissingDependencyError(f"{package} is not installed; run: pip install 'torch<2.14' onnxscript")


try:
    import torch  # noqa: F401
except ModuleNotFoundError as error:
    raise missing(error) from error

"""One point of a sweep, on the node that measures it: all its candidates, in turns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from rms_deploy.benchmark.bench import bench
from rms_deploy.benchmark.method import Method
from rms_deploy.benchmark.model_files import GivenModel
from rms_deploy.deployment.files import Contents, write_files

__all__ = ["measure_point"]


def measure_point(
    files: Contents,
    *,
    models: Sequence[tuple[str, str]],
    inputs: Any,
    sizes: Mapping[str, int],
    method: Method,
    options: Mapping[str, Any],
) -> dict[str, Any]:
    """Measure the candidates on this machine.

    Args:
        files: of the models, and of the inputs if they lie in one.
        models: the name of each in the result, and its file.
        inputs: of `bench`; a name in `files`, or arrays.
        sizes: of the dimensions of the sweep.
        method: of `bench`.
        options: other arguments of `bench`.

    Returns:
        The result of `bench`, as `to_dict` has it.

    Raises:
        RmsDeployError: what `bench` raises.
    """
    with TemporaryDirectory(prefix="rms-deploy-sweep-") as name:
        folder = Path(name)
        write_files(files, folder)
        result = bench(
            [GivenModel(called, str(folder / file)) for called, file in models],
            method=method,
            inputs=folder / inputs if isinstance(inputs, str) else inputs,
            sweep={name: (size,) for name, size in sizes.items()},
            **options,
        )
    return result.to_dict()

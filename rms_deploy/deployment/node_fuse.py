"""Models of a folder, fused on the nodes of a Ray cluster."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from rms_deploy.deployment.cluster import Cluster, cluster
from rms_deploy.deployment.cluster_calls import Call
from rms_deploy.deployment.files import Contents, files_of, read_file, write_files
from rms_deploy.deployment.fuse_one import ModelFusion, fuse_one
from rms_deploy.errors import ModelFileError, OutputError, RmsDeployError
from rms_deploy.onnx_model.file import load_model, save_model

__all__ = ["fuse_on_node", "fused_on_cluster"]

_FUSED: Final = "fused/model.onnx"


def fused_on_cluster(
    names: Sequence[str], source: Path, target: Path, options: Mapping[str, Any], ray: str
) -> Iterator[tuple[str, ModelFusion]]:
    """Each model as it is done; a node fuses as many at a time as it has CPUs."""
    unread: dict[str, ModelFusion] = {}
    with cluster(ray) as connected:
        calls = _calls(connected, names, source, options, unread)
        for name, result in connected.run({connected.nodes(): calls}, alone=False):
            yield name, _received(name, result, target / name)
    yield from unread.items()


def fuse_on_node(files: Contents, *, name: str, model: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Fuse one model on this machine; the result and the files that were written."""
    with TemporaryDirectory(prefix="rms-deploy-fuse-") as folder:
        write_files(files, folder)
        output = Path(folder, _FUSED)
        output.parent.mkdir()
        fusion = fuse_one(name, Path(folder, model), output, options)
        written = {path.name: read_file(path) for path in output.parent.iterdir()}
        return {"fusion": fusion, "files": written}


def _calls(
    connected: Cluster,
    names: Sequence[str],
    source: Path,
    options: Mapping[str, Any],
    unread: dict[str, ModelFusion],
) -> Iterator[tuple[str, Call]]:
    """The call of each model; one that cannot be sent goes to `unread`."""
    for name in names:
        try:
            files = {f"given/{file}": path for file, path in files_of(source / name).items()}
        except ModelFileError as error:
            unread[name] = ModelFusion(name, 0.0, failure=str(error))
            continue
        arguments = {"name": name, "model": f"given/{Path(name).name}", "options": options}
        yield name, Call(fuse_on_node, arguments, connected.send(files))


def _received(name: str, result: dict[str, Any] | RmsDeployError, output: Path) -> ModelFusion:
    """Write the model that a node fused."""
    if isinstance(result, RmsDeployError):
        return ModelFusion(name, 0.0, failure=str(result))
    fusion: ModelFusion = result["fusion"]
    if not fusion.written:
        return fusion
    with TemporaryDirectory(prefix="rms-deploy-fuse-") as folder:
        write_files(result["files"], folder)
        try:
            fused = Path(folder, Path(_FUSED).name)
            save_model(load_model(fused), output, unchanged=fused)
        except OutputError as error:
            return replace(fusion, written=False, failure=str(error))
    return fusion

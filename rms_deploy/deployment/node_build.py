"""One engine, on the node that builds it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from rms_deploy.deployment.files import Contents, read_file, write_files
from rms_deploy.deployment.gpu_types import capability_of
from rms_deploy.engine.build import build
from rms_deploy.runtime.engine_file import read_record
from rms_deploy.runtime.gpus import gpus
from rms_deploy.runtime.tensorrt_api import tensorrt

__all__ = ["build_on_node"]

_ENGINE: Final = "model.engine"


def build_on_node(files: Contents, *, model: str, gpu_type: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Build for the GPU of this machine; where there is none, TensorRT-RTX builds for the type that was announced.

    Args:
        files: of the model.
        model: its name among the files.
        gpu_type: that the node announces.
        options: of `build`.

    Returns:
        `device`, the compute capability; `engine`, the content of the file; `record`, that of the JSON file beside it.

    Raises:
        RmsDeployError: what `build` raises.
    """
    here = gpus()
    device = here[0].capability if here else capability_of(gpu_type)
    devices = (device,) if tensorrt(options.get("runtime")).is_rtx else ()
    with TemporaryDirectory(prefix="rms-deploy-build-") as name:
        folder = Path(name)
        write_files(files, folder)
        engine = folder / _ENGINE
        build(folder / model, engine, devices=devices, **options)
        return {"device": device, "engine": read_file(engine), "record": read_record(engine)}

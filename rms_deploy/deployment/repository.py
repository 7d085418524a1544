"""A repository of models, as a folder: a model or a version is added whole, or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from rms_deploy.deployment.model_config import ModelConfig
from rms_deploy.errors import OutputError
from rms_deploy.output_file import atomic_path, work_folder

__all__ = ["CONFIG", "ModelVersion", "add_version"]

CONFIG: Final = "config.pbtxt"


@dataclass(frozen=True)
class ModelVersion:
    """A version of a model that is to be added."""

    config: ModelConfig
    number: int
    write: Callable[[Path], None]
    """Puts the files of the version into a folder."""
    libraries: Sequence[Path] = ()
    """What lies beside the versions."""


def add_version(repository: Path, version: ModelVersion) -> bool:
    """Add a version to a repository; the repository and the model are made where they are missing.

    A config.pbtxt that is there stays as it is, with what its user has tuned, if it describes the same model.

    Returns:
        Whether the config.pbtxt is that of `version`; if not, it was there before and has other options.

    Raises:
        InputError: Triton has no such model, as `ModelConfig.text` says.
        OutputError: the version exists, the model of this name is another one, or the folder cannot be written.
    """
    version.config.text()
    if repository.exists() and not repository.is_dir():
        raise OutputError(f"{repository}: is a file; give a folder")
    if not repository.absolute().parent.is_dir():
        raise OutputError(f"{repository}: the folder {repository.parent} does not exist; create it first")
    model = repository / version.config.name
    try:
        if model.exists():
            return _add_to_model(model, version)
        _add_model(repository, version)
    except OSError as error:
        raise OutputError(f"{model}: cannot be written: {error.strerror or error}") from error
    return True


def _add_model(repository: Path, version: ModelVersion) -> None:
    name = version.config.name
    with work_folder(_work_place(repository)) as folder:
        whole = folder / "repository"
        (whole / name / str(version.number)).mkdir(parents=True)
        version.write(whole / name / str(version.number))
        (whole / name / CONFIG).write_text(version.config.text(), encoding="utf-8")
        for library in version.libraries:
            shutil.copyfile(library, whole / name / library.name)
        if repository.exists():
            (whole / name).rename(repository / name)
        else:
            whole.rename(repository)


def _work_place(repository: Path) -> Path:
    """Beside the repository, as a server takes each folder in it for a model; inside, if it is a disk of its own."""
    parent = repository.absolute().parent
    if not repository.exists() or (repository.stat().st_dev == parent.stat().st_dev and os.access(parent, os.W_OK)):
        return parent
    return repository


def _add_to_model(model: Path, version: ModelVersion) -> bool:
    target = model / str(version.number)
    if target.exists():
        raise OutputError(f"{target}: exists; give another `version`, or remove it")
    found = (model / CONFIG).read_text(encoding="utf-8", errors="replace") if (model / CONFIG).is_file() else ""
    if not found.startswith(version.config.identity()):
        raise OutputError(f"{model / CONFIG}: describes another model; give another `name`, or remove {model}")
    with work_folder(model) as folder:
        new = folder / "version"
        new.mkdir()
        version.write(new)
        for library in version.libraries:
            with atomic_path(model / library.name) as path:
                shutil.copyfile(library, path)
        new.rename(target)
    return found == version.config.text()

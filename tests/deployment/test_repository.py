"""Models and versions are added whole, or not at all."""

from __future__ import annotations

import os
from dataclasses import replace

import numpy as np
import onnx_ir as ir
import pytest

from rms_deploy.deployment import repository as module
from rms_deploy.deployment.model_config import ModelConfig
from rms_deploy.deployment.repository import ModelVersion, add_version
from rms_deploy.errors import OutputError
from rms_deploy.onnx_model.signature import TensorSpec

SPEC = TensorSpec("x", np.dtype(np.float32), ir.Shape((1,)))
CONFIG = ModelConfig("m", "python", (SPEC,), (SPEC,))


def version(number=1, content="a", *, config=CONFIG, libraries=()):
    return ModelVersion(config, number, lambda folder: (folder / "model.onnx").write_text(content), libraries)


def tree(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


@pytest.fixture
def library(tmp_path):
    path = tmp_path / "elsewhere" / "lib.so"
    path.parent.mkdir()
    path.write_text("one")
    return path


def test_a_repository_a_second_model_and_a_second_version(tmp_path, library):
    models = tmp_path / "models"
    assert add_version(models, version(libraries=[library]))
    assert add_version(models, version(config=replace(CONFIG, name="n")))
    library.write_text("two")
    assert add_version(models, version(7, "b", libraries=[library]))
    assert tree(models) == [
        "m/1/model.onnx",
        "m/7/model.onnx",
        "m/config.pbtxt",
        "m/lib.so",
        "n/1/model.onnx",
        "n/config.pbtxt",
    ]
    assert (models / "m" / "7" / "model.onnx").read_text() == "b"
    assert (models / "m" / "lib.so").read_text() == "two"
    assert (models / "m" / "config.pbtxt").read_text() == CONFIG.text()
    assert {path.name for path in tmp_path.iterdir()} == {"models", "elsewhere"}
    assert models.stat().st_mode & 0o055 == (tmp_path / "elsewhere").stat().st_mode & 0o055, "others may read it"


@pytest.mark.parametrize("content", [None, b"", b'name: "\xff"', b"# mine\n" + CONFIG.text().encode()])
def test_a_config_that_says_something_else(tmp_path, content):
    add_version(tmp_path / "r", version())
    config = tmp_path / "r" / "m" / "config.pbtxt"
    config.unlink() if content is None else config.write_bytes(content)
    with pytest.raises(OutputError, match="describes another model; give another `name`, or remove"):
        add_version(tmp_path / "r", version(2))


def test_what_a_user_tuned_stays(tmp_path):
    add_version(tmp_path / "r", version())
    config = tmp_path / "r" / "m" / "config.pbtxt"
    config.write_text(CONFIG.identity() + "# tuned\n")
    assert not add_version(tmp_path / "r", version(2))
    assert config.read_text() == CONFIG.identity() + "# tuned\n"
    assert (tmp_path / "r" / "m" / "2" / "model.onnx").is_file()


@pytest.mark.parametrize("number", [1, 2])
def test_another_model_of_the_name_is_refused(tmp_path, number):
    add_version(tmp_path / "r", version())
    before = tree(tmp_path)
    other = replace(CONFIG, max_batch_size=0, backend="onnxruntime")
    message = (
        r"1: exists; give another `version`"
        if number == 1
        else "config.pbtxt: describes another model; give another `name`"
    )
    with pytest.raises(OutputError, match=message):
        add_version(tmp_path / "r", version(number, "b", config=other))
    assert tree(tmp_path) == before


@pytest.mark.parametrize("exists", ["nothing", "repository", "model"])
def test_a_failure_half_way_leaves_nothing(tmp_path, exists):
    models = tmp_path / "models"
    if exists != "nothing":
        add_version(models, version(config=replace(CONFIG, name="m" if exists == "model" else "n")))
    before = sorted(map(str, tmp_path.rglob("*")))

    def fail(folder):
        (folder / "model.onnx").write_text("half")
        raise OSError(28, "No space left on device")

    with pytest.raises(OutputError, match="m: cannot be written: No space left on device"):
        add_version(models, replace(version(2), write=fail))
    assert sorted(map(str, tmp_path.rglob("*"))) == before


def test_a_server_sees_no_folder_that_grows(tmp_path):
    """It takes every folder of the repository for a model, and every number in a model for a version."""
    models = tmp_path / "models"
    add_version(models, version(config=replace(CONFIG, name="n")))
    seen = []
    add_version(models, replace(version(), write=lambda _: seen.append(sorted(p.name for p in models.iterdir()))))
    add_version(
        models, replace(version(2), write=lambda _: seen.append(sorted(p.name for p in (models / "m").iterdir())))
    )
    assert seen[0] == ["n"]
    assert [name for name in seen[1] if name.isdecimal()] == ["1"]


def test_a_repository_that_is_a_disk_of_its_own(tmp_path, monkeypatch):
    """Nothing can be renamed into it from beside it."""
    models = tmp_path / "models"
    models.mkdir()
    monkeypatch.setattr(module.os, "access", lambda *_: False)
    seen = []
    add_version(models, replace(version(), write=lambda folder: seen.append(folder.is_relative_to(models))))
    assert seen == [True]
    assert [path.name for path in models.iterdir()] == ["m"]


def test_places_that_cannot_be_a_repository(tmp_path):
    (tmp_path / "file").touch()
    for path, message in (("file", "file: is a file; give a folder"), ("a/b", "a does not exist; create it first")):
        with pytest.raises(OutputError, match=message):
            add_version(tmp_path / path, version())


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_a_folder_that_is_read_only(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(OutputError, match="m: cannot be written: Permission denied"):
        add_version(tmp_path / "r", version())

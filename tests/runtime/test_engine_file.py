"""Engine files and their records."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rms_deploy.errors import ModelFileError
from rms_deploy.runtime.engine_file import is_engine, read_engine, read_record, record_path


@pytest.mark.parametrize(
    ("name", "engine"),
    [("a.engine", True), ("a.PLAN", True), ("b/a.trt", True), ("a.onnx", False), ("engine", False)],
)
def test_engines_are_known_by_their_names(name, engine):
    assert is_engine(name) == is_engine(Path(name)) == engine


def test_an_engine_is_read_whole(tmp_path):
    (tmp_path / "e.engine").write_bytes(b"plan")
    assert read_engine(str(tmp_path / "e.engine")) == b"plan"


def test_an_engine_that_cannot_be_read(tmp_path):
    with pytest.raises(ModelFileError, match=r"no\.engine: no such file"):
        read_engine(tmp_path / "no.engine")
    with pytest.raises(ModelFileError, match="cannot be read: Is a directory"):
        read_engine(tmp_path)


def test_a_record_lies_beside_its_engine(tmp_path):
    assert record_path(tmp_path / "e.engine") == tmp_path / "e.engine.json"
    (tmp_path / "e.engine.json").write_text(json.dumps({"norm": "plugin"}))
    assert read_record(tmp_path / "e.engine") == {"norm": "plugin"}


@pytest.mark.parametrize("content", [None, "no JSON", "[1]"])
def test_no_record_is_empty(content, tmp_path):
    if content is not None:
        (tmp_path / "e.engine.json").write_text(content)
    assert read_record(tmp_path / "e.engine") == {}

"""The index of a folder of engines, as other tools read it."""

from __future__ import annotations

import json

import pytest

from rms_deploy.deployment.engine_index import IndexedEngine, read_index, write_index
from rms_deploy.errors import InputError

ENGINE = IndexedEngine("L4", "sm89", "a-L4.engine", "a-L4.engine.json", "../a.onnx")


def test_there_and_back(tmp_path):
    write_index(tmp_path, [ENGINE])
    assert read_index(tmp_path) == (ENGINE,)
    assert json.loads((tmp_path / "index.json").read_text()) == {
        "format": 1,
        "engines": [
            {
                "gpu_type": "L4",
                "device": "sm89",
                "engine": "a-L4.engine",
                "record": "a-L4.engine.json",
                "model": "../a.onnx",
            }
        ],
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "cannot be read: No such file or directory"),
        ("{", "is no index of engines"),
        ("[]", "is no index of engines"),
        ('{"format": 1, "engines": [{}]}', "is no index of engines"),
        ('{"format": 2}', "has format 2, this version reads 1"),
    ],
)
def test_what_is_no_index(text, message, tmp_path):
    if text is not None:
        (tmp_path / "index.json").write_text(text)
    with pytest.raises(InputError, match=message):
        read_index(tmp_path)

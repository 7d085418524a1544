"""Wrong fields and wrong nodes are refused, with one clear text through TensorRT's logger that names the node."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from .refusals import FIELDS, NODES

pytestmark = pytest.mark.usefixtures("rtx")  # there, and mended

PROGRAM = Path(__file__).parent / "refusals.py"


@pytest.fixture(scope="module")
def said(library):
    done = subprocess.run([sys.executable, str(PROGRAM), str(library)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("text", FIELDS)
def test_a_wrong_field(said, text):
    op, _ = FIELDS[text]
    assert said[list(FIELDS).index(text)] == [f"{op} node 'norm': {text}"]


@pytest.mark.parametrize("text", NODES)
def test_a_wrong_node(said, text):
    op = NODES[text].get("op", "RMSNorm")
    assert f"{op} node 'norm': {text}" in said[len(FIELDS) + list(NODES).index(text)]

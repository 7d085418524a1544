"""A config.pbtxt as Triton's own definition of it reads it."""

from __future__ import annotations

from typing import Any

import pytest


def parsed(text: str) -> Any:
    """The ModelConfig; the test is skipped without the client of Triton, which has the definition."""
    pb2 = pytest.importorskip("tritonclient.grpc.model_config_pb2", reason="the extra serving is not installed")
    from google.protobuf import text_format

    return text_format.Parse(text, pb2.ModelConfig())

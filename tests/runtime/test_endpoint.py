"""URLs of endpoints."""

from __future__ import annotations

from pathlib import Path

import pytest

from rms_deploy.errors import InputError
from rms_deploy.runtime.endpoint import Endpoint, is_endpoint


@pytest.mark.parametrize(
    ("url", "parts"),
    [
        ("grpc://localhost:8001/decoder", ("grpc", "localhost:8001", "decoder", "")),
        ("http://10.0.0.1:8000/decoder/2", ("http", "10.0.0.1:8000", "decoder", "2")),
        ("grpc://[::1]:8001/a%20b/", ("grpc", "[::1]:8001", "a b", "")),
    ],
)
def test_parts(url, parts):
    endpoint = Endpoint.of(url)
    assert (endpoint.protocol, endpoint.address, endpoint.model, endpoint.version) == parts
    assert endpoint.url == url


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("decoder", "decoder: is no endpoint; write it as grpc://host:port/model or http://host:port/model"),
        ("https://h:1/m", "https://h:1/m: is no endpoint"),
        ("grpc://h/m", "grpc://h/m: is no endpoint"),
        ("grpc://:8001/m", "is no endpoint"),
        ("grpc://h:99999/m", "is no endpoint: Port out of range 0-65535; write it as"),
        ("grpc://[::1/m", "is no endpoint: Invalid IPv6 URL"),
        ("grpc://h:1", "does not name one model"),
        ("grpc://h:1/m//1", "does not name one model"),
        ("grpc://h:1/v2/models/m", "does not name one model"),
        ("http://h:1/m?x=1", "does not name one model"),
        ("http://user:secret@h:1/m", "does not name one model"),
    ],
)
def test_anything_else_is_one_line(url, message):
    with pytest.raises(InputError) as caught:
        Endpoint.of(url)
    assert message in str(caught.value)


def test_what_is_an_endpoint():
    assert is_endpoint("grpc://h:1/m")
    assert is_endpoint("ftp://h")  # and is then refused as an endpoint, not sought as a file
    assert not any(map(is_endpoint, ("a.onnx", Path("grpc://h:1/m"), None)))

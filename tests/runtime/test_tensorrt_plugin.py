"""Our plugin library in the registry of TensorRT-RTX, and in registries that refuse it."""

from __future__ import annotations

from contextlib import contextmanager
from types import SimpleNamespace

import pytest

import rms_deploy
from rms_deploy.errors import EngineError, InstallationError
from rms_deploy.ops.contract import OPS
from rms_deploy.runtime.tensorrt_api import TensorRT, tensorrt
from rms_deploy.runtime.tensorrt_plugin import is_registered, load_plugins


@pytest.fixture
def library():
    try:
        return rms_deploy.tensorrt_library()
    except InstallationError:
        pytest.skip("the plugin library is not built")


def test_it_is_loaded_once(library):
    pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx-cu13 is not installed")
    api = tensorrt("tensorrt-rtx")
    assert load_plugins(api) == library
    creators = len(api.module.get_plugin_registry().all_creators)
    assert all(is_registered(api, name) for name in OPS)
    assert not is_registered(api, "LayerNorm")
    assert load_plugins(api) == library
    assert len(api.module.get_plugin_registry().all_creators) == creators


@pytest.fixture
def refusing(monkeypatch):
    """A TensorRT that logs this error when it loads a library."""

    def make(error, *, version="1"):
        creators = [SimpleNamespace(name=name, plugin_version=version, plugin_namespace="rms_deploy") for name in OPS]
        registry = SimpleNamespace(all_creators=creators, load_library=lambda _path: None)

        @contextmanager
        def errors(_self):
            yield [error]

        monkeypatch.setattr(TensorRT, "errors", errors)
        return TensorRT("tensorrt", SimpleNamespace(__version__="11.0", get_plugin_registry=lambda: registry))

    return make


def test_a_library_that_tensorrt_refuses(library, refusing):
    with pytest.raises(EngineError, match=f"^{library} does not load into tensorrt 11.0: it is truncated$"):
        load_plugins(refusing("it is\n truncated", version="2"))


def test_plugins_of_the_process_are_taken(library, refusing):
    assert load_plugins(refusing("not asked")) == library


def test_no_library(refusing, monkeypatch, tmp_path):
    monkeypatch.setattr(rms_deploy, "__path__", [str(tmp_path)])
    with pytest.raises(InstallationError, match="is not built"):
        load_plugins(refusing("not asked"))

"""Our plugin library, loaded into TensorRT's registry of plugins."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Final

from rms_deploy.errors import EngineError
from rms_deploy.libraries import tensorrt_library
from rms_deploy.ops.contract import DOMAIN, OPS, PLUGIN_VERSION
from rms_deploy.runtime.tensorrt_api import TensorRT, text_of

__all__ = ["is_registered", "load_plugins"]

_loading: Final = threading.Lock()


def load_plugins(api: TensorRT) -> Path:
    """Load our library into the registry of this process, unless it is there, and return its path.

    Raises:
        InstallationError: the installation has none.
        EngineError: TensorRT refuses it.
    """
    path = tensorrt_library()
    with _loading:
        if all(is_registered(api, name) for name in OPS):
            return path
        with api.errors() as errors:
            handle = api.module.get_plugin_registry().load_library(str(path))
        if handle is None or not all(is_registered(api, name) for name in OPS):
            raise EngineError(f"{path} does not load into {api.name} {api.version}: {text_of(errors)}")
    return path


def is_registered(api: TensorRT, name: str) -> bool:
    """Whether the registry of this process has the plugin of this op."""
    registry = api.module.get_plugin_registry()
    return any(
        (creator.name, creator.plugin_version, creator.plugin_namespace) == (name, PLUGIN_VERSION, DOMAIN)
        for creator in registry.all_creators
    )

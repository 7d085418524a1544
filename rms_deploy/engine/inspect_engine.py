"""`inspect_engine`: the layers of an engine, and which of them are norms."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from rms_deploy.display import Displayed, Table
from rms_deploy.engine.record import EngineNorm
from rms_deploy.errors import InstallationError, RmsDeployError, RunError
from rms_deploy.ops.contract import OPS
from rms_deploy.runtime.engine_file import read_engine, read_record, record_path
from rms_deploy.runtime.gpus import gpu_problem, gpus
from rms_deploy.runtime.tensorrt_api import tensorrt
from rms_deploy.runtime.tensorrt_engine import deserialized

__all__ = ["EngineInspection", "EngineLayer", "LayerSource", "inspect_engine"]

LayerSource = Literal["engine inspector", "record"]
"""The layers of the engine itself, as TensorRT's engine inspector lists them; or those of the network that it was built
from, before TensorRT fused them, as `build` recorded them."""


@dataclass(frozen=True)
class EngineLayer:
    """One layer."""

    name: str
    type: str
    """TensorRT's word, such as ELEMENTWISE; empty: the engine inspector does not tell it."""
    norm: str
    """The op that this layer computes as our plugin, such as AddRMSNorm; empty: the layer is no plugin of ours."""


@dataclass(frozen=True, repr=False)
class EngineInspection(Displayed):
    """The layers of an engine, and the norms in it."""

    engine: str
    runtime: str
    """Empty: nobody recorded it."""
    runtime_version: str
    source: LayerSource
    """Where the layers are known from."""
    reason: str
    """Why the engine inspector was not asked, or could not answer; empty: it answered."""
    norms: tuple[EngineNorm, ...]
    """The fused norms of the model, if `build` recorded them; else the plugin layers."""
    layers: tuple[EngineLayer, ...]

    @property
    def norm_count(self) -> int:
        """How many norms are known."""
        return len(self.norms)

    @property
    def plugin_count(self) -> int:
        """How many layers are plugins of ours."""
        return sum(bool(layer.norm) for layer in self.layers)

    def tables(self) -> Iterable[Table]:
        """A row for each layer."""
        rows = [(layer.name, layer.type, f"{layer.norm}: plugin" if layer.norm else "") for layer in self.layers]
        yield Table(("layer", "type", "norm"), rows, left=3, first_to_go=("type",))

    def _line(self) -> str:
        return f"{len(self.layers)} layers; {self.plugin_count} of {self.norm_count} norms are plugin layers"

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {**asdict(self), "norm_count": self.norm_count, "plugin_count": self.plugin_count}


def inspect_engine(path: str | os.PathLike[str]) -> EngineInspection:
    """List the layers of an engine: TensorRT's engine inspector does where a GPU can load it, else the record tells.

    Args:
        path: the engine; its record is `<path>.json`.

    Raises:
        ModelFileError: there is no such file.
        InstallationError: there is no record, and no runtime or GPU to load the engine with.
        RunError: there is no record, and TensorRT refuses the engine.
    """
    plan, record = read_engine(path), read_record(path)
    norms, recorded = _recorded(record)
    try:
        layers = _inspected(path, plan, record, norms)
        reason = ""
    except RmsDeployError as error:
        if not recorded:
            kind = InstallationError if isinstance(error, InstallationError) else RunError
            raise kind(
                f"{os.fspath(path)}: has no record of its layers ({record_path(path).name}), "
                f"and TensorRT cannot load it: {error}"
            ) from error
        layers, reason = recorded, str(error)
    return EngineInspection(
        engine=os.fspath(path),
        runtime=str(record.get("runtime", "")),
        runtime_version=str(record.get("runtime_version", "")),
        source="record" if reason else "engine inspector",
        reason=reason,
        norms=norms or tuple(EngineNorm(layer.name, layer.norm, layer.name) for layer in layers if layer.norm),
        layers=layers,
    )


def _recorded(record: Mapping[str, Any]) -> tuple[tuple[EngineNorm, ...], tuple[EngineLayer, ...]]:
    """None of either where `build` wrote no such record."""
    try:
        norms = tuple(EngineNorm(**norm) for norm in record["norms"])
        ops = {norm.layer: norm.op for norm in norms}
        return norms, tuple(EngineLayer(name, kind, ops.get(name, "")) for name, kind in record["layers"].items())
    except (KeyError, TypeError, AttributeError):
        return (), ()


def _inspected(
    path: str | os.PathLike[str], plan: bytes, record: Mapping[str, Any], norms: Iterable[EngineNorm]
) -> tuple[EngineLayer, ...]:
    if not gpus():
        raise InstallationError(gpu_problem())
    api = tensorrt(record.get("runtime"))
    embedded = bool((record.get("plugin") or {}).get("embedded"))
    holds_runtime = bool((record.get("options") or {}).get("version_compatible"))
    engine = deserialized(api, plan, name=os.fspath(path), embedded_plugin=embedded, holds_runtime=holds_runtime)
    text = engine.create_engine_inspector().get_engine_information(api.module.LayerInformationFormat.JSON)
    ops = {norm.layer: norm.op for norm in norms if norm.layer}
    try:
        return tuple(_layer(entry, ops) for entry in json.loads(text)["Layers"])
    except (ValueError, KeyError, TypeError) as error:
        raise RunError(f"{api.name} {api.version} lists no layers") from error


def _layer(entry: str | Mapping[str, Any], ops: Mapping[str, str]) -> EngineLayer:
    """TensorRT lists names alone, unless the engine was built to say more of its layers."""
    about = {"Name": entry} if isinstance(entry, str) else entry
    name, kind = str(about["Name"]), str(about.get("LayerType", ""))
    op = ops.get(re.sub(r"_myl\d+_\d+$", "", name), "")  # TensorRT's compiler may add that to the name of a layer
    if not op and kind.lower().startswith("plugin") and about.get("PluginType") in OPS:
        op = str(about["PluginType"])
    return EngineLayer(name, kind, op)

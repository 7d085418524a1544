"""From a name to a module: the built-in ones, a user's own, and every way to get it wrong."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from rms_deploy.errors import InputError
from rms_deploy.exporter.model_source import current_folder_importable, resolve
from rms_deploy.models import MODELS
from rms_deploy.nn import LayerNorm

FACTORIES = """
import torch
from torch import nn

x = torch.ones(2, 4)
value = 3

def bare(): return nn.Linear(4, 4)
def pair(): return nn.Linear(4, 4), x
def named(): return nn.Linear(4, 4), {"input": x}
def full(): return nn.Linear(4, 4), (x,), {"input": {0: "rows"}}, ["y"]
def wrong(): return 3
def long(): return nn.Linear(4, 4), (x,), None, (), None
instance = nn.Linear(4, 4)
made = instance, (x,)
def failing(): raise ValueError("no weights here\\nsecond line")
def needy(size): return nn.Linear(size, size)
def lazy():
    from neighbour_factories import size
    return nn.Linear(size, size), x
def normed(norm="a"): return nn.Sequential(nn.Identity(), nn.ParameterDict({norm: x})), x
class Space:
    inner = staticmethod(pair)
"""


@pytest.fixture(name="factories")
def _factories(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A module in the current folder."""
    (tmp_path / "my_factories.py").write_text(FACTORIES)
    (tmp_path / "broken_factories.py").write_text("import nothing_of_this_name")
    (tmp_path / "neighbour_factories.py").write_text("size = 4")
    monkeypatch.chdir(tmp_path)
    yield "my_factories"
    for name in ("my_factories", "neighbour_factories"):
        sys.modules.pop(name, None)


@pytest.mark.parametrize("name", [name for name in MODELS if not name.endswith("-base")])
def test_built_in_models(name) -> None:
    source = resolve(name)
    assert source.output_names
    assert len(source.dynamic_shapes) == len(source.inputs) >= 1
    assert not source.own


def test_norm_of_the_model() -> None:
    assert type(resolve("llama-tiny", model_norm="layernorm").module.norm) is LayerNorm
    assert resolve("llama-tiny", model_norm="prmsnorm:0.25").module.norm.partial_size == 16


def test_factories_of_the_user(factories) -> None:
    path = list(sys.path)
    assert len(resolve(f"{factories}:pair").inputs) == 1
    assert list(resolve(f"{factories}:named").inputs) == ["input"]
    assert resolve(f"{factories}:Space.inner").dynamic_shapes is None
    full = resolve(f"{factories}:full")
    assert (full.dynamic_shapes, full.output_names) == ({"input": {0: "rows"}}, ("y",))
    assert sys.path == path


def test_what_a_factory_would_return(factories) -> None:
    assert len(resolve(f"{factories}:made").inputs) == 1
    with pytest.raises(InputError, match=r"my_factories:instance: no example inputs; give `inputs`"):
        resolve(f"{factories}:instance")


def test_a_factory_gets_the_norm(factories) -> None:
    assert list(resolve(f"{factories}:normed").module[1]) == ["a"]
    assert list(resolve(f"{factories}:normed", model_norm="b").module[1]) == ["b"]
    with pytest.raises(InputError, match=r"my_factories:pair: the factory failed: TypeError: .*'norm'"):
        resolve(f"{factories}:pair", model_norm="layernorm")
    with pytest.raises(InputError, match=r"^kind of norm 'batch' is not known; use rmsnorm"):
        resolve("llama-tiny", model_norm="batch")
    with pytest.raises(InputError, match="Linear: it has its norms already; `model_norm` is for built-in models"):
        resolve(torch.nn.Linear(4, 4), model_norm="layernorm")
    with pytest.raises(InputError, match="llama-tiny: `random_weights=True` is for folders"):
        resolve("llama-tiny", random_weights=True)


def test_a_factory_may_import_from_the_current_folder(factories) -> None:
    path = list(sys.path)
    assert resolve(f"{factories}:lazy").module.in_features == 4
    assert sys.path == path


def test_the_current_folder_is_importable_while_the_block_runs(factories) -> None:
    path = list(sys.path)
    with pytest.raises(ZeroDivisionError), current_folder_importable():
        assert importlib.import_module(factories).value == 3
        raise ZeroDivisionError
    assert sys.path == path
    sys.modules.pop(factories)
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module(factories)


def test_given_inputs_come_first(factories) -> None:
    x = torch.ones(5, 4)
    assert resolve(f"{factories}:pair", x).inputs[0] is x
    assert resolve(f"{factories}:bare", [x]).inputs == (x,)
    module = torch.nn.Linear(4, 4)
    assert resolve(module, {"input": x}).module is module


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("llama-huge", "model 'llama-huge' is not known; nearest: llama-base, .*; use a built-in name"),
        (
            "zzz",
            r"model 'zzz' is not known; use a built-in name \(`rms_deploy.models.MODELS`\), package.module:factory",
        ),
        ("./missing", r"\./missing: no such folder; give that of a Hugging Face model"),
        (Path("missing"), "missing: no such folder"),
        ("my_factories:", "is not known"),
        (":bare", "is not known"),
        ("no_such_module:f", "module no_such_module cannot be imported: ModuleNotFoundError"),
        ("broken_factories:f", "cannot be imported: ModuleNotFoundError: No module named 'nothing_of_this_name'"),
        ("..:f", r"module \.\. cannot be imported"),
        ("my_factories:missing", "module my_factories has no 'missing'"),
        ("my_factories:value", "value is int, not a function"),
        ("my_factories:failing", "the factory failed: ValueError: no weights here$"),
        ("my_factories:needy", "the factory failed: TypeError: .*missing 1 required"),
        ("my_factories:wrong", "the factory returned int; return a torch.nn.Module"),
        ("my_factories:long", r"the factory returned \(Linear, tuple, NoneType, tuple, NoneType\)"),
        ("my_factories:bare", "my_factories:bare: no example inputs"),
    ],
)
@pytest.mark.usefixtures("factories")
def test_mistakes_are_one_line(name, message) -> None:
    with pytest.raises(InputError, match=message) as error:
        resolve(name)
    assert "\n" not in str(error.value)


def test_a_module_without_inputs() -> None:
    with pytest.raises(InputError, match="Linear: no example inputs"):
        resolve(torch.nn.Linear(4, 4))

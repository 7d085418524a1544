"""Replacing modules, and having them back."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from rms_deploy.exporter.module_tree import replace, replaced


class Tree(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.ReLU()
        self.again = self.a
        self.nothing = None
        self.register_module("empty", None)
        self.b = nn.Sequential(nn.ReLU(), nn.ModuleList([nn.ReLU(), nn.Linear(2, 2)]))


def to_tanh(module: nn.Module) -> nn.Module | None:
    return nn.Tanh() if isinstance(module, nn.ReLU) else None


def kinds(tree: Tree) -> list[str]:
    return [type(m).__name__ for m in (tree.a, tree.again, tree.b[0], tree.b[1][0], tree.b[1][1])]


def test_replace_reaches_every_place() -> None:
    tree = Tree()
    places = replace(tree, to_tanh)
    assert kinds(tree) == ["Tanh", "Tanh", "Tanh", "Tanh", "Linear"]
    assert tree.a is tree.again, "one module in two places stays one"
    assert [name for _, name, _ in places] == ["a", "again", "0", "0"]


def test_replaced_restores_even_after_an_error() -> None:
    tree = Tree()
    before = tree.a
    with pytest.raises(ZeroDivisionError), replaced(tree, to_tanh) as inside:
        assert inside is tree
        assert kinds(tree)[0] == "Tanh"
        raise ZeroDivisionError
    assert kinds(tree) == ["ReLU", "ReLU", "ReLU", "ReLU", "Linear"]
    assert tree.a is before
    assert tree.again is before


def test_replaced_gives_a_new_root() -> None:
    root = nn.ReLU()
    with replaced(root, to_tanh) as inside:
        assert isinstance(inside, nn.Tanh)


def test_a_shared_container_is_visited_once() -> None:
    tree = Tree()
    tree.b.append(tree.b[1])
    replace(tree, to_tanh)
    assert isinstance(tree.b[2], nn.ModuleList)
    assert torch.is_tensor(tree.a(torch.ones(1)))

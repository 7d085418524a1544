"""Putting other modules into the places of a torch module's children."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from torch import nn

__all__ = ["replace", "replaced"]


def replace(root: nn.Module, make: Callable[[nn.Module], nn.Module | None]) -> list[tuple[nn.Module, str, nn.Module]]:
    """Put `make(child)` into the place of each descendant of `root` for which it is not None.

    A module used in several places is made once. Children of a replaced module are not visited. `root` itself stays.

    Returns:
        (parent, name in it, module that was there) of each place, in order.
    """
    made: dict[nn.Module, nn.Module | None] = {}
    places: list[tuple[nn.Module, str, nn.Module]] = []
    seen: set[nn.Module] = set()

    def visit(parent: nn.Module) -> None:
        if parent in seen:
            return
        seen.add(parent)
        for name, child in list(parent._modules.items()):  # named_children() hides a child's second name
            if child is None:
                continue
            if child not in made:
                made[child] = make(child)
            new = made[child]
            if new is None:
                visit(child)
            else:
                places.append((parent, name, child))
                parent._modules[name] = new

    visit(root)
    return places


@contextmanager
def replaced(root: nn.Module, make: Callable[[nn.Module], nn.Module | None]) -> Iterator[nn.Module]:
    """`root` with its modules replaced while the block runs; afterwards it is as before.

    Yields:
        `root`, or `make(root)` where that is not None.
    """
    whole = make(root)
    if whole is not None:
        yield whole
        return
    places = replace(root, make)
    try:
        yield root
    finally:
        for parent, name, child in places:
            parent._modules[name] = child

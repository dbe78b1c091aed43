"""Which networks there are: constructors by name, open to a user's own."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from her2path.core.errors import UsageError

__all__ = ["architectures", "build", "check_network", "register"]

#: called with (channels, outputs, **arguments); returns a torch module with `features` and `head`
Constructor = Callable[..., Any]
#: entry points of installed packages that are constructors
GROUP = "her2path.networks"


def _separable(widths: tuple[int, ...], depths: tuple[int, ...]) -> Constructor:
    def make(channels: int, outputs: int) -> Any:
        from her2path.cnn.nets import SeparableNet

        return SeparableNet(channels, outputs, widths, depths)

    return make


def _residual(channels: int, outputs: int, **arguments: Any) -> Any:
    from her2path.cnn.nets import ResidualNet

    return ResidualNet(channels, outputs, **arguments)


_CONSTRUCTORS: dict[str, Constructor] = {
    "tiny": _separable((12, 24, 48, 96), (1, 1, 1)),
    "small": _separable((16, 40, 96, 192), (1, 2, 2)),
    "medium": _separable((32, 80, 192, 384), (2, 3, 3)),
    "residual": _residual,
}


def architectures() -> tuple[str, ...]:
    """Return the known names, the default first."""
    known = {*_CONSTRUCTORS, *_installed()}
    return ("small", *(n for n in sorted(known) if n != "small"))


def _installed() -> dict[str, EntryPoint]:
    """Return the networks that installed packages offer; nothing of theirs is imported yet."""
    return {e.name: e for e in entry_points(group=GROUP)}


def register(name: str, constructor: Constructor) -> None:
    """Add a constructor, or replace one.

    Parameters
    ----------
    name : str
        What model cards call it. A model of a registered kind can only be loaded after this call,
        or where an installed package offers the constructor as an entry point of the group
        ``her2path.networks`` (then ``her2path train --arch NAME`` and ``--cnn`` know it too): a
        card never imports code.
    constructor : callable
        ``constructor(channels, outputs, **arguments)`` returns a ``torch.nn.Module`` whose
        ``features(x)`` gives float (B, D) from (B, channels, P, P), and whose ``head`` turns those
        into (B, outputs) logits.
    """
    _CONSTRUCTORS[name] = constructor


def check_network(name: str) -> None:
    """Refuse an unknown network.

    Raises
    ------
    UsageError
    """
    if name not in architectures():
        raise UsageError(
            f"there is no network {name!r}", f"Valid: {', '.join(architectures())}, or register one"
        )


def build(name: str, channels: int, outputs: int, arguments: dict[str, Any] | None = None) -> Any:
    """Make a network.

    Raises
    ------
    UsageError
        For an unknown name, or arguments that it does not take.
    MissingExtra
        Without torch.
    """
    check_network(name)
    if name not in _CONSTRUCTORS:
        register(name, _installed()[name].load())
    try:
        return _CONSTRUCTORS[name](channels, outputs, **(arguments or {}))
    except TypeError as exc:
        raise UsageError(
            f"the network {name!r} cannot be built ({exc})", "Check its arguments"
        ) from exc

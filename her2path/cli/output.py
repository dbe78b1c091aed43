"""What goes to stdout for programs."""

from __future__ import annotations

from typing import Any

import typer

__all__ = ["echo_json"]


def echo_json(value: Any) -> None:
    """Write a value to stdout as JSON; text is taken to be JSON already."""
    import json

    typer.echo(value if isinstance(value, str) else json.dumps(value, indent=2, allow_nan=False))

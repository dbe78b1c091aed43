"""What goes to stdout for programs."""

from __future__ import annotations

import errno
import sys
from typing import Any

import typer

from her2path.cli.outlets import broken
from her2path.core.errors import DiskFull, UsageError

__all__ = ["echo_json"]


def echo_json(value: Any) -> None:
    """Write a value to stdout as JSON; text is taken to be JSON already.

    Where stdout is not UTF-8, characters are escaped, so that the JSON is the same.

    Raises
    ------
    UsageError
        Where stdout cannot be written.
    """
    import json

    text = value if isinstance(value, str) else json.dumps(value, indent=2, allow_nan=False)
    encoding = (getattr(sys.stdout, "encoding", None) or "utf-8").lower()
    if not text.isascii() and encoding.replace("-", "").replace("_", "") != "utf8":
        text = json.dumps(json.loads(text), indent=2, allow_nan=False)
    typer.echo(text)
    failed = broken(sys.stdout)
    if failed is None:
        return
    said = f"the JSON could not be written to stdout ({failed.strerror})"
    if failed.errno in (errno.ENOSPC, errno.EDQUOT):
        raise DiskFull(said, "Make room and run the same command again")
    raise UsageError(said, "Give stdout a file or a pipe, or leave --json out")

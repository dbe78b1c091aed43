"""The command line. Heavy imports happen inside commands, so that ``--help`` is instant."""

from her2path.cli.app import app, main

__all__ = ["app", "main"]

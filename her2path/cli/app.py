"""The program's one entry: commands, errors as one line, exit codes."""

from __future__ import annotations

import errno
import sys
from pathlib import Path

import typer

from her2path import __version__
from her2path.cli import outlets
from her2path.core.errors import Her2PathError, one_line

__all__ = ["app", "main"]

HELP = """Quantifies HER2 on immunohistochemistry slides: score, category, heterogeneity.

Research use only; not a medical device."""

app = typer.Typer(
    name="her2path",
    help=HELP,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


@app.callback(invoke_without_command=True)
def _top(
    version: bool = typer.Option(False, "--version", help="Print the version."),
) -> None:
    if version:
        typer.echo(f"her2path {__version__}")
        raise typer.Exit


def _register() -> None:
    from her2path.cli import batch, calibration, results, slides, tables, tools, train

    for module in (slides, batch, tables, calibration, results, train, tools):
        module.add_to(app)


_register()


def main(args: list[str] | None = None) -> None:
    """Run the command line and leave with the contract's exit code."""
    argv = sys.argv[1:] if args is None else args
    debug = "--debug" in argv
    outlets.prepare()
    sys.exit(_guarded(argv, debug))


def _guarded(argv: list[str], debug: bool) -> int:
    try:
        code = app(args=argv, standalone_mode=False, prog_name="her2path")
        return code if isinstance(code, int) else 0
    except typer.Exit as exc:
        return exc.exit_code
    except (KeyboardInterrupt, typer.Abort):
        return _say("stopped. Run the same command again: what is done is kept.", 130)
    except BaseException as exc:
        wrong = _wrong_usage(exc)
        if debug and wrong is None and not isinstance(exc, SystemExit):
            raise
        return wrong if wrong is not None else _fault(exc)


def _wrong_usage(exc: BaseException) -> int | None:
    """Say what the parser found wrong; None for every other exception.

    Known by shape: typer raised click's classes once, and raises its own since it dropped click.
    """
    say = getattr(exc, "format_message", None)
    if say is None:
        return None
    ctx = getattr(exc, "ctx", None)
    where = ctx.command_path if ctx is not None else "her2path"
    return _say(f"{say().rstrip('. ?')}. Run `{where} --help`.", 2)


def _fault(exc: BaseException) -> int:
    if isinstance(exc, SystemExit):
        return exc.code if isinstance(exc.code, int) else 5
    if isinstance(exc, Her2PathError):
        return _say(str(exc), exc.exit_code)
    if isinstance(exc, OSError) and exc.errno in (errno.ENOSPC, errno.EDQUOT):
        return _say("no space left on the disk. Free some and run the same command again.", 5)
    if isinstance(exc, MemoryError):
        return _say("out of memory. Lower --workers or stream.block_px.", 5)
    lacking = _lacking(exc)
    if lacking is not None:
        return _say(lacking, 2)
    what = one_line(f"{type(exc).__name__}: {exc}", 200)
    return _say(f"a fault of the program ({what}). Run with --debug and report it.", 5)


def _lacking(exc: BaseException) -> str | None:
    """Return what the environment lacks, and how to mend it; None where it is something else."""
    if isinstance(exc, RuntimeError) and "no locator available" in str(exc):
        return ("no folder for compiled kernels can be written. Set NUMBA_CACHE_DIR to a folder "
                "that you may write to.")  # fmt: skip
    if isinstance(exc, FileNotFoundError):
        if "No usable temporary directory" in str(exc):
            return "no folder for temporary files can be written. Set TMPDIR to one."
        try:
            Path.cwd()
        except OSError:
            return "the working folder is gone. Change into one that exists (cd)."
    return None


def _say(text: str, code: int) -> int:
    print(f"error: {one_line(text, 600)}", file=sys.stderr)  # noqa: T201 - the one place
    return code

"""The options that commands share, each said once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

__all__ = ["settings_of"]

Out = Annotated[Path, typer.Option("-o", "--out", help="Folder of the result.")]
Config = Annotated[Path | None, typer.Option("-c", "--config", help="Settings file (YAML).")]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", help="One setting, as key.sub=value; may be given again.", metavar="K=V"),
]
AnnotationFile = Annotated[
    Path | None, typer.Option("--annotations", help="GeoJSON or XML areas, level-0 pixels.")
]
Mpp = Annotated[
    float | None, typer.Option("--mpp", help="µm per pixel (0.1-2.0), when the file has none.")
]
ForceMpp = Annotated[bool, typer.Option("--force-mpp", help="Let --mpp win over the file's own.")]
Guideline = Annotated[str | None, typer.Option("--guideline", help="Rule set to score by.")]
Workers = Annotated[int | None, typer.Option("--workers", help="Threads; default: all cores.")]
Scheduler = Annotated[
    str | None, typer.Option("--scheduler", help="Address of a running dask scheduler.")
]
Device = Annotated[str, typer.Option("--device", help="CNN on auto, cpu or cuda.")]
Cnn = Annotated[str | None, typer.Option("--cnn", help="CNN model: a path, or builtin.")]
Resume = Annotated[bool, typer.Option("--resume", help="Go on with an unfinished run (default).")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what OUT holds.")]
NoReport = Annotated[bool, typer.Option("--no-report", help="Leave the report to `report`.")]
Pseudonymise = Annotated[
    bool, typer.Option("--pseudonymise", help="No path, file name or free text in any output.")
]
QupathCrop = Annotated[
    bool, typer.Option("--qupath-crop", help="QuPath crops this format to its bounds: shift by it.")
]
Json = Annotated[bool, typer.Option("--json", help="The result on stdout, nothing else.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="No words on the terminal.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show tracebacks and logs.")]


def settings_of(config: Path | None, changes: list[str] | None, **named: Any) -> Any:
    """Return the settings: file, then ``--set``, then the named options that were given.

    Parameters
    ----------
    config : Path, optional
        Settings file.
    changes : list of str, optional
        ``key.sub=value``.
    **named
        Dotted path with ``__`` for the dot (``slide__mpp=0.25``); ``None`` means not given.
    """
    from her2path.errors import UsageError
    from her2path.settings import load_settings

    mpp = named.get("slide__mpp")
    if mpp is not None and not 0.1 <= mpp <= 2.0:
        raise UsageError(f"--mpp {mpp:g} is outside 0.1-2.0", "Give µm per pixel, as --mpp 0.25")
    settings = load_settings(config, changes or ())
    given = {k.replace("__", "."): v for k, v in named.items() if v is not None}
    return settings.replace(given) if given else settings

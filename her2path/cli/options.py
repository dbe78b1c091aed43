"""The options that commands share, each said once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import wraps
from inspect import Parameter, Signature, signature
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

__all__ = ["Scoring", "settings_of", "with_scoring"]


def path(text: object) -> Path:
    """Return a path that was given; an empty one, as of a variable without a value, is refused.

    Raises
    ------
    UsageError
        For an empty text, which would stand for the working folder.
    """
    from her2path.core.errors import UsageError

    if not str(text).strip():
        raise UsageError("a path is empty", "Give every file and folder a name; . is this folder")
    return Path(str(text))


Out = Annotated[Path, typer.Option("-o", "--out", help="Folder of the result.", parser=path,
                                   metavar="PATH")]  # fmt: skip
Config = Annotated[
    Path | None,
    typer.Option("-c", "--config", help="Settings file (YAML).", parser=path, metavar="PATH"),
]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", help="One setting, as key.sub=value; may be given again.", metavar="K=V"),
]
AnnotationFile = Annotated[
    Path | None,
    typer.Option(
        "--annotations", help="GeoJSON or XML areas, level-0 pixels.", parser=path, metavar="PATH"
    ),
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


RunDir = Annotated[Path, typer.Argument(help="Folder of a finished run or batch.", metavar="OUT",
                                        parser=path)]  # fmt: skip


@dataclass(frozen=True)
class Scoring:
    """The options that `score` and `batch` have in common, as they were given."""

    config: Config = None
    changes: Set = None
    mpp: Mpp = None
    force_mpp: ForceMpp = False
    guideline: Guideline = None
    workers: Workers = None
    scheduler: Scheduler = None
    cnn: Cnn = None
    device: Device = "auto"
    #: resuming is what happens anyway
    resume: Resume = False
    overwrite: Overwrite = False
    no_report: NoReport = False
    pseudonymise: Pseudonymise = False
    qupath_crop: QupathCrop = False
    json: Json = False
    quiet: Quiet = False
    debug: Debug = False

    def settings(self) -> Any:
        """Return the settings that they make; see `settings_of`."""
        return settings_of(
            self.config, self.changes, slide__mpp=self.mpp,
            slide__force_mpp=self.force_mpp or None, score__guideline=self.guideline,
            stream__workers=self.workers, cnn__model=self.cnn,
            cnn__device=self.device if self.device != "auto" else None,
        )  # fmt: skip

    def run(self) -> dict[str, Any]:
        """Return what `RunOptions` and `BatchOptions` both take."""
        names = ("overwrite", "pseudonymise", "qupath_crop", "scheduler")
        return {name: getattr(self, name) for name in names}


def with_scoring(command: Callable[..., int]) -> Callable[..., int]:
    """Give a command the options of `Scoring`; it gets them as ``given``."""
    hints = get_type_hints(Scoring, include_extras=True)
    common = [Parameter(f.name, Parameter.KEYWORD_ONLY, default=f.default,
                        annotation=hints[f.name]) for f in fields(Scoring)]  # fmt: skip
    known = get_type_hints(command, include_extras=True)
    own = [p.replace(annotation=known[name], kind=Parameter.KEYWORD_ONLY)
           for name, p in signature(command).parameters.items() if name != "given"]  # fmt: skip

    @wraps(command)
    def run(**values: Any) -> int:
        given = Scoring(**{p.name: values.pop(p.name) for p in common})
        return command(**values, given=given)

    # what typer reads a command's options from
    run.__signature__ = Signature([*own, *common])  # type: ignore[attr-defined]
    run.__annotations__ = {p.name: p.annotation for p in (*own, *common)}
    return run


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
    from her2path.core.errors import UsageError
    from her2path.core.settings import load_settings

    mpp = named.get("slide__mpp")
    if mpp is not None and not 0.1 <= mpp <= 2.0:
        raise UsageError(f"--mpp {mpp:g} is outside 0.1-2.0", "Give µm per pixel, as --mpp 0.25")
    settings = load_settings(config, changes or ())
    given = {k.replace("__", "."): v for k, v in named.items() if v is not None}
    return settings.replace(given) if given else settings

"""The command that calibrates to the user's own laboratory."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from her2path.cli import options as o

if TYPE_CHECKING:
    from her2path.runs.calibrate import Made

__all__ = ["add_to"]

Reads = Annotated[
    Path | None,
    typer.Argument(help="READS.csv: case_id, reader, score, ...", show_default=False,
                   metavar="[READS.csv]", parser=o.path),
]  # fmt: skip
Results = Annotated[
    Path | None, typer.Option("--results", help="OUT that the reads speak of.", parser=o.path,
                              metavar="PATH")
]  # fmt: skip
Controls = Annotated[
    Path | None,
    typer.Option("--controls", help="CONTROLS.csv: result or slide, level or receptors.",
                 parser=o.path, metavar="PATH"),
]  # fmt: skip
File = Annotated[Path, typer.Option("-o", "--out", help="Settings file to write (YAML).",
                                    parser=o.path, metavar="PATH")]  # fmt: skip
Name = Annotated[str | None, typer.Option(help="Of the assay; default: as the results name it.")]


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command("calibrate")(calibrate)


def calibrate(
    out: File,
    reads: Reads = None,
    results: Results = None,
    controls: Controls = None,
    clone: Name = None,
    stainer: Name = None,
    scanner: Name = None,
    curve_measure: Annotated[
        str | None,
        typer.Option(
            "--curve-measure",
            help="Column that receptors are read off: membrane_od "
            "(default), membrane_od_ring or membrane_mass.",
        ),
    ] = None,
    draws: Annotated[
        int, typer.Option("--draws", min=50, max=20_000, help="Bootstrap draws over cases.")
    ] = 200,
    config: o.Config = None,
    changes: o.Set = None,
    guideline: o.Guideline = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file.")] = False,
    json: o.Json = False,
    quiet: o.Quiet = False,
    debug: o.Debug = False,  # noqa: ARG001 - read by `main`
) -> int:
    """Fit cut-offs to controls or reads, and membrane OD to receptors a cell."""
    from her2path.core.errors import UsageError
    from her2path.runs.calibrate import Request
    from her2path.runs.calibrate import calibrate as make

    known = ("membrane_od", "membrane_od_ring", "membrane_mass")
    if curve_measure not in (None, *known):
        raise UsageError(f"--curve-measure {curve_measure!r} is unknown",
                         f"Valid: {', '.join(known)}")  # fmt: skip
    settings = o.settings_of(config, changes, score__guideline=guideline)
    asked = Request(reads, results, controls, settings, curve_measure,  # type: ignore[arg-type]
                    _assay(clone, stainer, scanner), draws)  # fmt: skip
    made = make(asked, out, overwrite)
    if json:
        from her2path.cli.output import echo_json

        echo_json({**made.tree, "remarks": list(made.remarks)})
    elif not quiet:
        _tell(made, out)
    return 0


def _assay(clone: str | None, stainer: str | None, scanner: str | None) -> Any:
    from her2path.core.settings import Settings

    given = {"clone": clone, "stainer": stainer, "scanner": scanner}
    named = {f"assay.{k}": v for k, v in given.items() if v is not None}
    return Settings().replace(named).assay


def _tell(made: Made, out: Path) -> None:
    from her2path.cli.words import print_rows

    membrane, facts = made.tree["membrane"], made.tree["calibration"]
    if "cutoffs" in membrane:
        names = ("faint", "moderate", "intense")
        print_rows(f"Cut-offs of {membrane['measure']}, from {membrane['calibration']}", [
            {"from": n, "value": f"{v:.4g}", "95 % interval": f"{low:.4g} - {high:.4g}"}
            for n, v, (low, high) in zip(names, membrane["cutoffs"], facts["cutoffs_intervals"],
                                         strict=True)
        ])  # fmt: skip
    if facts["agreement"]:
        print_rows("Agreement with the reads", [
            {"figure": k.replace("_", " "), "value": f"{v:.3f}"}
            for k, v in facts["agreement"].items()
        ])  # fmt: skip
    if facts["curve"] is not None:
        c = facts["curve"]
        print_rows(f"Receptors a cell by {c['measure']}", [
            {"OD": f"{od:.4g}", "receptors": f"{r:.0f}", "+- (95 %)": f"{e:.0%}",
             "without it": "-" if left is None else f"{left:+.0%}"}
            for od, r, e, left in zip(c["od"], c["receptors"], c["relative_error"], c["residuals"],
                                      strict=True)
        ])  # fmt: skip
    for remark in made.remarks:
        typer.echo(f"Note: {remark}.")
    typer.echo(f"Settings in {out}. Research use only.")

"""Commands on finished results: export and view."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from her2path.cli import options as o

__all__ = ["add_to"]


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    app.command("export")(export)
    app.command("view")(view)


def export(
    out: o.RunDir,
    to: Annotated[
        str, typer.Option("--to", help="geojson, anndata, spatialdata, ome-zarr, csv or dicom.")
    ],
    dest: Annotated[
        Path | None,
        typer.Option("--dest", help="Where; default: OUT/export.", parser=o.path, metavar="PATH"),
    ] = None,
    qupath_crop: o.QupathCrop = False,
    debug: o.Debug = False,  # noqa: ARG001 - read by `main`
) -> int:
    """Write a result in another format."""
    from her2path.outputs.export import export as write

    typer.echo(str(write(out, to, dest, qupath_crop=qupath_crop)), err=True)
    return 0


def view(
    out: o.RunDir,
    slide: Annotated[
        Path | None,
        typer.Option(
            "--slide", help="The slide, when it has moved.", parser=o.path, metavar="PATH"
        ),
    ] = None,
    port: Annotated[int, typer.Option("--port", help="Port on loopback; 0 takes a free one.")] = 0,
    no_browser: Annotated[
        bool, typer.Option("--no-browser", help="Only print the address.")
    ] = False,
    read: Annotated[
        str | None,
        typer.Option(
            "--read",
            help="Read blind, by this name: what the program says "
            "is hidden until you have said it.",
            metavar="NAME",
        ),
    ] = None,
    order: Annotated[
        str | None, typer.Option("--order", help="Of a new --read worklist: random or given.")
    ] = None,
    again: Annotated[
        bool, typer.Option("--again", help="With --read: read everything once more.")
    ] = False,
    debug: o.Debug = False,  # noqa: ARG001 - read by `main`
) -> int:
    """Show a slide, or the slides of a batch as a worklist, in a browser, on loopback."""
    from her2path.outputs import viewer

    viewer.serve(
        out,
        slide=slide,
        port=port,
        open_browser=not no_browser,
        reader=read,
        order=order,
        again=again,
        started=lambda address: typer.echo(address, err=True),
    )
    return 0

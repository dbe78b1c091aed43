"""The command that trains the optional CNN scorer."""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from her2path.cli import options as o

if TYPE_CHECKING:
    from her2path.cnn import Card

__all__ = ["add_to"]

#: metrics of the test part that are shown, and their names where there is little room
_SHOWN = {
    "patches": "patches", "accuracy": "accuracy", "within_one": "within 1",
    "quadratic_kappa": "kappa", "calibration_error": "ECE",
}  # fmt: skip


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command("train")(train)


def train(
    manifest: Annotated[
        Path,
        typer.Argument(
            help="Manifest (CSV), folder of class folders, results or phantoms.",
            parser=o.path,
            metavar="MANIFEST",
        ),
    ],
    model: Annotated[
        Path,
        typer.Option(
            "-o", "--out", help="The model to write (.safetensors).", parser=o.path, metavar="PATH"
        ),
    ],
    arch: Annotated[
        str, typer.Option("--arch", help="Network: small, tiny, medium, residual, or your own.")
    ] = "small",
    channels: Annotated[
        str, typer.Option("--channels", help="Planes: h_dab, or od (RGB).")
    ] = "h_dab",
    guideline: o.Guideline = None,
    mpp: o.Mpp = None,
    patch_px: Annotated[int, typer.Option("--patch-px", help="Side of a patch, pixels.")] = 128,
    model_mpp: Annotated[float, typer.Option("--model-mpp", help="Its µm per pixel.")] = 0.5,
    labels: Annotated[
        str, typer.Option("--labels", help="Of results: each patch's cells, or its regions.")
    ] = "cells",
    per_slide: Annotated[int, typer.Option("--per-slide", help="Patches a scored slide.")] = 64,
    epochs: Annotated[int, typer.Option("--epochs", help="Passes over the patches.")] = 30,
    batch: Annotated[int, typer.Option("--batch", help="Patches a step.")] = 64,
    seed: Annotated[int, typer.Option("--seed", help="Seed of split, weights, order.")] = 0,
    device: o.Device = "auto",
    licence: Annotated[
        str, typer.Option("--licence", help="Licence of the weights.")
    ] = "as its training data",
    overwrite: o.Overwrite = False,
    json: o.Json = False,
    quiet: o.Quiet = False,
    debug: o.Debug = False,  # noqa: ARG001 - read by `main`
) -> int:
    """Train a CNN scorer; an interrupted run goes on from its last epoch."""
    from her2path.core._optional import require
    from her2path.core.errors import OutputError, UsageError
    from her2path.scoring import guidelines

    require("torch", "The CNN scorer (--cnn, train)")
    require("safetensors", "The CNN scorer (--cnn, train)")
    from her2path import cnn

    if channels not in ("h_dab", "od"):
        raise UsageError(f"--channels {channels!r} is not known", "Valid: h_dab, od")
    if labels not in ("cells", "regions"):
        raise UsageError(f"--labels {labels!r} is not known", "Valid: cells, regions")
    if min(epochs, batch, per_slide) < 1 or not 16 <= patch_px <= 1024 or not 0.1 <= model_mpp <= 2:
        raise UsageError("a size is out of range", "Give counts of 1 or more, 16-1024 px, 0.1-2 µm")
    cnn.check_network(arch)
    cnn.check_device(device)
    path = cnn.weights_path(model)
    if path.exists() and not overwrite:
        raise OutputError(f"{path} exists", "Give another name, or --overwrite")
    rules = guideline or "asco_cap_2018"
    guidelines.rule_set(rules)
    told_by: Any = labels
    recipe = cnn.Recipe(cnn.Window(patch_px, model_mpp), rules, per_slide, mpp, told_by)
    told = cnn.TrainOptions(
        name=path.stem,
        architecture=arch,
        channels="od" if channels == "od" else "h_dab",
        guideline=rules,
        epochs=epochs,
        batch=batch,
        seed=seed,
        device=device,
        licence=licence,
    )
    with _progress(json or quiet) as tick:
        card = cnn.fit(cnn.read_source(manifest, recipe, tick), path, told, tick)
    return _tell(card, path, json, quiet)


def _progress(silent: bool) -> AbstractContextManager[Any]:
    if silent or not sys.stderr.isatty():
        return nullcontext()
    from her2path.cli.words import progress_bar

    return progress_bar()


def _tell(card: Card, path: Path, json: bool, quiet: bool) -> int:
    from her2path.cli.output import echo_json
    from her2path.cli.words import print_rows

    if json:
        echo_json(card.json_text())
    elif not quiet:
        found = card.metrics["test"]
        shown: dict[str, Any] = {w: found[k] for k, w in _SHOWN.items() if k in found}
        print_rows(f"{path}: cases held out of training", [shown])
    return 0

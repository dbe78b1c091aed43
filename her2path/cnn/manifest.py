"""What there is to train on: a manifest, folders of classes, results, phantoms; as checked rows."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from her2path.cnn.patches import Window
from her2path.core.csvfile import read_sheet, tidy
from her2path.core.errors import ManifestError
from her2path.core.numerals import to_number
from her2path.core.schema import SCORES

__all__ = ["Recipe", "Row", "find_rows"]

MAX_MANIFEST_BYTES = 64 << 20
#: columns with a meaning in a training manifest, and in a batch's table
COLUMNS = ("image", "results", "label", "case_id", "scanner", "mpp", "region")
BATCH_COLUMNS = ("slide_id", "folder", "case_id", "scanner")
IMAGES = {".png", ".jpg", ".jpeg", ".tif", ".tiff"}
#: a class, as manifests and folders may write it
CLASS_WORDS = {w: k for k, s in enumerate(SCORES) for w in (s, s.rstrip("+"), f"score_{s[0]}")}


@dataclass(frozen=True)
class Recipe:
    """How patches are made: what they show, the labels' rule set, how many a slide gives.

    ``labels`` of results: each patch's own ``cells`` by the rule set, or the stored score of its
    ``regions`` (patches of regions without a score are left out).
    """

    window: Window = field(default_factory=Window)
    guideline: str = "asco_cap_2018"
    per_slide: int = 64
    mpp: float | None = None
    labels: Literal["cells", "regions"] = "cells"


@dataclass(frozen=True)
class Row:
    """One row of a manifest, checked."""

    number: int
    path: Path
    is_image: bool
    label: int | None
    case: str
    scanner: str
    mpp: float | None
    region: str = ""


def find_rows(source: Path, recipe: Recipe) -> Iterator[Row]:
    """Yield what a manifest or folder holds.

    Raises
    ------
    ManifestError
        Naming the row and the column that are wrong.
    """
    if source.is_file():
        yield from _manifest_rows(source, recipe)
    elif not source.is_dir():
        raise ManifestError(f"there is no {source}", "Give a CSV manifest or a folder")
    elif any((source / w).is_dir() for w in CLASS_WORDS):
        yield from _class_rows(source, recipe)
    else:
        yield from _folder_rows(source, recipe)


def _folder_rows(source: Path, recipe: Recipe) -> Iterator[Row]:
    """Yield results and phantoms of a folder; a batch's table says which slides are one case."""
    folders = [source, *sorted(source.glob("*")), *sorted(source.glob("slides/*"))]
    batch = _batch_table(source)
    for number, folder in enumerate(f for f in folders if _is_scored(f)):
        told = batch.get(folder.name, {}) if folder.parent.name == "slides" else {}
        case, scanner = tidy(told.get("case_id", "")), told.get("scanner", "")
        yield Row(number, folder, False, None, case, scanner, recipe.mpp)


def _batch_table(source: Path) -> dict[str, dict[str, str]]:
    path = source / "slides.csv"
    if not path.is_file():
        return {}
    rows = (r for _, r in read_sheet(path, BATCH_COLUMNS, MAX_MANIFEST_BYTES).records())
    return {r.get("folder") or r.get("slide_id", ""): r for r in rows}


def _is_scored(folder: Path) -> bool:
    """Tell whether a folder holds a phantom, or a result with cells."""
    if (folder / "truth.parquet").is_file():
        return True
    try:
        told = json.loads((folder / "result.json").read_bytes())
    except OSError:
        return False
    except ValueError:
        return True  # damaged: the reader says so
    return bool(told.get("status") == "complete")


def _class_rows(source: Path, recipe: Recipe) -> Iterator[Row]:
    """Yield images of ``CLASS/CASE/name.png`` or ``CLASS/CASE__name.png``."""
    folders = [f for f in sorted(source.iterdir()) if f.is_dir() and f.name in CLASS_WORDS]
    paths = [(f, p) for f in folders for p in sorted(f.rglob("*")) if p.suffix.lower() in IMAGES]
    for number, (folder, path) in enumerate(paths):
        inside = path.relative_to(folder)
        case = inside.parts[0] if len(inside.parts) > 1 else path.stem.partition("__")[0]
        if len(inside.parts) == 1 and "__" not in path.stem:
            raise ManifestError(
                f"{path} does not say whose it is: patches are parted by case",
                "Name images CLASS/CASE/name.png or CLASS/CASE__name.png, or write a manifest",
            )
        yield Row(number, path, True, CLASS_WORDS[folder.name], tidy(case), "", recipe.mpp)


def _manifest_rows(path: Path, recipe: Recipe) -> Iterator[Row]:
    sheet = read_sheet(path, COLUMNS, MAX_MANIFEST_BYTES)
    if not {"image", "results"} & set(sheet.columns):
        raise ManifestError(
            f"{path} has neither a column image nor results",
            "Columns: image or results, label, case_id, scanner, mpp",
        )
    for number, values in sheet.records():
        row = _manifest_row(path, number, values, recipe)
        if row.is_image or _is_scored(row.path) or not (row.path / "slides").is_dir():
            yield row
            continue
        for inside in _folder_rows(row.path, recipe):  # a whole batch
            yield replace(
                row,
                path=inside.path,
                case=row.case or inside.case,
                scanner=row.scanner or inside.scanner,
            )


def _manifest_row(path: Path, number: int, values: dict[str, str], recipe: Recipe) -> Row:
    at = f"{path.name} row {number}"
    image, results = values.get("image", ""), values.get("results", "")
    if bool(image) == bool(results):
        raise ManifestError(f"{at}: give one of image and results", "Correct the row")
    target = path.parent / (image or results)
    if not target.exists():
        raise ManifestError(f"{at}: there is no {target}", "Paths are relative to the manifest")
    word = values.get("label", "")
    if (image and not word) or (word and word not in CLASS_WORDS):
        raise ManifestError(f"{at}: label {word!r} is no score", f"Valid: {', '.join(SCORES)}")
    if image and not values.get("case_id"):
        raise ManifestError(f"{at}: case_id is empty", "Patches are parted by case: name it")
    try:
        mpp = (
            float(to_number(values["mpp"], least=0.1, most=2.0))
            if values.get("mpp")
            else (recipe.mpp)
        )
    except ValueError as exc:
        raise ManifestError(
            f"{at}: mpp {values['mpp']!r} is no number", "Give µm per pixel"
        ) from exc
    return Row(
        number,
        target,
        bool(image),
        CLASS_WORDS[word] if word else None,
        tidy(values.get("case_id", "")),
        values.get("scanner", ""),
        mpp,
        values.get("region", ""),
    )

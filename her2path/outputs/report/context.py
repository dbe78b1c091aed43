"""What a report may read: the store alone, each part once and only when a section wants it."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from her2path.core.errors import Her2PathError
from her2path.core.schema import PATTERNS
from her2path.core.settings import Settings
from her2path.io.store import BatchStore, Gallery, RunStore, read_json

__all__ = ["CannotSay", "CaseContext", "Context", "SlideContext"]

#: columns of the cell table that the figures need
_CELL_COLUMNS = (
    "cell_type",
    "x_px",
    "y_px",
    "membrane_od",
    "membrane_mass",
    "completeness",
    "pattern",
    "intensity",
    "score",
)


class CannotSay(Exception):
    """A section cannot be made; the message says why, in words for the reader."""


class Context:
    """A result as plain JSON values, by dotted path.

    Parameters
    ----------
    tree : dict
        ``result.json`` or ``case.json``.
    """

    kind = "slide"

    def __init__(self, tree: dict[str, Any]) -> None:
        self.tree = tree

    def get(self, path: str) -> Any:
        """Return the value at a dotted path; None where any part of it is missing or null."""
        node: Any = self.tree
        for name in path.split("."):
            node = node.get(name) if isinstance(node, dict) else None
        return node

    def need(self, path: str, reason: str) -> Any:
        """Return the value at a dotted path.

        Raises
        ------
        CannotSay
            With the reason, where it is missing or null.
        """
        value = self.get(path)
        if value is None:
            raise CannotSay(f"{reason}{self.why_not_evaluable}")
        return value

    @property
    def evaluable(self) -> bool:
        """Whether there is a score."""
        return self.get("status") != "not_evaluable"

    @property
    def why_not_evaluable(self) -> str:
        """The gravest flag's sentence where the slide is not evaluable, else an empty text."""
        if self.evaluable:
            return ""
        flags = self.get("qc.flags") or []
        reasons = [f["message"] for f in flags if f["severity"] == "fail"]
        return " The slide is not evaluable: " + (" ".join(reasons) or "no reason was recorded.")

    @property
    def title(self) -> str:
        """The slide's or case's name."""
        return str(self.get("slide.id") or "slide")


class SlideContext(Context):
    """One slide's run.

    Parameters
    ----------
    store : RunStore
        A complete run.
    """

    def __init__(self, store: RunStore) -> None:
        super().__init__(store.result().as_dict())
        self.store = store

    @cached_property
    def settings(self) -> Settings:
        """Effective settings, with the cut-offs and the curve that the slide was read with."""
        stored: Settings = _reads(self.store.settings, "The settings were not stored.")
        made = self.get("calibration")
        if not made:
            return stored
        return stored.replace({
            "membrane.measure": made["measure"],
            "membrane.cutoffs": made["cutoffs"],
            "membrane.cutoffs_relative_error": made["cutoffs_relative_error"],
            "membrane.calibration": self.get("stain.calibration") or "uncalibrated",
            "calibration.cutoffs_intervals": made.get("cutoffs_intervals"),
            "calibration.curve": made.get("curve"),
        })  # fmt: skip

    @cached_property
    def cells(self) -> pa.Table:
        """The columns of the cell table that figures need, all cells."""
        table: pa.Table = _reads(
            lambda: self.store.cells(_CELL_COLUMNS), "The cell table is missing."
        )
        return table

    @cached_property
    def tumour(self) -> pa.Table:
        """`cells`, tumour cells only."""
        return self.cells.filter(pc.equal(self.cells["cell_type"].cast(pa.string()), "tumour"))

    @cached_property
    def regions(self) -> list[dict[str, Any]]:
        """Regions, one mapping each."""
        rows: list[dict[str, Any]] = _reads(
            self.store.regions, "The region table is missing."
        ).to_pylist()
        if not rows:
            raise CannotSay("There are no regions." + self.why_not_evaluable)
        return rows

    @cached_property
    def thumbnail(self) -> NDArray[np.uint8]:
        """Overview of the level-0 plane, (H, W, 3)."""
        image: NDArray[np.uint8] = _reads(self.store.thumbnail, "No overview was stored.")
        return image

    @cached_property
    def codes(self) -> NDArray[np.uint16]:
        """Codes of quality control, (H, W) map cells."""
        maps = _reads(self.store.maps, "No maps were stored.")
        if "qc" not in maps.names:
            raise CannotSay("No quality map was stored.")
        #: side of a map cell, µm
        self.codes_um: float = maps.mpp_um()
        return np.asarray(maps.read("qc"), np.uint16)

    @cached_property
    def gallery(self) -> Gallery:
        """Cell patches."""
        return _reads(self.store.gallery, "No cell patches were stored.")

    def ish(self) -> dict[str, Any] | None:
        """ISH results of the slide, where counts were given."""
        return self.store.ish()

    def cells_by_id(self, ids: list[int], columns: list[str]) -> dict[int, dict[str, Any]]:
        """Return some columns of some cells, by cell_id."""
        where = pc.field("cell_id").isin(ids)
        table = self.store.cells(["cell_id", *columns], where)
        return {row["cell_id"]: row for row in table.to_pylist()}


class CaseContext(Context):
    """One case of a batch.

    Parameters
    ----------
    folder : Path
        ``OUT/cases/<case_id>``, with ``case.json``.
    """

    kind = "case"

    def __init__(self, folder: Path) -> None:
        super().__init__(dict(read_json(folder / "case.json")))
        self.folder = folder
        self.batch = BatchStore(folder.parent.parent)

    @property
    def title(self) -> str:
        """The case's name."""
        return str(self.get("case_id") or self.folder.name)

    def ish(self) -> dict[str, Any] | None:
        """ISH results of the case, where counts were given."""
        path = self.folder / "ish.json"
        return dict(read_json(path)) if path.is_file() else None

    @cached_property
    def slides(self) -> list[dict[str, Any]]:
        """Slides of the case: ``slide_id``, and ``result`` (None where it failed)."""
        rows = []
        for entry in self.get("slides") or []:
            row = dict(entry) if isinstance(entry, dict) else {"slide_id": str(entry)}
            row["slide_id"] = str(row.get("slide_id") or row.get("id"))
            folder = str(row.get("folder") or row["slide_id"])
            store = self.batch.slide(folder)
            row["result"] = store.result().as_dict() if store.complete else None
            row["link"] = f"../../slides/{quote(folder)}/report.html"
            rows.append(row)
        return rows


def _reads(read: Any, reason: str) -> Any:
    try:
        return read()
    except Her2PathError as exc:
        raise CannotSay(f"{reason} ({exc})") from exc


#: patterns in rising order, for templates
ORDER = PATTERNS

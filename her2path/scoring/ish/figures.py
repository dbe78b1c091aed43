"""Figures of some counted cells: means, ratio, shares; exact inside, floats outside."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from her2path.core.intervals import area_class, wilson
from her2path.core.settings import Settings
from her2path.scoring.guidelines.grammar import exact
from her2path.scoring.ish.read import CellRow, SummaryRow
from her2path.scoring.ish.rules import Values, group_of

__all__ = ["Figures", "figures"]


@dataclass(frozen=True)
class Figures:
    """Exact sums over the evaluable cells of an area or a case.

    ``sum_cep17`` is None for a single probe, ``amplified`` and ``above_cap`` (numbers of cells)
    for a single probe or a summary table.
    """

    cells: int
    not_evaluable: int
    sum_her2: Fraction
    sum_cep17: Fraction | None
    amplified: int | None
    above_cap: int | None

    @property
    def values(self) -> Values:
        """Copies a cell, ratio (sum over sum) and amplified share."""
        if not self.cells:
            return {"copies": None, "ratio": None, "amplified": None}
        ratio = self.sum_her2 / self.sum_cep17 if self.sum_cep17 else None
        share = None if self.amplified is None else Fraction(self.amplified, self.cells)
        return {"copies": self.sum_her2 / self.cells, "ratio": ratio, "amplified": share}

    @property
    def group(self) -> int | None:
        """The 2018 group 1-5."""
        return group_of(self.values)

    def row(self, settings: Settings) -> dict[str, Any]:
        """Return the figures as they stand in ``ish.json``."""
        values = self.values
        kind, certain = self.area(settings)
        cep17 = None if self.sum_cep17 is None or not self.cells else self.sum_cep17 / self.cells
        known = self.amplified is not None and self.cells > 0
        low, high = wilson(self.amplified or 0, self.cells) if known else (None, None)
        above = Fraction(self.above_cap or 0, self.cells) if known else None
        return {
            "cells": self.cells,
            "not_evaluable_cells": self.not_evaluable,
            "mean_her2": _float(values["copies"]),
            "mean_cep17": _float(cep17),
            "ratio": _float(values["ratio"]),
            "group": self.group,
            "amplified_fraction": _float(values["amplified"]),
            "amplified_low": low,
            "amplified_high": high,
            "cap_2009_fraction": _float(above),
            "area_class": kind,
            "area_class_certain": certain,
        }

    def area(self, settings: Settings) -> tuple[str, bool]:
        """Return the area class; indeterminate, too, where the amplified share is unknown."""
        if self.amplified is None:
            return "indeterminate", False
        limits = settings.heterogeneity
        return area_class(
            self.amplified, self.cells, limits.area_low, limits.area_high, settings.ish.min_cells
        )


def _float(value: Fraction | None) -> float | None:
    return None if value is None else float(value)


def figures(rows: Sequence[CellRow | SummaryRow], settings: Settings) -> Figures:
    """Sum up some rows of one probe kind.

    Cells with ``cep17 = 0`` have no ratio: they are left out of every figure and counted.
    """
    cells = [r for r in rows if isinstance(r, CellRow)]
    if cells:
        return _of_cells(cells, settings)
    means = [r for r in rows if isinstance(r, SummaryRow)]
    single = any(r.mean_cep17 is None for r in means)
    sum_cep17 = sum((r.cells * (r.mean_cep17 or Fraction(0)) for r in means), Fraction(0))
    return Figures(
        cells=sum(r.cells for r in means),
        not_evaluable=0,
        sum_her2=sum((r.cells * r.mean_her2 for r in means), Fraction(0)),
        sum_cep17=None if single else sum_cep17,
        amplified=None,
        above_cap=None,
    )


def _of_cells(rows: list[CellRow], settings: Settings) -> Figures:
    kept = [r for r in rows if r.cep17 != 0]
    single = any(r.cep17 is None for r in rows)
    amplified = above = None
    if not single:
        at, cap = exact(settings.ish.cell_ratio), exact(settings.ish.cap_ratio)
        amplified = sum(r.her2 >= at * (r.cep17 or 0) for r in kept)
        above = sum(r.her2 > cap * (r.cep17 or 0) for r in kept)
    return Figures(
        cells=len(kept),
        not_evaluable=len(rows) - len(kept),
        sum_her2=Fraction(sum(r.her2 for r in kept)),
        sum_cep17=None if single else Fraction(sum(r.cep17 or 0 for r in kept)),
        amplified=amplified,
        above_cap=above,
    )

"""What a calibration is, as settings: its curve, its assay, what it was made from."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from her2path.core.settings.base import Section

__all__ = ["ASSAY_PARTS", "Assay", "Calibration", "Curve", "Interval", "Source"]

Name = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200)]
Interval = tuple[float, float]
#: what an assay is told by
ASSAY_PARTS: tuple[str, ...] = ("clone", "stainer", "scanner")


class Assay(Section):
    """Antibody clone, staining platform and scanner."""

    clone: Name | None = Field(None, description="antibody clone, as 4B5")
    stainer: Name | None = Field(None, description="staining platform and protocol")
    scanner: Name | None = Field(None, description="scanner")


class Curve(Section):
    """A monotone curve of membrane OD against receptors a cell, through calibrators.

    Between the knots log receptors follow log OD (monotone cubic); outside them there is nothing.
    """

    measure: Literal["membrane_od", "membrane_od_ring", "membrane_mass"] = Field(
        "membrane_od", description="the column that is read off"
    )
    od: tuple[float, ...] = Field(description="knots, in the measure's unit, rising")
    receptors: tuple[float, ...] = Field(description="receptors a cell at the knots, rising")
    relative_error: tuple[float, ...] = Field(
        description="half-width of the 95 % interval at the knots, relative"
    )
    residuals: tuple[float | None, ...] = Field(
        (), description="read off without the knot itself, over stated, minus 1; null at the ends"
    )

    @model_validator(mode="after")
    def _rising(self) -> Self:
        n = len(self.od)
        if n < 2 or len(self.receptors) != n or len(self.relative_error) != n:
            raise ValueError("a curve has two or more knots, each with receptors and an error")
        if self.residuals and len(self.residuals) != n:
            raise ValueError("a curve has one residual a knot")
        for values in (self.od, self.receptors):
            if values[0] <= 0 or any(b <= a for a, b in pairwise(values)):
                raise ValueError("the knots of a curve rise, and lie above 0")
        if min(self.relative_error) < 0 or not all(map(math.isfinite, self.relative_error)):
            raise ValueError("a relative error is 0 or more")
        return self

    @property
    def range(self) -> Interval:
        """Least and most receptors that can be read off."""
        return self.receptors[0], self.receptors[-1]


class Source(Section):
    """One thing that a calibration was made from."""

    name: str = Field("", description="control, or file")
    kind: Literal["control", "reads", "results"] = Field("control", description="what it is")
    level: Literal["0", "1+", "2+", "3+"] | None = Field(None, description="level of a control")
    receptors: float | None = Field(None, gt=0, description="stated receptors a cell")
    cells: int | None = Field(None, ge=0, description="cells measured")
    median: float | None = Field(None, description="median of the measure over stained cells")
    date: str | None = Field(None, description="of the control, as it was given")
    batch: str | None = Field(None, description="of the control, as it was given")
    sha256: str = Field("", description="of the file, or of the control's result")


class Calibration(Section):
    """How the cut-offs were calibrated; made by `her2path calibrate`."""

    curve: Curve | None = Field(None, description="membrane OD against receptors a cell")
    assay: Assay = Field(Assay(), description="the assay that it was made for")
    cutoffs_intervals: tuple[Interval, Interval, Interval] | None = Field(
        None, description="95 % intervals of membrane.cutoffs"
    )
    complete_at_interval: Interval | None = Field(
        None, description="of membrane.complete_at, where the reads carry it"
    )
    agreement: dict[str, float] = Field(
        default_factory=dict,
        description="with the reads: `exact` and `kappa` (quadratic) as fitted, "
        "`exact_cross_validated` and `kappa_cross_validated` with the case left out",
    )
    made_from: tuple[Source, ...] = Field((), description="sources, with hashes")
    date: str | None = Field(None, description="when it was made, ISO 8601")

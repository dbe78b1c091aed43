"""Nuclei: where they lie in the cells, how large, dark and textured they are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from her2path.phantom.outline import Bodies
from her2path.phantom.spec import PhantomSpec

F64 = NDArray[np.float64]
Bool = NDArray[np.bool_]

COLUMNS = (
    "x_um", "y_um", "a_um", "b_um", "tilt", "od", "pale", "texture", "dab",
    "w3", "p3", "w4", "p4", "nu_x", "nu_y", "nu_r", "nv_x", "nv_y", "nv_r",
)  # fmt: skip
"""Columns of a nuclei array: centre, half axes, tilt, OD, paleness inside,
texture, DAB, two ripples (size, phase) and two nucleoli (offsets relative to
the half axes, radius in um; 0 for none)."""
X, Y, A, B, TILT, OD, PALE, TEXTURE, DAB, W3, P3, W4, P4, NU, NV = (*range(14), 16)


@dataclass(frozen=True)
class TumourNuclei:
    """Nuclei (m, len(COLUMNS)) and, per cell, its nucleus' row or -1."""

    values: F64
    row: NDArray[np.int64]


def tumour_nuclei(spec: PhantomSpec, bodies: Bodies) -> TumourNuclei:
    """Return the nuclei of the tumour cells."""
    rng = spec.rng("nuclei")
    n = bodies.count
    present = rng.random(n) >= spec.missing_nucleus_share
    columnar = np.hypot(bodies.axis[:, 0], bodies.axis[:, 1]) > 0
    values = np.zeros((n, len(COLUMNS)))
    over = rng.random(n) < spec.overlap
    _sizes(spec, rng, bodies, values, (columnar, over))
    _places(rng, bodies, values, (columnar, over))
    values[:, OD] = spec.nucleus_od * np.exp(0.3 * rng.standard_normal(n))
    values[:, OD] = np.clip(values[:, OD], 0.1, 1.0)
    vesicular = rng.random(n) < spec.vesicular_share
    values[:, PALE] = np.where(vesicular, rng.uniform(0.35, 0.7, n), rng.uniform(0.8, 1.0, n))
    values[:, TEXTURE] = rng.uniform(0.12, 0.4, n)
    values[:, DAB] = spec.nuclear_dab * rng.gamma(2.0, 0.5, n)
    _nucleoli(rng, values, vesicular)
    return TumourNuclei(values[present], np.where(present, np.cumsum(present) - 1, -1))


def _sizes(
    spec: PhantomSpec,
    rng: np.random.Generator,
    bodies: Bodies,
    values: F64,
    kind: tuple[Bool, Bool],
) -> None:
    """Write half axes, tilt and ripples: radii of 2.7-6 um, fitting unless `over`."""
    columnar, over = kind
    n = bodies.count
    equal = np.sqrt(bodies.area_um2 / np.pi)
    fill = 0.52 + 0.26 * spec.crowding
    radius = np.clip(equal * fill * np.exp(0.13 * rng.standard_normal(n)), 2.7, 6.0)
    roomy = np.where(over, 1.6, 1.0) * np.maximum(bodies.inradius_um - 0.4, 1.5)
    aspect = np.where(columnar, rng.uniform(1.35, 2.1, n), rng.uniform(1.0, 1.45, n))
    minor = np.minimum(radius / np.sqrt(aspect), roomy)
    values[:, B] = np.maximum(minor, 2.2)
    values[:, A] = np.minimum(values[:, B] * aspect * np.where(columnar, 1.1, 1.0), 7.5)
    tilt = rng.uniform(0, np.pi, n)
    along = np.arctan2(bodies.axis[:, 1], bodies.axis[:, 0]) + 0.12 * rng.standard_normal(n)
    values[:, TILT] = np.where(columnar, along, tilt)
    for wave, phase, size in ((W3, P3, 0.07), (W4, P4, 0.05)):
        values[:, wave] = np.abs(size * (0.4 + spec.irregularity) * rng.standard_normal(n))
        values[:, wave] = np.minimum(values[:, wave], 0.14)
        values[:, phase] = rng.uniform(0, 2 * np.pi, n)


def _places(rng: np.random.Generator, bodies: Bodies, values: F64, kind: tuple[Bool, Bool]) -> None:
    columnar, over = kind
    n = bodies.count
    room = np.maximum(bodies.inradius_um - values[:, A] - 0.4, 0.25)
    reach = np.where(over, 0.35 * bodies.inradius_um, room) * np.sqrt(rng.random(n))
    angle = rng.uniform(0, 2 * np.pi, n)
    dx, dy = reach * np.cos(angle), reach * np.sin(angle)
    # basal third: about a fifth of the cell's height below its middle
    height = bodies.perimeter_um * 0.42
    down = -height * rng.normal(0.17, 0.07, n)
    dx = np.where(columnar, bodies.axis[:, 0] * down, dx)
    dy = np.where(columnar, bodies.axis[:, 1] * down, dy)
    values[:, X] = bodies.centre[:, 0] + dx
    values[:, Y] = bodies.centre[:, 1] + dy


def _nucleoli(rng: np.random.Generator, values: F64, vesicular: Bool) -> None:
    n = values.shape[0]
    for column, share in ((NU, 0.75), (NV, 0.3)):
        has = rng.random(n) < np.where(vesicular, share, 0.4 * share)
        angle, reach = rng.uniform(0, 2 * np.pi, n), rng.uniform(0, 0.55, n)
        values[:, column] = reach * np.cos(angle)
        values[:, column + 1] = reach * np.sin(angle)
        values[:, column + 2] = np.where(has, rng.uniform(0.5, 1.05, n), 0.0)

"""What colours mean on one slide: white point, stain vectors, look-up tables."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from her2path.core.errors import SettingsError
from her2path.core.results import QcFlag, StainFacts

__all__ = ["StainModel", "angle_deg", "unit"]

Vector = tuple[float, float, float]
Tables = tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]
AllTables = npt.NDArray[np.float32]
#: vectors closer than this cannot be told apart, degrees
LEAST_ANGLE = 8.0


def unit(vector: npt.ArrayLike) -> Vector:
    """Return the vector at unit length."""
    v = np.asarray(vector, dtype=np.float64)
    r, g, b = (float(x) for x in v / np.linalg.norm(v))
    return r, g, b


def angle_deg(a: npt.ArrayLike, b: npt.ArrayLike) -> float:
    """Return the angle between two vectors in degrees."""
    return float(np.degrees(np.arccos(np.clip(np.dot(unit(a), unit(b)), -1.0, 1.0))))


@dataclass(frozen=True)
class StainModel:
    """White point and stain vectors of a slide.

    Parameters
    ----------
    white_point : tuple of float
        Grey levels (R, G, B) of empty glass.
    hematoxylin, dab : tuple of float
        Optical-density vectors (R, G, B) of unit length.
    method : {"estimated", "fixed", "fallback"}
        Where they come from.
    flags : tuple of QcFlag
        What a reader should know of the estimate.
    evidence : dict of str to float
        Numbers that the estimate rests on.
    """

    white_point: Vector
    hematoxylin: Vector
    dab: Vector
    method: str = "fixed"
    flags: tuple[QcFlag, ...] = ()
    evidence: dict[str, float] = field(default_factory=dict, compare=False)

    @property
    def impossible(self) -> bool:
        """Whether the pixels led to a vector that no stain can have, which was then not used."""
        return bool(self.evidence.get("impossible", 0.0))

    def tables(self) -> Tables:
        """Return ``(h_lut, d_lut)``, float32 (3, 256) each.

        ``od_h = h_lut[0][r] + h_lut[1][g] + h_lut[2][b]``, optical density base 10; what fits
        neither stain goes into a third, perpendicular direction and is dropped.

        Raises
        ------
        SettingsError
            Where the two vectors are too close to be told apart.
        """
        return _tables(self.white_point, self.hematoxylin, self.dab)

    def all_tables(self) -> AllTables:
        """Return the tables of hematoxylin, DAB and the residual, float32 (3, 3, 256).

        The residual is what fits neither stain: erythrocytes, pigment, refractile edges.

        Raises
        ------
        SettingsError
            As `tables`.
        """
        return _all_tables(self.white_point, self.hematoxylin, self.dab)

    def inverse(self) -> npt.NDArray[np.float64]:
        """Return the (3, 3) matrix that takes RGB optical density to (H, DAB, residual)."""
        return _inverse(self.hematoxylin, self.dab)

    def facts(self, calibration: str = "uncalibrated") -> StainFacts:
        """Return the part of ``result.json``."""
        return StainFacts.model_validate(
            {
                "white_point": self.white_point,
                "hematoxylin": tuple(round(x, 4) for x in self.hematoxylin),
                "dab": tuple(round(x, 4) for x in self.dab),
                "method": self.method,
                "calibration": calibration,
            }
        )


def _inverse(hematoxylin: Vector, dab: Vector) -> npt.NDArray[np.float64]:
    if angle_deg(hematoxylin, dab) < LEAST_ANGLE:
        raise SettingsError(
            "stain.hematoxylin and stain.dab are nearly the same vector",
            f"Give two vectors at least {LEAST_ANGLE:.0f} degrees apart",
        )
    h, d = np.array(unit(hematoxylin)), np.array(unit(dab))
    rest = np.cross(h, d)
    rows = np.stack([h, d, rest / np.linalg.norm(rest)])
    # od = amounts @ rows, hence amounts = od @ inv(rows)
    return np.linalg.inv(rows)


@lru_cache(maxsize=32)
def _all_tables(white: Vector, hematoxylin: Vector, dab: Vector) -> AllTables:
    inverse = _inverse(hematoxylin, dab)
    grey = np.maximum(np.arange(256.0), 1.0)
    od = np.log10(np.array(white)[:, None] / grey[None, :])
    tables = np.stack([od * inverse[:, k][:, None] for k in range(3)]).astype(np.float32)
    tables.flags.writeable = False
    return tables


def _tables(white: Vector, hematoxylin: Vector, dab: Vector) -> Tables:
    tables = _all_tables(white, hematoxylin, dab)
    return tables[0], tables[1]

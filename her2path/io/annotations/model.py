"""What annotations are, once read."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.affinity import scale
from shapely.geometry.base import BaseGeometry

from her2path.core.geometry import Plane
from her2path.io.annotations.classes import hidden_class
from her2path.io.annotations.shapes import Left

__all__ = ["Annotation", "Annotations"]

#: points over all areas together that tell how much of them is tissue
LATTICE_POINTS = 200_000


@dataclass(frozen=True)
class Annotation:
    """One annotated area: a polygon or multipolygon in level-0 pixels."""

    name: str
    classification: str
    polygon: BaseGeometry
    role: str  # "tumour", "excluded" or "other"


@dataclass(frozen=True)
class Annotations:
    """All annotated areas of a slide.

    Parameters
    ----------
    items : tuple of Annotation
        In the order of the file.
    sha256 : str
        Of the file.
    mended : int
        How many self-crossing polygons were mended.
    left_out : tuple of (Left, int)
        Objects that are no areas, and how many of each.
    """

    items: tuple[Annotation, ...]
    sha256: str
    mended: int = 0
    left_out: tuple[tuple[Left, int], ...] = ()

    @cached_property
    def tumour(self) -> BaseGeometry | None:
        """The union of what is tumour; None where nothing is marked so."""
        return _union(self.items, "tumour")

    @cached_property
    def excluded(self) -> BaseGeometry | None:
        """The union of what is to be left out; None where nothing is."""
        return _union(self.items, "excluded")

    @cached_property
    def unknown(self) -> dict[str, int]:
        """Classes that are on no list, and how many areas of each."""
        return dict(Counter(a.classification for a in self.items if a.role == "other"))

    @property
    def unclassed(self) -> int:
        """Areas without a class, which are tumour, where other areas are tumour by their class."""
        bare = [a for a in self.items if a.role == "tumour" and not a.classification]
        return len(bare) if any(a.classification for a in self.items) else 0

    def hidden(self) -> Annotations:
        """Return the same areas without any text of their author: names, classes, types.

        Names become numbers; classes that are on no list become "class 1" and so on.
        """
        numbers = {name: f"class {i}" for i, name in enumerate(self.unknown, 1)}
        items = tuple(
            replace(
                a, name=f"area {i}",
                classification=hidden_class(a.classification, a.role)
                or numbers.get(a.classification, ""),
            )
            for i, a in enumerate(self.items, 1)
        )  # fmt: skip
        left: Counter[Left] = Counter()
        for what, count in self.left_out:
            left[replace(what, quoted="")] += count
        return replace(self, items=items, left_out=tuple(left.items()))

    def share_outside(
        self,
        in_tissue: Callable[[NDArray[np.float64], NDArray[np.float64]], NDArray[np.bool_]],
        width_px: int,
        height_px: int,
    ) -> float:
        """Return the share of the annotated area that lies outside tissue, or off the slide.

        What is tumour counts; where nothing is marked so, every area. Measured on a lattice over
        each area, the same for the same file.

        Parameters
        ----------
        in_tissue : callable
            Takes x and y (level-0 px) of points on the slide; tells which lie in tissue.
        width_px, height_px : int
            Of the slide, level-0 px.
        """
        chosen = [a.polygon for a in self.items if a.role == "tumour"]
        chosen = chosen or [a.polygon for a in self.items]
        side = int(np.clip(np.sqrt(LATTICE_POINTS / len(chosen)), 3, 256))
        inside = total = 0.0
        for polygon in chosen:
            x, y = _lattice(polygon, side)
            on = (x >= 0) & (y >= 0) & (x < width_px) & (y < height_px)
            hit = int(in_tissue(x[on], y[on]).sum())
            inside += polygon.area * hit / x.size
            total += polygon.area
        return 1.0 - inside / total

    def moved(self, source: Plane, target: Plane) -> Annotations:
        """Return the same areas in the pixels of another plane."""

        def move(xy: NDArray[np.float64]) -> NDArray[np.float64]:
            return np.stack(source.move(xy[:, 0], xy[:, 1], target), axis=1)

        return replace(self, items=tuple(
            replace(a, polygon=shapely.transform(a.polygon, move)) for a in self.items
        ))  # fmt: skip

    def named_um(self, mpp: float) -> list[tuple[str, BaseGeometry, str]]:
        """Return (name, polygon in µm, class) of every area that is not left out."""
        return [
            (a.name, scale(a.polygon, mpp, mpp, origin=(0, 0)), a.classification)
            for a in self.items
            if a.role != "excluded"
        ]

    def geojson(self) -> str:
        """Return the areas as GeoJSON text, level-0 pixels."""
        features = [
            {
                "type": "Feature",
                "geometry": json.loads(shapely.to_geojson(a.polygon)),
                "properties": {
                    "objectType": "annotation",
                    "name": a.name,
                    "classification": {"name": a.classification},
                    "role": a.role,
                },
            }
            for a in self.items
        ]
        return json.dumps({"type": "FeatureCollection", "features": features})


def _lattice(polygon: BaseGeometry, side: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return points of a lattice over the bounds that lie inside; one point at the least."""
    x0, y0, x1, y1 = polygon.bounds
    steps = (np.arange(side) + 0.5) / side
    x, y = (v.ravel() for v in np.meshgrid(x0 + steps * (x1 - x0), y0 + steps * (y1 - y0)))
    keep = shapely.contains_xy(polygon, x, y)
    if not keep.any():
        point = polygon.representative_point()
        return np.array([point.x]), np.array([point.y])
    return x[keep], y[keep]


def _union(items: tuple[Annotation, ...], role: str) -> BaseGeometry | None:
    chosen = [a.polygon for a in items if a.role == role]
    return shapely.union_all(chosen) if chosen else None

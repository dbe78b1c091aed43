"""What annotations are, once read."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property

import shapely
from shapely.affinity import scale
from shapely.geometry.base import BaseGeometry

from her2path.settings import TumourSettings

__all__ = ["Annotation", "Annotations"]


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
    """

    items: tuple[Annotation, ...]
    sha256: str
    mended: int = 0

    @cached_property
    def tumour(self) -> BaseGeometry | None:
        """The union of what is tumour; None where nothing is marked so."""
        return _union(self.items, "tumour")

    @cached_property
    def excluded(self) -> BaseGeometry | None:
        """The union of what is to be left out; None where nothing is."""
        return _union(self.items, "excluded")

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


def _union(items: tuple[Annotation, ...], role: str) -> BaseGeometry | None:
    chosen = [a.polygon for a in items if a.role == role]
    return shapely.union_all(chosen) if chosen else None


def role_of(classification: str, settings: TumourSettings) -> str:
    """Tell what a class means: an exact, case-insensitive match of the settings' lists.

    An area without a class is tumour: whoever draws one outline and names nothing means that.
    """
    word = classification.strip().casefold()
    if not word or word in {c.casefold() for c in settings.classes}:
        return "tumour"
    if word in {c.casefold() for c in settings.exclude}:
        return "excluded"
    return "other"

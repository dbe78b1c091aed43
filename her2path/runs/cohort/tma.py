"""A TMA's map laid on the cores that were found, so that no core goes to another patient.

Cores are numbered from the first row and column that hold tissue. An array that lost its first
column, or that has a control core outside its grid, would shift every patient by one: the map is
therefore slid over the cores, and used only where it fits in one way.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import pyarrow as pa

from her2path.core.errors import ManifestError
from her2path.space.regions import core_row_col

__all__ = ["TmaMap", "check_cores", "found_places"]

Place = tuple[int, int]
#: in another position of the map at least so many cores must lie where it has none
MIN_STRANGERS = 2


@dataclass(frozen=True)
class TmaMap:
    """Which case each core belongs to.

    Attributes
    ----------
    cases : dict
        Case by (row, column) of the map.
    places : frozenset of (row, column)
        All that the map lists, those of no case too.
    """

    cases: Mapping[Place, str]
    places: frozenset[Place]

    def shift(self, found: Iterable[Place]) -> Place:
        """Return what must be added to a found core's row and column to get the map's.

        Parameters
        ----------
        found : iterable of (row, column)
            Numbered from 1 at the first row and column with tissue.

        Raises
        ------
        ManifestError
            Where cores lie at places that the map does not list, or where it fits in several
            ways.
        """
        cores = sorted(set(found))
        if not cores:
            raise ManifestError("no core was found on the slide", "Check the slide and its map")
        hits = Counter((r - a, c - b) for r, c in self.places for a, b in cores)
        fits = sorted(s for s, n in hits.items() if n == len(cores))
        if not fits:
            best = max(sorted(hits), key=lambda s: hits[s])
            raise self._misfit(cores, f"{len(cores) - hits[best]} of them lie where it has no core")
        if len(cores) < len(self.places):
            # one loose core can hide that a whole row or column is another than it seems
            near = [s for s, n in hits.items() if len(cores) - n < MIN_STRANGERS]
            if len(near) > 1:
                raise self._misfit(cores, f"it fits in {len(near)} ways")
        return fits[0]

    def _misfit(self, cores: list[Place], why: str) -> ManifestError:
        return ManifestError(
            f"the TMA map does not fit the cores found: {len(cores)} cores in {_size(cores)}, "
            f"the map lists {len(self.places)} in {_size(self.places)}, and {why}",
            "List every core of the slide, with case_id empty where it is nobody's, and take out "
            "places without tissue",
        )


def _size(places: Iterable[Place]) -> str:
    """Return rows and columns that places span, in words."""
    rows, cols = zip(*places, strict=True)
    return f"{1 + max(rows) - min(rows)} rows and {1 + max(cols) - min(cols)} columns"


def found_places(regions: pa.Table) -> dict[str, Place]:
    """Return (row, column) of every core among a slide's regions, by its name.

    Raises
    ------
    ManifestError
        Where the slide was not cut into cores.
    """
    kinds = set(regions.column("kind").to_pylist())
    if kinds - {"core"}:
        raise ManifestError(
            f"the slide was cut into regions of kind {', '.join(sorted(kinds))}, not into cores",
            "Score it again with regions.kind=core",
        )
    return {name: core_row_col(name) for name in regions.column("name").to_pylist()}


def check_cores(regions: pa.Table, layout: TmaMap) -> dict[str, Place]:
    """Return each core's (row, column) in the map, by the name of its region.

    Raises
    ------
    ManifestError
        Where the map does not fit, or fits in several ways.
    """
    found = found_places(regions)
    down, right = layout.shift(found.values())
    return {name: (row + down, col + right) for name, (row, col) in found.items()}

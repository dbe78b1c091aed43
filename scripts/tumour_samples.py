"""Cells that the tumour selection learns from: as the program measures them, with their truth."""

from __future__ import annotations

import pickle
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from drawn_phantoms import STYLES as OUTLINED
from matching import MATCH_UM, away, pair
from pictures import (
    CORES,
    Picture,
    Stains,
    Truth,
    outlined_picture,
    own_picture,
    plain_picture,
    real_core,
    stains,
)
from plain_phantoms import CHECKED, FITTED, UNSEEN

from her2path.analysis import FIXED, ID_STRIDE, _nucleus_columns
from her2path.nuclei import find_nuclei
from her2path.nuclei.table import Nuclei
from her2path.settings import NucleiSettings, Settings
from her2path.tumour import second_opinion, surroundings
from her2path.tumour.look import look
from her2path.tumour.weights import net as program_net

#: what a detection turned out to be
TUMOUR, OTHER, FALSE, IGNORED = 1, 0, 2, -1
#: weights: detections in bodies whose nucleus the section missed count little, either way
BODY_WEIGHT = 0.25
UNSURE_UM = 5.0
Columns = dict[str, np.ndarray]
Net = tuple[np.ndarray, ...]


@dataclass(frozen=True)
class Cells:
    """The cells found on a picture: raw columns, truth; ``kind``: own, plain, outlined, real."""

    kind: str
    name: str
    columns: Columns
    truth: Truth

    @property
    def group(self) -> str:
        """Return the generator or style."""
        return self.name.rstrip("0123456789")

    @property
    def at(self) -> np.ndarray:
        """Return positions (n, 2), µm."""
        return np.column_stack([self.columns["x_um"], self.columns["y_um"]])


def find(seen: Stains) -> Nuclei:
    """Return the nuclei that the program finds on stain planes, the doubtful ones too."""
    return find_nuclei(seen.h, seen.d, seen.mpp, _settings(seen), doubtful=True)


def _settings(seen: Stains) -> NucleiSettings:
    return Settings().nuclei.model_copy(update={"contrast_od": seen.contrast})


def raw_columns(found: Nuclei, mpp: float) -> Columns:
    """Return identity, place and measures of nuclei."""
    x, y = (np.rint(v.astype(np.float64) * FIXED).astype(np.int64) for v in (found.x, found.y))
    columns: Columns = {"cell_id": y * ID_STRIDE + x}
    columns |= {n: (v / FIXED + 0.5) * mpp for n, v in (("x_um", x), ("y_um", y))}
    return columns | _nucleus_columns(found, mpp)


def detect(kind: str, name: str, picture: Picture, net: Net) -> Cells:
    """Return the raw columns of a picture's cells, as the program measures them with that net."""
    seen = stains(picture)
    found = second_opinion(find(seen), seen.h, seen.d, seen.mpp, _settings(seen), net)
    columns = raw_columns(found, seen.mpp) | surroundings(found, seen.h, seen.d, seen.mpp)
    columns |= look(found, seen.h, seen.d, seen.mpp, net)
    return Cells(kind, name, columns, picture.truth)


def label(cells: Cells) -> tuple[np.ndarray, np.ndarray]:
    """Return what every detection is, and how much it weighs in a fit."""
    at, t = cells.at, cells.truth
    what, weight = np.full(len(at), FALSE), np.ones(len(at))
    nuclei = np.flatnonzero(t.seen)
    mate = pair(at, t.at[nuclei])
    hit = mate >= 0
    kinds = t.kind[nuclei[mate[hit]]]
    what[hit] = np.where(kinds == "tumour", TUMOUR, np.where(kinds == "unsure", IGNORED, OTHER))
    body = pair(at, t.at[~t.seen], MATCH_UM) >= 0
    weight[body & ~hit] = BODY_WEIGHT
    what[~t.marked(at)] = IGNORED
    what[(what == FALSE) & (away(at, t.at[t.kind == "unsure"]) < UNSURE_UM)] = IGNORED
    return what, weight


@dataclass(frozen=True)
class Store:
    """The cells of all pictures, kept in a folder as one net sees them.

    ``net`` holds the arrays of a net that takes the place of the program's.
    """

    folder: Path
    net: Net | None = None

    def fitted(self) -> list[Cells]:
        """Return the drawings that are fitted."""
        own = [self._cells("own", f"own{s}", own_picture, s) for s in range(5000, 5140)]
        return own + self._plain(FITTED, range(700, 716)) + self._outlined(range(700, 716))

    def checked(self) -> list[Cells]:
        """Return drawings for choices: never fitted, but looked at."""
        return (
            self._own("usual", range(6000, 6016))
            + self._own("own", range(6100, 6116))
            + self._plain(FITTED + CHECKED, range(950, 954))
            + self._own("usual", range(6200, 6240))
            + self._own("own", range(6300, 6340))
            + self._plain(FITTED + CHECKED, range(960, 966))
            + self._outlined(range(950, 960))
        )

    def unseen(self) -> list[Cells]:
        """Return drawings for the final figures: they took no part in any choice."""
        return (
            self._own("usual", range(9100, 9116))
            + self._own("own", range(9200, 9216))
            + self._plain(FITTED + CHECKED + UNSEEN, range(980, 984))
            + self._outlined(range(980, 988))
        )

    def cores(self, real: Path | None) -> list[Cells]:
        """Return the real cores, none without their folder."""
        if real is None:
            return []
        return [self._cells("real", f"real_{n}", real_core, real, n) for n in CORES]

    def _own(self, name: str, seeds: range) -> list[Cells]:
        extreme = name == "own"
        return [self._cells("own", f"{name}{s}", own_picture, s, extreme) for s in seeds]

    def _plain(self, styles: tuple[str, ...], seeds: range) -> list[Cells]:
        return [
            self._cells("plain", f"{t}{s}", plain_picture, s, t) for t in styles for s in seeds
        ]

    def _outlined(self, seeds: range) -> list[Cells]:
        return [
            self._cells("outlined", f"outlined-{t}{s}", outlined_picture, s, t)
            for t in OUTLINED for s in seeds
        ]  # fmt: skip

    def _cells(self, kind: str, name: str, make: Any, *args: Any) -> Cells:
        """Return the cells of a picture from the folder, or make them."""
        weights = self.net or program_net()
        mark = zlib.crc32(b"".join(w.tobytes() for w in weights))
        path = self.folder / f"cells_{name}_{mark:08x}.pickle"
        if not path.exists():
            made = pickle.dumps(vars(detect(kind, name, make(*args), weights)))
            path.with_suffix(".part").write_bytes(made)
            path.with_suffix(".part").rename(path)
        return Cells(**pickle.loads(path.read_bytes()))

"""Pictures that teach the reading: drawings whose every cell is known, and real cells read by eye.

Each picture becomes stain planes and a list of cells. What is not known of a cell is NaN and
teaches nothing: a reader knows its kind and how its membrane looks, not where its border runs.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass, fields
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from scipy.spatial.distance import cdist

from her2path.cells.reading.inputs import PLACES, place_angles
from her2path.cells.stain import StainModel, estimate, reduce_planes
from her2path.core.geometry import analysis_factor
from her2path.core.settings import Settings
from her2path.phantom import PhantomSpec, encode_decode, random_spec
from her2path.phantom import nuclei as nu
from her2path.phantom.cells import inside_image
from her2path.phantom.make import Composed, compose
from her2path.phantom.presets import TUMOURS
from scripts.fit.looks import as_seen
from scripts.fit.real_images import real_image
from scripts.phantoms import outlined, plain
from scripts.phantoms.mixtures import draw_mixture
from scripts.phantoms.plain import FITTED

READS = Path(__file__).parents[2] / "tests" / "data" / "reads"
SIZE_UM = 230.0
#: µm of picture around a field of read cells
AROUND_UM = 40.0
#: two centres nearer than this lie in one nucleus, µm
ONE_NUCLEUS_UM = 3.6
KINDS = ("tumour", "other", "nothing")
LEVELS = {"none": 0.0, "weak": 1.0, "moderate": 2.0, "strong": 3.0}
ANGLES = place_angles()
LAYOUTS = ("homogeneous", "mosaic", "clustered", "scattered")


@dataclass(frozen=True)
class Cells:
    """What is known of n cells; NaN where it is not.

    ``at`` (n, 2) µm; ``kind`` (n, 3): how many of the voices say tumour, other, nothing;
    ``nucleus`` and ``border`` (n, PLACES): radii, µm; ``own`` (n, PLACES): 1 where the own
    membrane is stained; ``stained`` (n,): share of the voices for any staining; ``level`` (n,):
    mean grade, 0 to 3; ``complete`` (n,): share of the voices for complete, or whether it is;
    ``share`` (n,): own stained share of the border.
    """

    at: np.ndarray
    kind: np.ndarray
    nucleus: np.ndarray
    border: np.ndarray
    own: np.ndarray
    stained: np.ndarray
    level: np.ndarray
    complete: np.ndarray
    share: np.ndarray

    def __len__(self) -> int:
        """Return how many cells there are."""
        return len(self.at)

    def take(self, which: np.ndarray) -> Cells:
        """Return some of the cells."""
        return Cells(**{f.name: getattr(self, f.name)[which] for f in fields(self)})


def join(*parts: Cells) -> Cells:
    """Return the cells of several tables as one."""
    return Cells(**{
        f.name: np.concatenate([getattr(c, f.name) for c in parts]) for f in fields(Cells)
    })  # fmt: skip


@dataclass(frozen=True)
class Taught:
    """A picture: planes float16 (3, H, W), µm per pixel, cells, and where background is known.

    ``known`` is x0, y0, x1, y1 in µm: there every nucleus is on the list. ``source`` names the
    generator, or the real image.
    """

    planes: np.ndarray
    mpp_a: float
    cells: Cells
    known: tuple[float, float, float, float]
    source: str


def unknown(n: int) -> dict[str, np.ndarray]:
    """Return the fields of n cells of which nothing is known."""
    rings = {k: np.full((n, PLACES), np.nan) for k in ("nucleus", "border", "own")}
    return rings | {k: np.full(n, np.nan) for k in ("stained", "level", "complete", "share")}


def planes_of(rgb: np.ndarray, mpp: float, model: StainModel | None = None) -> Any:
    """Return the stain planes (float16) of a picture, and their µm per pixel."""
    factor = analysis_factor(mpp)
    rgb = np.ascontiguousarray(
        rgb[: rgb.shape[0] // factor * factor, : rgb.shape[1] // factor * factor]
    )
    model = model or estimate([rgb], mpp, Settings().stain)
    return reduce_planes(rgb, factor, model).astype(np.float16), mpp * factor


def radii_to(outline: np.ndarray, centre: np.ndarray, reach: float = 0.4) -> np.ndarray:
    """Return how far an outline (m, 2) lies from a centre at every place, (PLACES,) µm."""
    off = outline - centre
    ray = np.stack([np.cos(ANGLES), np.sin(ANGLES)], axis=1)
    along = off @ ray.T
    aside = np.abs(off[:, :1] * ray[:, 1] - off[:, 1:] * ray[:, 0])
    far = np.where((aside < reach) & (along > 0), along, np.inf).min(axis=0)
    return np.where(np.isfinite(far), far, np.nan)


def ellipse_radii(a: np.ndarray, b: np.ndarray, tilt: np.ndarray) -> np.ndarray:
    """Return radii (n, PLACES) of ellipses with half axes a and b (µm)."""
    turn = ANGLES[None] - tilt[:, None]
    return (a * b)[:, None] / np.hypot(b[:, None] * np.cos(turn), a[:, None] * np.sin(turn))


def kinds_of(words: list[str] | np.ndarray) -> np.ndarray:
    """Return (n, 3) of words of the generators: tumour, or any other nucleus."""
    tumour = np.array([w == "tumour" for w in words], bool)
    return np.stack([tumour, ~tumour, np.zeros_like(tumour)], axis=1).astype(float)


def own_spec(number: int) -> PhantomSpec:
    """Return a random phantom: any mixture, half of them beyond what usually is drawn."""
    rng = np.random.default_rng([number, 2031])
    layout = str(rng.choice(LAYOUTS, p=(0.5, 0.25, 0.15, 0.1)))
    fixed: dict[str, Any] = {"layout": layout}
    if number % 3:
        fixed["mixture"] = draw_mixture(rng)
        fixed["second"] = {} if layout == "homogeneous" else draw_mixture(rng)
    if number % 6 == 5:
        fixed |= {"layout": "homogeneous", "mixture": {"none": 1.0}, "second": {}}
    if number % 7 == 3:  # no epithelium at all
        fixed |= {"tumour_share": 0.0, "red_cells": 0.8, "refractile": 0.8}
    elif rng.random() < 0.5:
        fixed |= {
            "tumour_share": float(rng.choice([0.3, 0.7, 0.9])),
            "columnar_share": float(rng.choice([0.0, 0.5, 0.9])),
            "lymphocytes": float(rng.choice([0.0, 0.5, 1.0])),
            "stroma_cells": float(rng.choice([0.2, 0.6, 1.0])),
            "cell_um": float(rng.uniform(9, 18)),
            "crowding": float(rng.uniform(0, 1)),
        }
    return random_spec(
        70_000 + number, width_um=SIZE_UM, height_um=SIZE_UM, margin_um=8.0,
        knife_edge=bool(rng.random() < 0.3), **fixed,
    )  # fmt: skip


def own_picture(number: int) -> Taught:
    """Draw a phantom of this program."""
    spec = own_spec(number)
    made = compose(spec)
    rgb = encode_decode(made.image, spec.jpeg_quality, spec.subsampling)
    joined = join(_own_cells(made), _loose_cells(made.scene.stroma.nuclei))
    planes, mpp_a = planes_of(rgb, spec.mpp)
    inside = inside_image(spec, joined.at)
    return Taught(planes, mpp_a, joined.take(inside), (0.0, 0.0, SIZE_UM, SIZE_UM), "own")


def _own_cells(made: Composed) -> Cells:
    bodies, stain, nuclei = made.scene.bodies, made.scene.stain, made.nuclei
    rows = np.flatnonzero(nuclei.row >= 0)
    values = nuclei.values[nuclei.row[rows]]
    at = values[:, [nu.X, nu.Y]]
    n = len(rows)
    out = unknown(n)
    out["nucleus"] = ellipse_radii(values[:, nu.A], values[:, nu.B], values[:, nu.TILT])
    for i, cell in enumerate(rows):
        a, b = bodies.start[cell], bodies.start[cell + 1]
        outline = np.stack([bodies.x[a:b], bodies.y[a:b]], axis=1)
        out["border"][i] = radii_to(outline, at[i])
        out["own"][i] = _own_there(outline, stain.od[a:b] > 0, at[i], out["border"][i])
    out |= _verdict(made.kinds.pattern[rows], stain.completeness[rows])
    return Cells(at, kinds_of(["tumour"] * n), **out)


def _own_there(outline: np.ndarray, on: np.ndarray, at: np.ndarray, r: np.ndarray) -> np.ndarray:
    """Return the stained share of the outline within 0.7 µm of each place."""
    place = at + r[:, None] * np.stack([np.cos(ANGLES), np.sin(ANGLES)], axis=1)
    near = np.hypot(*(outline[None] - place[:, None]).transpose(2, 0, 1)) < 0.7
    count = near.sum(axis=1)
    return np.where(count > 0, (near * on).sum(axis=1) / np.maximum(count, 1), np.nan)


def _verdict(pattern: np.ndarray, share: np.ndarray) -> dict[str, np.ndarray]:
    return {
        "stained": (pattern > 0).astype(float), "level": ((pattern + 1) // 2).astype(float),
        "complete": ((pattern > 0) & (pattern % 2 == 0)).astype(float),
        "share": np.where(pattern > 0, share, 0.0),
    }  # fmt: skip


def _loose_cells(values: np.ndarray) -> Cells:
    n = len(values)
    out = unknown(n) | {"stained": np.zeros(n), "level": np.zeros(n), "share": np.zeros(n)}
    out["nucleus"] = ellipse_radii(values[:, nu.A], values[:, nu.B], values[:, nu.TILT])
    out["own"] = np.zeros((n, PLACES))
    return Cells(values[:, [nu.X, nu.Y]], kinds_of(["other"] * n), **out)


def outlined_picture(number: int) -> Taught:
    """Draw outlines of `outlined`; some rough, some with lines side by side."""
    rng = np.random.default_rng([number, 2032])
    style = outlined.STYLES[number % len(outlined.STYLES)]
    mixture = draw_mixture(rng) if number % 2 else list(TUMOURS.values())[number // 2 % 5]
    rough, inner = bool(rng.random() < 0.25), bool(rng.random() < 0.25)
    drawn = outlined.paint(5_000_000 + number, style, mixture, SIZE_UM, rough, inner)
    seen = drawn.nuclei[:, 2] > 0
    cells = _outlined(drawn.cells, drawn.nuclei[seen, :2], seen, drawn.nuclei[seen, 2])
    others = unknown(len(drawn.others)) | {
        "stained": np.zeros(len(drawn.others)), "share": np.zeros(len(drawn.others)),
    }  # fmt: skip
    loose = Cells(drawn.others, kinds_of(drawn.kinds), **others)
    return _whole(drawn.rgb, drawn.mpp, join(cells, loose), "outlined")


def _outlined(painted: Any, at: np.ndarray, rows: np.ndarray, radius: np.ndarray) -> Cells:
    turn = np.arange(outlined.ANGLES) / outlined.ANGLES * 2 * np.pi
    ray = np.stack([np.cos(turn), np.sin(turn)], axis=1)
    out = unknown(len(at))
    out["nucleus"] = np.repeat(radius[:, None], PLACES, axis=1)
    for i, cell in enumerate(np.flatnonzero(rows)):
        outline = painted.at[cell] + painted.reach[cell][:, None] * ray
        out["border"][i] = radii_to(outline, at[i], 0.6)
        out["own"][i] = _own_there(outline, painted.od[cell] > 0, at[i], out["border"][i])
    on = painted.od[rows] > 0
    share = (painted.reach[rows] * on).sum(axis=1) / painted.reach[rows].sum(axis=1)
    out |= _verdict(painted.code[rows], share)
    return Cells(at, kinds_of(["tumour"] * len(at)), **out)


def _whole(rgb: np.ndarray, mpp: float, cells: Cells, source: str) -> Taught:
    planes, mpp_a = planes_of(rgb, mpp)
    x, y = cells.at.T
    inside = (x >= 0) & (x < SIZE_UM) & (y >= 0) & (y < SIZE_UM)
    return Taught(planes, mpp_a, cells.take(inside), (0.0, 0.0, SIZE_UM, SIZE_UM), source)


def plain_picture(number: int) -> Taught:
    """Draw a plain phantom: nuclei of many sizes and styles; membranes teach nothing."""
    drawn = plain.draw(6_000_000 + number, FITTED[number % len(FITTED)], {}, SIZE_UM)
    kinds = kinds_of(drawn.truth.column("cell_type").to_pylist())
    cells = Cells(drawn.at(), kinds, **unknown(len(kinds)))
    return _whole(drawn.rgb, drawn.mpp, cells, "plain")


def real_pictures(folder: Path, looks: tuple[str, ...] = ()) -> list[Taught]:
    """Return every field of read cells as it was read, and as each of `looks` shows it."""
    out = []
    reads = read_cells()
    for field in csv.DictReader((READS / "fields.csv").open(encoding="utf-8")):
        mine = reads.get(field["field"])
        if mine is None:
            continue
        shown = [field["look"]] + [k for k in looks if k != field["look"]]
        for look in shown if field["look"] == "as_is" else shown[:1]:
            out.append(_real_field(folder, field, look, mine))
    return out


def read_cells() -> dict[str, dict[tuple[float, float], list[dict[str, str]]]]:
    """Return the reads of every field: place (px) to the voices."""
    out: dict[str, dict[tuple[float, float], list[dict[str, str]]]] = {}
    for row in csv.DictReader((READS / "reads.csv").open(encoding="utf-8")):
        place = float(row["x_px"]), float(row["y_px"])
        out.setdefault(row["field"], {}).setdefault(place, []).append(row)
    return out


def _real_field(folder: Path, field: dict[str, str], look: str, reads: Any) -> Taught:
    rgb, mpp = _cached_image(folder, field["image"])
    x0, y0, side = (int(field[k]) for k in ("x0", "y0", "side"))
    pad = round(AROUND_UM / mpp)
    left, top = max(x0 - pad, 0) // 8 * 8, max(y0 - pad, 0) // 8 * 8
    cut = rgb[top : y0 + side + pad, left : x0 + side + pad]
    seen, to = as_seen(cut, mpp, look, len(look) + x0)
    planes, mpp_a = planes_of(seen, to, _real_stain(folder, field["image"], look))
    corner = np.array([left, top])
    at, voices = one_nucleus_each((np.array(list(reads)) + 0.5) * mpp, list(reads.values()))
    at = at - corner * mpp
    low, high = (np.array([x0, y0]) - corner) * mpp, (np.array([x0, y0]) - corner + side) * mpp
    box = float(low[0]), float(low[1]), float(high[0]), float(high[1])
    return Taught(planes, mpp_a, _voices(at, voices), box, field["image"])


def one_nucleus_each(
    at: np.ndarray, voices: list[list[dict[str, str]]]
) -> tuple[np.ndarray, list[list[dict[str, str]]]]:
    """Return points (n, 2) µm and their voices with those that share a nucleus joined.

    Large pale nuclei got a point at each nucleolus, and readers called them all a cell. Points with
    a nucleus to every voice nearer than `ONE_NUCLEUS_UM` become one at their mean, with the voices
    of the first; where three lie in a row the nearest two are joined first.
    """
    at, voices = at.astype(float).copy(), list(voices)
    nucleus = np.array([all(v["kind"] in ("tumour", "other") for v in two) for two in voices], bool)
    kept, count = np.ones(len(at), bool), np.ones(len(at))
    gap = np.where(nucleus[:, None] & nucleus, cdist(at, at), np.inf)
    np.fill_diagonal(gap, np.inf)
    for i, j in zip(*np.unravel_index(np.argsort(gap, axis=None), gap.shape), strict=True):
        if gap[i, j] >= ONE_NUCLEUS_UM:
            break
        if i < j and kept[i] and kept[j] and np.hypot(*(at[i] - at[j])) < ONE_NUCLEUS_UM:
            at[i] = (count[i] * at[i] + count[j] * at[j]) / (count[i] + count[j])
            count[i] += count[j]
            kept[j] = False
    return at[kept], [v for v, k in zip(voices, kept, strict=True) if k]


def _voices(at: np.ndarray, reads: list[list[dict[str, str]]]) -> Cells:
    out, kind = unknown(len(at)), np.zeros((len(at), 3))
    for i, voices in enumerate(reads):
        for v in voices:
            if v["kind"] in KINDS:
                kind[i, KINDS.index(v["kind"])] += 1
        grades = [LEVELS[v["membrane"]] for v in voices
                  if v["kind"] == "tumour" and v["membrane"] in LEVELS]  # fmt: skip
        whole = [float(v["complete"] == "yes") for v in voices
                 if v["kind"] == "tumour" and v["complete"] in ("yes", "no")]  # fmt: skip
        if grades:
            out["stained"][i] = np.mean([g > 0 for g in grades])
            out["level"][i] = np.mean(grades)
            if max(grades) == 0:
                out["own"][i], out["share"][i] = 0.0, 0.0
        if whole:
            out["complete"][i] = np.mean(whole)
    return Cells(at, kind, **out)


@lru_cache(4)
def _cached_image(folder: Path, image: str) -> tuple[np.ndarray, float]:
    return real_image(folder, image)


@lru_cache(64)
def _real_stain(folder: Path, image: str, look: str) -> StainModel:
    """Estimate the stain of a whole image as a look shows it, from tiles spread over it."""
    rgb, mpp = _cached_image(folder, image)
    side = round(128 / mpp)
    tiles = [
        rgb[y : y + side, x : x + side]
        for y in range(0, max(rgb.shape[0] - side // 2, 1), side)
        for x in range(0, max(rgb.shape[1] - side // 2, 1), side)
    ]
    some = tiles[:: max(1, len(tiles) // 60)]
    shown = [as_seen(np.ascontiguousarray(t), mpp, look) for t in some]
    return estimate([t for t, _ in shown], shown[0][1], Settings().stain)

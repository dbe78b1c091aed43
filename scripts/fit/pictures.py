"""Pictures that teach the reading: drawings whose every cell is known, and real cells read by eye.

Each picture becomes stain planes and a list of cells. What is not known of a cell is NaN and
teaches nothing: a reader knows its kind and how its membrane looks, not where its border runs.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from her2path.cells.reading.inputs import PLACES, place_angles
from her2path.cells.stain import StainModel, estimate, reduce_planes
from her2path.core.geometry import analysis_factor
from her2path.core.settings import Settings
from her2path.phantom import PhantomSpec, encode_decode, random_spec
from her2path.phantom import nuclei as nu
from her2path.phantom.cells import inside_image
from her2path.phantom.make import Composed, compose
from her2path.phantom.presets import TUMOURS
from scripts.phantoms import outlined, plain
from scripts.phantoms.mixtures import draw_mixture
from scripts.phantoms.plain import FITTED

SIZE_UM = 230.0
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

"""Slides to fit and to test the membrane attribution on: drawn, measured, beside their truth.

    python scripts/membrane_slides.py --kind own --numbers 0 400 -o tables/own
    python scripts/membrane_slides.py --kind other --numbers 0 200 -o tables/other

`own` are phantoms of this program, `pure` the same with clones of intense, complete cells, `other`
those of `membrane_phantoms.py`, `drawn` those of `drawn_phantoms.py`, `rough` the same with
granular brown in the cells, most of them without any membrane, `inner` the same with membranes
side by side; `tissue` are membranes painted on real tissue (`tissue_phantoms.py`), for tests alone.
A slide is painted, its nuclei found by the program itself, its rays measured, and cells matched to
the truth within 4 µm; it is measured a second time with true nuclei. A table holds the raw columns,
`mpp_a`, which cells count (`use`: tumour cells with a nucleus, away from the edge; `stroma`: the
others that were matched), the truth of each cell (`t_*`), and for each ray the OD of the cell's own
membrane at the nearest place of its true outline (`t_ray`; -1 where the ray ends farther than
2.5 µm from it); and both stains across the border as pass 1 samples them (`profiles`, counts of
`PROFILE_OD`).
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import tissue_phantoms
from drawn_phantoms import ANGLES, Cells, Painted, paint
from drawn_phantoms import STYLES as DRAWN_STYLES
from membrane_nests import PROFILE_OD, draw_nests
from membrane_phantoms import Drawn, draw_mixture, draw_other
from scipy.spatial import cKDTree
from tissue_phantoms import Tissue

from her2path import analysis, cells, membrane, nuclei, stain, tumour
from her2path.cells._limits import COS, SIN
from her2path.geometry import Box, analysis_factor
from her2path.membrane.columns import unpack
from her2path.membrane.rays import profiles
from her2path.phantom import PhantomSpec, encode_decode, make_phantom
from her2path.phantom.cells import assign_kinds, inside_image, stain_membranes
from her2path.phantom.layout import lay_out
from her2path.schema import OUTLINE_PER_UM
from her2path.settings import Settings

MATCH_UM, EDGE_UM, ASTRAY_UM = 4.0, 12.0, 2.5
TRUTH = {
    "intensity": "t_intensity",
    "completeness": "t_completeness",
    "od_crest": "t_od_crest",
    "width_um": "t_width_um",
}
SIZE_UM = 240.0
#: seeds of drawings that are fitted begin here
FROM = {"drawn": 2_000_000, "rough": 3_000_000, "inner": 4_000_000}
KINDS = ("own", "pure", "other", *FROM, "tissue")
Truth = dict[str, np.ndarray]
#: real nuclei that get a membrane: likely tumour, or large (µm²) and not long
LIKELY, LARGE_UM2, LONGEST = 0.3, 28.0, 2.2
LAYOUTS = ("homogeneous", "mosaic", "clustered", "scattered")


def draw_spec(number: int) -> PhantomSpec:
    """Return one small slide of a random protocol and mixture."""
    rng = np.random.default_rng([number, 99])
    fixed: dict[str, Any] = {}
    layout = str(rng.choice(LAYOUTS, p=(0.45, 0.3, 0.15, 0.1)))
    if number % 3:  # else what tumours show, see `presets.TUMOURS`
        fixed["mixture"] = draw_mixture(rng)
        if layout != "homogeneous":
            other = draw_mixture(rng)
            fixed["second"] = {"none": 1.0} if rng.random() < 0.15 else other
            if layout == "scattered" or rng.random() < 0.3:
                fixed["mixture"] = {"none": 1.0}
    if number % 6 == 5:  # chroma at half of 0.5 µm/px paints nuclear edges brown
        layout = "homogeneous"
        fixed = {"mixture": {"none": 1.0}}
        if number % 12 == 5:
            fixed |= {"mpp": float(rng.choice([0.46, 0.5])), "subsampling": "4:2:0"}
    if layout == "homogeneous":
        fixed["second"] = {}
    return _small(7000 + number, layout, fixed, rng)


def draw_clones(number: int) -> PhantomSpec:
    """Return one small slide whose intense cells are complete throughout: alone or in clones.

    Where every line is shared by two such cells, none shows what a lone line looks like.
    """
    rng = np.random.default_rng([number, 171])
    layout = str(rng.choice(LAYOUTS, p=(0.4, 0.25, 0.2, 0.15)))
    dark = {"intense_complete": float(rng.choice([1.0, 0.97, 0.9]))}
    if dark["intense_complete"] < 1:
        dark[str(rng.choice(["none", "moderate_complete", "intense_incomplete"]))] = (
            1 - dark["intense_complete"]
        )
    rest = draw_mixture(rng)
    rest = {k: v for k, v in rest.items() if not k.startswith("intense")} or {"none": 1.0}
    if layout == "homogeneous":
        fixed: dict[str, Any] = {"mixture": dark, "second": {}}
    else:
        fixed = {"mixture": rest, "second": dark}
    return _small(30_000 + number, layout, fixed, rng)


def _small(seed: int, layout: str, fixed: dict[str, Any], rng: np.random.Generator) -> PhantomSpec:
    return PhantomSpec.random(
        seed,
        layout=layout,
        width_um=SIZE_UM,
        height_um=SIZE_UM,
        margin_um=8.0,
        tumour_share=0.85,
        lymphocytes=0.2,
        stroma_cells=0.3,
        strength=float(np.exp(rng.normal(0, 0.2))),
        jpeg_quality=int(rng.integers(60, 93)),
        knife_edge=bool(rng.random() < 0.3),
        **fixed,
    )


def draw_own(spec: PhantomSpec) -> Drawn:
    """Return a phantom of this program."""
    phantom = make_phantom(spec)
    rgb = encode_decode(phantom.rgb, spec.jpeg_quality, spec.subsampling)
    truth = {c: np.array(phantom.truth[c].to_pylist()) for c in phantom.truth.column_names}
    _, bodies = lay_out(spec)
    painted = stain_membranes(spec, bodies, assign_kinds(spec, bodies).pattern)
    # the truth lists the tumour cells inside the image first
    rows = np.flatnonzero(inside_image(spec, bodies.centre))

    def own(which: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        out = np.full(x.shape, -1.0)
        for place, cell in enumerate(which):
            if cell >= rows.size:
                out[place] = 0.0
                continue
            a, b = bodies.start[rows[cell]], bodies.start[rows[cell] + 1]
            far = np.hypot(x[place][:, None] - bodies.x[a:b], y[place][:, None] - bodies.y[a:b])
            nearest = far.argmin(1)
            near = far[np.arange(far.shape[0]), nearest] <= ASTRAY_UM
            out[place] = np.where(near, painted.od[a:b][nearest], -1.0)
        return out

    return Drawn(rgb, spec.mpp, truth, own)


def draw_outlined(number: int, kind: str) -> Drawn:
    """Return a drawing of `drawn_phantoms.py`: outlines, often with gaps between the cells."""
    rng = np.random.default_rng([number, 777])
    style = DRAWN_STYLES[number % len(DRAWN_STYLES)]
    unstained = number % 8 != 0 and number % 3 != 0 if kind == "rough" else number % 8 == 7
    mixture = {"none": 1.0} if unstained else draw_mixture(rng)
    painted = paint(FROM[kind] + number, style, mixture, SIZE_UM, kind == "rough", kind == "inner")
    nucleus = np.where(painted.nuclei[:, 2:] > 0, painted.nuclei[:, :2], painted.cells.at)
    return _outlined(painted, nucleus, painted.nuclei[:, 2], painted.others, painted.kinds)


def _outlined(
    painted: Painted | Tissue, nucleus: np.ndarray, radius: np.ndarray, others: np.ndarray,
    kinds: list[str],
) -> Drawn:  # fmt: skip
    """Return painted outlines with their truth; nuclei (n, 2) and (n,), radius 0 where missed."""
    cells = painted.cells
    on = cells.od > 0
    out = (cells.at < EDGE_UM).any(1) | (cells.at > SIZE_UM - EDGE_UM).any(1)
    truth = {
        "x_um": nucleus[:, 0], "y_um": nucleus[:, 1],
        "cell_type": np.full(len(out), "tumour"),
        "has_nucleus": radius > 0, "nucleus_radius_um": radius,
        "touches_edge": out, "intensity": (cells.code + 1) // 2,
        "completeness": (cells.reach * on).sum(1) / cells.reach.sum(1),
        "od_crest": cells.od.sum(1) / np.maximum(on.sum(1), 1),
        "width_um": np.where(cells.code > 0, cells.width, 0.0),
    }  # fmt: skip
    return Drawn(painted.rgb, painted.mpp, _with_others(truth, others, kinds), _own_of(cells))


def _with_others(truth: Truth, others: np.ndarray, kinds: list[str]) -> Truth:
    """Return the truth with cells added that are no tumour cells."""
    n = len(others)
    more = {
        "x_um": others[:, 0], "y_um": others[:, 1],
        "cell_type": np.array(kinds, dtype="U10"),
        "has_nucleus": np.ones(n, bool), "nucleus_radius_um": np.full(n, 3.0),
    }  # fmt: skip
    return {k: np.concatenate([v, more.get(k, np.zeros(n, v.dtype))]) for k, v in truth.items()}


def _own_of(cells: Cells) -> Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]:
    """Return what tells the own OD at places; see `Drawn`."""

    def own(which: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        known = which < len(cells.at)
        k = np.where(known, which, 0)
        dx, dy = x - cells.at[k, :1], y - cells.at[k, 1:]
        place = np.rint(np.arctan2(dy, dx) / (2 * np.pi) * ANGLES).astype(int) % ANGLES
        near = abs(np.hypot(dx, dy) - cells.reach[k[:, None], place]) <= ASTRAY_UM
        return np.where(known[:, None], np.where(near, cells.od[k[:, None], place], -1.0), 0.0)

    return own


def draw_tissue(number: int) -> Drawn:
    """Return membranes on real tissue, see `tissue_phantoms.py`."""
    folder = Path(os.environ["HER2PATH_REAL_DATA"])
    tissue = tissue_phantoms.paint(folder, number, SIZE_UM, _bare_nuclei)
    kinds = ["other"] * len(tissue.others)
    return _outlined(tissue, tissue.cells.at, tissue.radius, tissue.others, kinds)


def _bare_nuclei(rgb: np.ndarray, mpp: float) -> tuple[np.ndarray, ...]:
    whole = Drawn(rgb, mpp, {}, lambda *_: np.zeros(0))
    raw = analysis.to_columns(find(*look(whole)))
    um = mpp * analysis_factor(mpp)
    x, y = ((raw[c] / analysis.FIXED + 0.5) * um for c in ("x_fx", "y_fx"))
    likely = tumour.classify(raw | {"x_um": x, "y_um": y}, np.ones(x.size, bool), Settings().tumour)
    area = raw["nucleus_area_um2"]
    large = (area >= LARGE_UM2) & (raw["nucleus_elongation"] <= LONGEST)
    return x, y, area, large | (likely >= LIKELY)


def look(drawn: Drawn) -> tuple[np.ndarray, analysis.Optics]:
    """Return the slide's pixels in whole map cells, and its estimated optics."""
    factor = analysis_factor(drawn.mpp)
    step = factor * analysis.MAP_PX
    rgb = drawn.rgb[: drawn.rgb.shape[0] // step * step, : drawn.rgb.shape[1] // step * step]
    rgb = np.ascontiguousarray(rgb)
    model = stain.estimate([rgb], drawn.mpp, Settings().stain)
    return rgb, analysis.Optics(drawn.mpp, factor, model)


def find(rgb: np.ndarray, optics: analysis.Optics) -> Any:
    """Return the raw cells that the program itself finds on a slide, as a table."""
    base = Settings()
    planes = stain.reduce_unmix(rgb, optics.factor, optics.stain)
    contrast = nuclei.typical_contrast([planes], optics.mpp_a, base.nuclei)
    own = base.model_copy(
        update={"nuclei": base.nuclei.model_copy(update={"contrast_od": contrast})}
    )
    box = Box(0, 0, rgb.shape[1], rgb.shape[0])
    return analysis.measure(rgb, box, box, optics, own).raw


def measure(drawn: Drawn) -> list[dict[str, Any]]:
    """Return raw tables with truth: found nuclei, and true nuclei."""
    rgb, optics = look(drawn)
    found = analysis.to_columns(find(rgb, optics))
    at = (np.column_stack([found["x_fx"], found["y_fx"]]) / 16 + 0.5) * optics.mpp_a
    found["profiles"] = _profiles(rgb, optics, found, found["outline"] / OUTLINE_PER_UM)
    real, rows = _true_nuclei(drawn.truth, rgb, optics)
    return [
        _with_truth(found, match(at, drawn.truth), drawn, rgb.shape, optics),
        _with_truth(real, rows, drawn, rgb.shape, optics),
    ]


def _profiles(rgb: Any, optics: analysis.Optics, raw: dict[str, Any], radius_um: Any) -> Any:
    x, y = (raw[n] / analysis.FIXED for n in ("x_fx", "y_fx"))
    radii = (radius_um / optics.mpp_a).astype(np.float32)
    # where the nuclei end does not matter to the profiles
    nuclei = SimpleNamespace(x=x, y=y, radii=radii)
    luts = np.stack(optics.stain.tables())
    seen = profiles(rgb, luts, optics.factor, optics.mpp, nuclei, radii)
    return np.clip(np.rint(seen / PROFILE_OD), -32768, 32767).astype(np.int16)


def _true_nuclei(
    truth: dict[str, Any], rgb: Any, optics: analysis.Optics
) -> tuple[dict[str, Any], Any]:
    h, d = stain.reduce_unmix(rgb, optics.factor, optics.stain)
    um, base = optics.mpp_a, Settings()
    inside = (truth["x_um"] > 1) & (truth["x_um"] < rgb.shape[1] * optics.mpp - 1)
    inside &= (truth["y_um"] > 1) & (truth["y_um"] < rgb.shape[0] * optics.mpp - 1)
    rows = np.flatnonzero(truth["has_nucleus"] & inside)
    x, y = (np.round((truth[c][rows] / um - 0.5) * 16) / 16 for c in ("x_um", "y_um"))
    radii = np.repeat((truth["nucleus_radius_um"][rows] / um)[:, None], 48, 1)
    contours = SimpleNamespace(
        x=x.astype(np.float32), y=y.astype(np.float32), radii=radii.astype(np.float32)
    )
    borders = cells.grow_cells(contours, d, h, um, base.cells)
    tables = np.stack(optics.stain.tables())
    raw: dict[str, Any] = membrane.measure_rays(
        rgb, tables, optics.factor, optics.mpp, contours, borders, base.membrane
    )
    raw["x_fx"], raw["y_fx"] = (np.round(v * 16).astype(np.int64) for v in (x, y))
    raw["cell_id"] = raw["y_fx"] * analysis.ID_STRIDE + raw["x_fx"]
    raw["profiles"] = _profiles(rgb, optics, raw, borders.radii * um)
    return raw, rows


def match(at: Any, truth: dict[str, Any]) -> Any:
    """Return the truth row of each found nucleus, nearest pairs first; -1 without one."""
    there = np.column_stack([truth["x_um"], truth["y_um"]])
    near = cKDTree(there).query_ball_point(at, MATCH_UM)
    pairs = sorted(
        (float(np.hypot(*(at[i] - there[j]))), i, j) for i, js in enumerate(near) for j in js
    )
    rows, taken = np.full(len(at), -1), set()
    for _, i, j in pairs:
        if rows[i] < 0 and j not in taken:
            rows[i] = j
            taken.add(j)
    return rows


def _with_truth(raw: Any, rows: Any, drawn: Drawn, shape: Any, optics: analysis.Optics) -> Any:
    truth = drawn.truth
    x, y = truth["x_um"], truth["y_um"]
    sound = (truth["cell_type"] == "tumour") & truth["has_nucleus"] & ~truth["touches_edge"]
    sound &= (x > EDGE_UM) & (x < shape[1] * optics.mpp - EDGE_UM)
    sound &= (y > EDGE_UM) & (y < shape[0] * optics.mpp - EDGE_UM)
    order = np.argsort(raw["cell_id"], kind="stable")
    out = {k: v[order] for k, v in raw.items()}
    rows = rows[order]
    out |= {name: np.where(rows >= 0, truth[c][rows], 0) for c, name in TRUTH.items()}
    out["use"] = (rows >= 0) & sound[rows]
    out["stroma"] = (rows >= 0) & (truth["cell_type"] != "tumour")[rows]
    out["mpp_a"] = optics.mpp_a
    out["t_row"] = rows
    ray = np.full(out["line_r"].shape, -1.0)
    some = np.flatnonzero(rows >= 0)
    ray[some] = drawn.own(rows[some], *_places(out, some, optics.mpp_a))
    return out | {"t_ray": ray.astype(np.float32)}


def _places(raw: Any, which: Any, um: float) -> tuple[Any, Any]:
    """Return where the rays end, (n, 48) µm."""
    r = unpack("line_r", raw["line_r"][which])
    x, y = ((raw[n][which] / 16 + 0.5) * um for n in ("x_fx", "y_fx"))
    return x[:, None] + r * COS, y[:, None] + r * SIN


def draw(kind: str, number: int) -> Drawn:
    """Return slide `number` of one of the `KINDS`."""
    if kind == "own":
        return draw_own(draw_spec(number))
    if kind == "pure":
        return draw_own(draw_clones(number))
    if kind == "other":
        return draw_other(number, SIZE_UM)
    if kind == "tissue":
        return draw_tissue(number)
    return draw_outlined(number, kind)


def tables(kind: str, number: int, folder: Path) -> list[dict[str, Any]]:
    """Return both tables of a slide, measured once and kept in `folder`; of nests the one."""
    if kind == "nest":
        return [draw_nests(number)] * 2
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / f"{kind}_{number:05d}_{how}.npz" for how in ("found", "true")]
    if not files[1].exists():
        for file, table in zip(files, measure(draw(kind, number)), strict=True):
            keep = {k: v for k, v in table.items() if k != "outline"}
            np.savez_compressed(file, **keep)
    return [dict(np.load(f)) for f in files]


def main() -> None:
    """Draw and measure slides."""
    ask = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    ask.add_argument("--kind", choices=KINDS, required=True)
    ask.add_argument("--numbers", type=int, nargs=2, required=True)
    ask.add_argument("-o", "--out", type=Path, required=True)
    args = ask.parse_args()
    for number in range(*args.numbers):
        tables(args.kind, number, args.out)
        print(number, flush=True)


if __name__ == "__main__":
    main()

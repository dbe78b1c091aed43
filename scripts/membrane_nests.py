"""Hand-made tables of hexagonal nests: readings that are exact but for noise, owners known.

No pixels: rings of regular cells whose own masses add up on the lines they share. They teach the
plain cases (a negative among six intense cells, a lone ring, nothing at all) beside the drawn
slides, which hold few of them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from membrane_phantoms import draw_mixture
from scipy.spatial import cKDTree

from her2path.analysis import ID_STRIDE
from her2path.membrane._lines import LOOK_STEP_UM
from her2path.membrane._looks import MIDDLE
from her2path.membrane._network import LOOK_TAPS
from her2path.membrane.columns import pack

RAYS, SIDE = 48, 8
TURN = np.arange(RAYS) * (2 * np.pi / RAYS)
MPP_A, NESTS, APART_UM = 0.5, 8, 400.0
LEVELS = ((0.0, 0.0), (0.06, 0.22), (0.28, 0.6), (1.0, 3.0))
#: what one count of a kept profile is worth, OD
PROFILE_OD = 1e-3
SPECIAL = ("none", "ring of intense", "one intense", "all intense", "alone")


def draw_nests(number: int) -> dict[str, Any]:
    """Return the raw table of some nests, far apart, with truth as `membrane_slides.measure`."""
    rng = np.random.default_rng([number, 77])
    parts = [_nest(rng) for _ in range(NESTS)]
    for place, part in enumerate(parts):
        part["x_fx"] += round(place * APART_UM * 16 / MPP_A)
    table = {n: np.concatenate([p[n] for p in parts]) for n in parts[0]}
    table["cell_id"] = table["y_fx"] * ID_STRIDE + table["x_fx"]
    order = np.argsort(table["cell_id"], kind="stable")
    return {n: v[order] for n, v in table.items()} | {"mpp_a": MPP_A}


def _nest(rng: np.random.Generator) -> dict[str, Any]:
    apothem = rng.uniform(4.5, 11.0)
    centres = _centres(int(rng.choice([0, 1, 1, 2, 3, 4])), apothem)
    centres += rng.normal(0, rng.choice([0.0, 0.3]), centres.shape)
    intensity, whole = _patterns(rng, len(centres))
    level = np.array([rng.uniform(*LEVELS[k]) for k in intensity])
    on = _arcs(rng, len(centres), whole) & (intensity > 0)[:, None]
    width = np.array([0.7, 0.7, 1.1, 2.0])[intensity] * np.exp(rng.normal(0, 0.15, len(centres)))
    own = level[:, None] * on * np.exp(rng.uniform(0, 0.35) * rng.normal(size=on.shape))
    table = _table(rng, centres, apothem, own, width)
    return table | {
        "t_intensity": intensity,
        "t_completeness": on.mean(1),
        "t_od_crest": level / (1.0645 * width),
        "t_width_um": np.where(intensity > 0, width, 0),
        "t_ray": np.where(on, level[:, None], 0).astype(np.float32),
        "use": np.ones(len(centres), bool),
        "stroma": np.zeros(len(centres), bool),
    }


def _centres(rings: int, apothem: float) -> np.ndarray:
    span = range(-rings, rings + 1)
    at = [(q, r) for q in span for r in span if abs(q + r) <= rings]
    at.sort(key=lambda c: (max(abs(c[0]), abs(c[1]), abs(c[0] + c[1])), c))
    pitch = 2 * apothem
    return np.array([(pitch * (q + r / 2), pitch * r * np.sqrt(3) / 2) for q, r in at]) + 200.0


def _patterns(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Return intensity and whether the ring is whole; the middle cell comes first."""
    kind = str(rng.choice([*SPECIAL, "mixed"], p=[0.1, 0.2, 0.1, 0.1, 0.1, 0.4]))
    if kind == "mixed":
        mix = draw_mixture(rng)
        weight = np.array(list(mix.values()))
        drawn = rng.choice(list(mix), n, p=weight / weight.sum())
        names = ("none", "faint", "moderate", "intense")
        return (
            np.array([names.index(p.split("_")[0]) for p in drawn]),
            np.array([p.endswith("_complete") for p in drawn]),
        )
    intensity = np.zeros(n, int)
    if kind in ("ring of intense", "all intense"):
        intensity[:] = int(rng.choice([1, 2, 3, 3]))
    if kind == "ring of intense":
        intensity[0] = int(rng.choice([0, 0, 1])) if intensity[0] > 1 else 0
    if kind in ("one intense", "alone"):
        intensity[0] = int(rng.integers(1, 4))
    return intensity, rng.random(n) < rng.choice([0.4, 0.8, 1.0])


def _arcs(rng: np.random.Generator, n: int, whole: np.ndarray) -> np.ndarray:
    """Return where rings are stained: an arc each, or two."""
    share = np.where(whole, rng.choice([1.0, 0.9], n), rng.uniform(0.22, 0.75, n))
    waves = rng.choice([1, 2], n)
    phase = rng.uniform(0, 1, n)
    along = (waves[:, None] * (np.arange(RAYS) / RAYS)[None] + phase[:, None]) % 1.0
    return along < share[:, None]


def _table(
    rng: np.random.Generator, centres: np.ndarray, apothem: float, own: np.ndarray, width: Any
) -> dict[str, Any]:
    n = len(centres)
    radius = np.roll(apothem / np.cos((TURN % (np.pi / 3)) - np.pi / 6), -SIDE // 2)
    mass, wide = own.copy(), np.where(own > 0, width[:, None], 0.8)
    tree = cKDTree(centres)
    for i in range(n):
        for s in range(RAYS // SIDE):
            side = np.array([np.cos(s * np.pi / 3), np.sin(s * np.pi / 3)])
            for j in tree.query_ball_point(centres[i] + 2 * apothem * side, 2.0):
                there = (SIDE * s + np.arange(-4, 4)) % RAYS
                back = (SIDE * s + RAYS // 2 - np.arange(-4, 4)) % RAYS
                mass[i, there] += own[j, back]
                wide[i, there] = np.maximum(wide[i, there], np.where(own[j, back] > 0, width[j], 0))
    noise = float(np.exp(rng.uniform(np.log(0.004), np.log(0.09))))
    read = mass + rng.choice([0.0, 0.4, 0.9]) * noise * rng.normal(size=mass.shape)
    # texture reads as a little mass all round
    read += rng.choice([0.0, 1.0]) * rng.uniform(0, 1.3, (n, 1)) * noise
    seen = (read > 2.5 * noise) | (rng.random() < 0.5)
    full = np.ones((n, RAYS), np.float32)
    at = np.rint(centres * 16 / MPP_A).astype(np.int64)
    columns = {
        "line_r": radius * full,
        "line_mass": read,
        "line_crest": np.maximum(read, 0) * rng.uniform(0.5, 0.9) / wide ** rng.uniform(0, 0.8),
        "line_width": np.sqrt(wide**2 + rng.uniform(0.3, 1.2) ** 2),
        "line_ridge": rng.uniform(0.6, 1.0, (n, 1)) * full,
        "line_edge": np.clip(rng.uniform(0.8, 2.5, (n, 1)) * full, 0, 2.5),
    }
    cytoplasm = rng.uniform(0, 0.08)
    packed = {k: pack(k, v.astype(np.float32)) for k, v in columns.items()}
    return packed | {
        "profiles": _profiles(rng, columns, noise, cytoplasm),
        "line_kind": np.where(seen, 1, rng.choice([0, 2])).astype(np.uint8)
        * np.ones((n, RAYS), np.uint8),
        "cytoplasm_od": np.full(n, cytoplasm, np.float32),
        "line_noise": np.full(n, noise, np.float32),
        "line_mpp": np.full(n, rng.choice([0.25, 0.25, 0.5]), np.float32),
        "x_fx": at[:, 0],
        "y_fx": at[:, 1],
    }


def _profiles(
    rng: np.random.Generator, columns: dict[str, np.ndarray], noise: float, cytoplasm: float
) -> np.ndarray:
    """Return both stains across the border: one line each, nuclei inside and mostly outside."""
    mass, width, edge = (
        columns[name][:, ::2, None] for name in ("line_mass", "line_width", "line_edge")
    )
    n, places = mass.shape[:2]
    t = (np.arange(LOOK_TAPS) - MIDDLE) * LOOK_STEP_UM
    sigma = width / 2.355
    shape = np.exp(-0.5 * ((t - rng.normal(0, 0.15, mass.shape)) / sigma) ** 2)
    dab = cytoplasm + mass * shape / (sigma * 2.5066)
    dab = dab + 0.6 * noise * rng.normal(size=dab.shape)
    beyond = np.where(rng.random((n, places, 1)) < 0.7, rng.uniform(1.0, 3.0, (n, 1, 1)), 9.0)
    nuclei = 1 / (1 + np.exp((t + edge) / 0.25)) + 1 / (1 + np.exp((beyond - t) / 0.25))
    hematoxylin = rng.uniform(0, 0.1) + rng.uniform(0.1, 0.6) * nuclei
    hematoxylin = hematoxylin + 0.01 * rng.normal(size=hematoxylin.shape)
    # dark brown saturates, and what it hides is missing in the hematoxylin
    dab, hematoxylin = 1.6 * np.tanh(dab / 1.6), hematoxylin - rng.uniform(0, 0.2) * dab
    counts = np.stack([hematoxylin, dab], axis=1) / PROFILE_OD
    return np.clip(np.rint(counts), -32768, 32767).astype(np.int16)

"""Ready specifications: random, control slides of a protocol, the demo."""

from __future__ import annotations

from typing import Any

import numpy as np

from her2path.io.annotations import control_of
from her2path.phantom.spec import Layout, PhantomSpec, Triple

CONTROLS: dict[str, dict[str, float]] = {
    "negative": {"none": 1.0},
    "faint": {"faint_incomplete": 0.5, "faint_complete": 0.5},
    "moderate": {"moderate_incomplete": 0.3, "moderate_complete": 0.7},
    "intense": {"intense_incomplete": 0.15, "intense_complete": 0.85},
}
"""Mixtures of the control slides: one intensity class each."""

TUMOURS: dict[str, dict[str, float]] = {
    "unstained": {"none": 1.0},
    "ultralow": {"none": 0.94, "faint_incomplete": 0.06},
    "1+": {
        "none": 0.45, "faint_incomplete": 0.42,
        "faint_complete": 0.08, "moderate_incomplete": 0.05,
    },
    "2+": {
        "none": 0.12, "faint_incomplete": 0.2, "faint_complete": 0.1,
        "moderate_incomplete": 0.18, "moderate_complete": 0.36, "intense_complete": 0.04,
    },
    "3+": {
        "none": 0.03, "moderate_incomplete": 0.04, "moderate_complete": 0.13,
        "intense_incomplete": 0.12, "intense_complete": 0.68,
    },
}  # fmt: skip
"""Mixtures that are met in tumours of each score."""

#: own OD below which a calibrator's line is as wide as a faint one's, or a moderate one's
FAINT_TO, MODERATE_TO = 0.0875, 0.255

_RUIFROK = (np.array([0.65, 0.70, 0.29]), np.array([0.27, 0.57, 0.78]))
_SCANNER = (np.array([0.66, 0.63, 0.41]), np.array([0.33, 0.55, 0.77]))


def random_spec(seed: int, **fixed: Any) -> PhantomSpec:
    """Draw a specification within what real stainers and scanners show.

    Parameters
    ----------
    seed : int
    **fixed
        Fields that keep the value given.

    Raises
    ------
    pydantic.ValidationError
        Where a fixed field is unknown or does not fit.
    """
    rng = np.random.default_rng([seed, 17])
    drawn = {"seed": seed, **_scanner(rng), **_hardness(rng), **_population(rng, fixed)}
    size = min(float(fixed.get("width_um", 500)), float(fixed.get("height_um", 500)))
    drawn["margin_um"] = min(drawn["margin_um"], 0.12 * size)
    return PhantomSpec(**{**drawn, **fixed})


def _vector(rng: np.random.Generator, ends: tuple[Any, Any]) -> Triple:
    """A stain vector between two known ones, tilted by about a degree."""
    share = rng.uniform(0, 1)
    vector = (1 - share) * ends[0] + share * ends[1] + rng.normal(0, 0.012, 3)
    vector = vector / np.linalg.norm(vector)
    return (float(vector[0]), float(vector[1]), float(vector[2]))


def _scanner(rng: np.random.Generator) -> dict[str, Any]:
    """Stains, white point, optics, camera, file."""
    # one scanner in six is soft and grey, or clips its glass
    poor = rng.random() < 0.18
    level = rng.uniform(168, 255) if poor else rng.uniform(228, 247)
    white = np.clip(level + rng.normal(0, 2.2, 3), 160, 255)
    mpp = float(rng.choice([0.2, 0.22, 0.23, 0.25, 0.25, 0.2528, 0.27, 0.46, 0.5]))
    return {
        "hematoxylin": _vector(rng, (_RUIFROK[0], _SCANNER[0])),
        "dab": _vector(rng, (_RUIFROK[1], _SCANNER[1])),
        "white": tuple(float(w) for w in white),
        "strength": float(np.exp(rng.normal(0.05, 0.30))),
        "nucleus_od": float(np.clip(0.30 * np.exp(rng.normal(0, 0.30)), 0.15, 0.62)),
        "cytoplasm_h": float(rng.uniform(0.05, 0.14)),
        "blur_um": float(rng.uniform(0.3, 0.6) if poor else rng.uniform(0.14, 0.38)),
        "sharpen": float(rng.choice([0.0, rng.uniform(0.1, 0.5)])),
        "noise": float(rng.uniform(0.5, 2.5)),
        "mpp": mpp,
        "jpeg_quality": int(rng.choice([40, 50, 60] if poor else [70, 75, 80, 85, 90])),
        "subsampling": str(rng.choice(["4:2:0", "4:2:0", "4:2:2", "4:4:4"])),
    }


def _hardness(rng: np.random.Generator) -> dict[str, Any]:
    """How far from a tidy drawing the tissue is."""
    return {
        "margin_um": float(rng.uniform(12, 60)),
        "cell_um": float(rng.uniform(10.5, 15.0)),
        "crowding": float(rng.uniform(0.1, 0.8)),
        "irregularity": float(rng.uniform(0.3, 1.0)),
        "columnar_share": float(rng.choice([0.0, rng.uniform(0.05, 0.5)])),
        "vesicular_share": float(rng.uniform(0.1, 0.8)),
        "missing_nucleus_share": float(rng.uniform(0.02, 0.16)),
        "overlap": float(rng.uniform(0.0, 0.3)),
        "gap_share": float(rng.uniform(0.0, 0.3)),
        "blush": float(min(rng.gamma(1.2, 0.030), 0.25)),
        "nuclear_dab": float(rng.gamma(1.2, 0.010)),
        "background_dab": float(rng.uniform(0, 0.012)),
        "granularity": float(rng.uniform(0.2, 0.9)),
        "broken": float(rng.uniform(0.1, 0.7)),
        "tangential": float(rng.uniform(0.1, 0.6)),
        "precipitate": float(rng.choice([0.0, rng.uniform(0, 0.4)])),
        "tumour_share": float(rng.uniform(0.4, 0.8)),
        "nest_um": float(rng.uniform(80, 260)),
        "lumens": float(rng.uniform(0, 0.5)),
        "lymphocytes": float(rng.uniform(0.1, 0.9)),
        "stroma_cells": float(rng.uniform(0.2, 0.9)),
        "red_cells": float(rng.uniform(0, 0.7)),
        "refractile": float(rng.uniform(0, 0.7)),
    }


def _population(rng: np.random.Generator, fixed: dict[str, Any]) -> dict[str, Any]:
    """Layout and mixtures; a fixed layout is met."""
    layouts: tuple[Layout, ...] = ("homogeneous", "clustered", "mosaic", "scattered")
    layout = fixed.get("layout", layouts[int(rng.choice(4, p=(0.35, 0.25, 0.25, 0.15)))])
    names = list(TUMOURS)
    main, other = rng.permutation(len(names))[:2]
    share = {
        "homogeneous": 0.0,
        "clustered": rng.uniform(0.12, 0.6),
        "mosaic": rng.uniform(0.15, 0.6),
        "scattered": rng.uniform(0.02, 0.10),
    }.get(layout, 0.0)
    return {
        "layout": layout,
        "mixture": TUMOURS[names[int(main)]],
        "second": {} if layout == "homogeneous" else TUMOURS[names[int(other)]],
        "second_fraction": float(share),
        "clone_um": float(rng.uniform(80, 350)),
        "clones_by_nest": bool(rng.random() < 0.3),
    }


def control_specs(spec: PhantomSpec, size_um: float = 360.0) -> dict[str, PhantomSpec]:
    """Return control slides of the same stainer and scanner, one class each.

    They share stains, strength, optics, camera and file settings with `spec`;
    layout, mixture and seed are their own, artefacts are left out.
    """
    own = spec.model_dump()
    controls = {}
    for number, (name, mixture) in enumerate(CONTROLS.items(), start=1):
        change: dict[str, Any] = {
            "seed": spec.seed + 100_003 * number,
            "width_um": size_um,
            "height_um": size_um,
            "margin_um": min(spec.margin_um, 0.1 * size_um),
            "layout": "homogeneous",
            "mixture": mixture,
            "second": {},
            "second_fraction": 0.0,
            "tumour_share": max(spec.tumour_share, 0.6),
            **dict.fromkeys(("folds", "out_of_focus", "pen", "dust"), 0),
        }
        controls[name] = PhantomSpec(**{**own, **change})
    return controls


#: which of `CONTROLS` a level is drawn as
LEVELS = {"0": "negative", "1+": "faint", "2+": "moderate", "3+": "intense"}
#: cells of a calibrator hold its number of receptors, give or take this share
CALIBRATOR_SPREAD = 0.15


def control_spec(spec: PhantomSpec, word: str, number: int) -> PhantomSpec:
    """Return the specification of one control area on the slide of `spec`.

    A level is drawn as the control slide of its class; a calibrator of so many receptors as cells
    whose own line is as dark as `receptors_per_od` says at the slide's strength, complete nearly
    all of them, as in a pellet of a cell line.
    """
    stated = control_of(f"control {word}")
    if stated is None:
        raise ValueError(f"{word!r} is no control")
    change: dict[str, Any] = {"mixture": CONTROLS[LEVELS[word]]} if stated.receptors is None else {}
    if stated.receptors is not None:
        od = stated.receptors / spec.receptors_per_od
        name = "faint" if od < FAINT_TO else "moderate" if od < MODERATE_TO else "intense"
        ends = (od * (1 - CALIBRATOR_SPREAD), od * (1 + CALIBRATOR_SPREAD))
        change = {"mixture": {f"{name}_complete": 1.0}, f"od_{name}": ends}
    side = spec.control_um
    return PhantomSpec(**{
        **spec.model_dump(), "controls": (), "seed": spec.seed + 200_003 * (number + 1),
        "width_um": side, "height_um": side, "margin_um": min(spec.margin_um, 0.06 * side),
        "layout": "homogeneous", "second": {}, "second_fraction": 0.0, "tumour_share": 0.8,
        **dict.fromkeys(("folds", "out_of_focus", "pen", "dust"), 0), **change,
    })  # fmt: skip


def demo_spec() -> PhantomSpec:
    """Return a heterogeneous tumour of 1.8 x 1.4 mm: an intense clone in a 1+ / 2+ one."""
    return PhantomSpec(
        seed=21,
        width_um=1792.0,
        height_um=1408.0,
        mpp=0.25,
        margin_um=70.0,
        layout="clustered",
        mixture={
            "none": 0.3, "faint_incomplete": 0.3, "faint_complete": 0.1,
            "moderate_incomplete": 0.12, "moderate_complete": 0.18,
        },
        second={"moderate_complete": 0.1, "intense_incomplete": 0.1, "intense_complete": 0.8},
        # far enough from 10 % that so small a tissue leaves no doubt of 3+
        second_fraction=0.6,
        clone_um=180.0,
        tumour_share=0.58,
        nest_um=230.0,
        hematoxylin=(0.66, 0.63, 0.41),
        dab=(0.30, 0.56, 0.77),
        white=(240.0, 240.0, 243.0),
        strength=0.85,
        nucleus_od=0.26,
        columnar_share=0.1,
        sharpen=0.15,
    )  # fmt: skip

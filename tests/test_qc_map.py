"""The quality map: every artefact by its features, its switch, its limits; and in a whole run."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pytest
import zarr

from her2path.cells import qc
from her2path.cells.qc import slide as whole
from her2path.core.errors import NotEvaluable
from her2path.core.settings import QcSettings, Settings
from her2path.io.store import RunStore
from her2path.phantom import PhantomSpec, make_phantom, random_spec
from her2path.phantom.artefacts import ARTEFACTS
from her2path.phantom.write import write_slide
from her2path.runs.case import RunOptions, score_slide

SIDE = 40
Maps = dict[str, np.ndarray]
#: features of sharp tumour on the cores (docs/qc.md)
TUMOUR = {
    "hematoxylin": 0.06, "dab": 0.03, "residual": 0.0, "focus": 0.6, "contrast": 2500.0,
    "floor": 0.02, "dab_floor": 0.0, "nuclear": 0.15, "glass": 0.1, "grey": 0.0, "blue": 0.0,
    "dark": 0.0, "bright": 0.0, "blocks": 1.05, "nuclei": 2.0, "epithelium": 1.0,
}  # fmt: skip
PATCH = np.s_[12:26, 12:26]


def tumour() -> Maps:
    return {n: np.full((SIDE, SIDE), v, np.float32) for n, v in TUMOUR.items()}


def codes(
    maps: Maps, settings: QcSettings | None = None, pen: np.ndarray | None = None
) -> np.ndarray:
    tissue = np.ones((SIDE, SIDE), bool)
    pen = np.zeros_like(tissue) if pen is None else pen
    return qc.classify(qc.Field(maps, tissue, pen), settings or QcSettings())


def has(made: np.ndarray, name: str) -> np.ndarray:
    return (made & qc.CODES[name].value) > 0


def patch(**features: float) -> Callable[[Maps], None]:
    def change(maps: Maps) -> None:
        for name, value in features.items():
            maps[name][PATCH] = value

    return change


def bubble(maps: Maps) -> None:
    patch(focus=0.05, contrast=800.0)(maps)
    rim = np.ones((14, 14), bool)
    rim[1:-1, 1:-1] = False
    maps["grey"][PATCH][rim] = 0.1


def crack(maps: Maps) -> None:
    maps["glass"][10:30, 20] = 0.98


ARTEFACT: dict[str, Callable[[Maps], None]] = {
    "blurry": patch(focus=0.05, contrast=1500.0),
    "bubbles": bubble,
    "folds": patch(hematoxylin=0.14, floor=0.09, nuclear=0.33, contrast=2500.0, focus=0.5),
    "dust": patch(hematoxylin=0.18, dab=0.08, floor=0.18, dab_floor=0.05, contrast=1500.0),
    "edges": crack,
    "necrosis": patch(nuclei=0.0, epithelium=0.0, hematoxylin=0.025, dab=0.018, nuclear=0.1),
    "background": patch(dab=0.25, dab_floor=0.2),
    "saturation": patch(bright=0.5),
    "compression": patch(blocks=3.0),
    "pale": patch(hematoxylin=0.015, nuclear=0.04),
}


def test_clean_tumour_has_no_code() -> None:
    assert not codes(tumour()).any()


@pytest.mark.parametrize("name", ARTEFACT)
def test_an_artefact_is_coded_where_it_is(name: str) -> None:
    maps = tumour()
    ARTEFACT[name](maps)
    found = has(codes(maps), name)
    if name == "edges":
        assert found[12:28, 20].all()
        assert not found[:, :17].any()
        return
    assert found[PATCH].mean() > 0.95
    beyond = found.copy()
    beyond[10:28, 10:28] = False
    assert not beyond.any()


def test_precipitate_is_coded_and_brown_glands_are_not() -> None:
    maps = tumour()
    maps["dab"][:] = 0.0
    maps["blue"][20, 20], maps["dab"][20, 20] = 0.3, -0.02
    assert has(codes(maps), "dust")[20, 20]
    maps["dab"][:] = 0.2
    assert not has(codes(maps), "dust").any()


def test_lymphocytes_are_no_precipitate() -> None:
    maps = tumour()
    patch(blue=0.11, dab=0.0, nuclear=0.22, hematoxylin=0.08)(maps)
    assert not has(codes(maps), "dust").any()
    patch(dab=-0.012)(maps)
    assert has(codes(maps), "dust")[PATCH].all()


def test_bare_stroma_stays_in_and_debris_beside_tumour_goes() -> None:
    maps = tumour()
    patch(nuclei=0.0, epithelium=0.0, hematoxylin=0.035, dab=0.006, nuclear=0.1)(maps)
    assert not (codes(maps) & qc.left_out_bits(QcSettings())).any()
    patch(dab=0.02)(maps)
    made = has(codes(maps), "necrosis")
    assert made[PATCH].all()
    # finds on debris are mistakes where none of them is surely tumour
    patch(nuclei=1.5, focus=0.72)(maps)
    assert has(codes(maps), "necrosis")[14:24, 14:24].all()
    patch(epithelium=1.0)(maps)
    assert not has(codes(maps), "necrosis").any()


def test_even_pale_matter_is_dead_and_pale_tissue_is_not() -> None:
    maps = tumour()
    patch(hematoxylin=0.03, nuclear=0.045)(maps)
    made = codes(maps)
    assert has(made, "necrosis")[PATCH].all()
    assert not has(made, "pale").any()


def fold(maps: Maps, where: tuple[slice, slice], **features: float) -> None:
    """Lay the section double: twice the stain, the detail of one layer."""
    for name, value in {"hematoxylin": 0.12, "floor": 0.07, "focus": 0.4, **features}.items():
        maps[name][where] = value


def test_a_narrow_fold_is_coded_along_its_line() -> None:
    maps = tumour()
    fold(maps, np.s_[5:35, 20:22])
    found = has(codes(maps), "folds")
    assert found[9:31, 20:22].all()
    assert not found[:, :18].any()
    assert not found[:, 24:].any()


@pytest.mark.parametrize(
    ("what", "features"),
    [("brown by its stain", {"dab": 0.2}), ("open between its cells", {"floor": 0.02}),
     ("seen as well as the rest", {"contrast": 12_000.0}), ("no bluer", {"hematoxylin": 0.06})],
)  # fmt: skip
def test_what_is_no_fold(what: str, features: dict[str, float]) -> None:
    del what
    maps = tumour()
    fold(maps, np.s_[5:35, 20:22], **features)
    assert not has(codes(maps), "folds").any()


def test_a_smudge_throws_no_folds() -> None:
    maps = tumour()
    ARTEFACT["dust"](maps)
    assert not has(codes(maps), "folds").any()


def test_pen_comes_from_the_overview() -> None:
    pen = np.zeros((SIDE, SIDE), bool)
    pen[3:6] = True
    assert np.array_equal(has(codes(tumour(), pen=pen), "pen_markings"), pen)


def test_fields_without_epithelium_are_marked_and_stay_in() -> None:
    maps = tumour()
    maps["epithelium"][:, :20] = 0.0
    made = codes(maps)
    assert has(made, "no_epithelium")[:, :12].all()
    assert not has(made, "no_epithelium")[:, 26:].any()
    assert qc.left_out_bits(QcSettings()) & qc.CODES["no_epithelium"].value == 0


@pytest.mark.parametrize("name", [n for n in qc.CODES if n != "no_epithelium"])
def test_each_artefact_can_be_switched_off(name: str) -> None:
    bit = qc.CODES[name].value
    assert qc.left_out_bits(QcSettings()) & bit
    assert not qc.left_out_bits(QcSettings().model_copy(update={name: False})) & bit


@pytest.mark.parametrize(
    ("limit", "value", "name"),
    [("min_sharpness", 0.01, "blurry"), ("max_blocks", 9.0, "compression"),
     ("max_clipped", 0.9, "saturation"), ("max_background_od", 0.5, "background")],
)  # fmt: skip
def test_limits_are_settings(limit: str, value: float, name: str) -> None:
    maps = tumour()
    ARTEFACT[name](maps)
    changes = {limit: value} | ({"min_visibility": 0.0} if name == "blurry" else {})
    assert not has(codes(maps, QcSettings().model_copy(update=changes)), name).any()


def test_strong_dab_is_never_necrosis_nor_fold() -> None:
    maps = tumour()
    patch(nuclei=0.0, dab=0.4, contrast=15000.0)(maps)
    made = codes(maps)
    assert not has(made, "necrosis").any()
    assert not has(made, "folds").any()


def finds(area: float, heat: float, n: int = 1000) -> whole.Finds:
    ones = np.ones(n, np.float32)
    return whole.Finds(area * ones, heat * ones, 0 * ones, 0 * ones)


@pytest.mark.parametrize(
    ("area", "heat", "ratio", "factor"),
    [(15.0, 1.2, 0.6, 1.0), (36.0, 2.0, 0.34, 1.0),  # cores; drawings
     (9.5, 0.7, 0.7, 0.5), (22.0, 0.6, 0.3, 2.0)],
)  # fmt: skip
def test_pixel_size_is_judged_by_the_nuclei(
    area: float, heat: float, ratio: float, factor: float
) -> None:
    assert whole.mpp_factor(finds(area, heat), ratio) == factor
    assert whole.mpp_factor(finds(area, heat, n=20), ratio) == 1.0


def test_softness_rises_as_detail_goes() -> None:
    blur = [whole.blur_um(r) for r in (0.7, 0.5, 0.3, 0.15, 0.05)]
    assert blur == sorted(blur)
    assert whole.soft_flag(0.3, QcSettings()) == []
    assert "36 %" in whole.soft_flag(0.7, QcSettings())[0].message


# -- whole runs ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def blurred(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, np.ndarray]:
    spec = PhantomSpec(seed=5, width_um=420, height_um=420, out_of_focus=1,
                       mixture={"moderate_complete": 1, "none": 1})  # fmt: skip
    made = make_phantom(spec)
    path = tmp_path_factory.mktemp("qc") / "a.svs"
    write_slide(made, path)
    return path, made.covers.masks["out_of_focus"] > 0


def run(path: Path, out: Path, **changes: object) -> RunStore:
    settings = Settings().replace({"score.min_cells": 30, "stream.workers": 1} | changes)
    score_slide(path, out, settings, options=RunOptions(overwrite=True))
    return RunStore(out)


def test_artefacts_are_left_out_alike_for_every_block_size(
    blurred: tuple[Path, np.ndarray], tmp_path: Path
) -> None:
    path, truth = blurred
    one = run(path, tmp_path / "one")
    many = run(path, tmp_path / "many", **{"stream.block_px": 512})
    off = run(path, tmp_path / "off", **{"qc.blurry": False})
    a, b = (s.cells().sort_by("cell_id") for s in (one, many))
    assert a.equals(b)
    assert np.array_equal(one.maps().read("qc"), many.maps().read("qc"))

    maps = one.maps()
    made, um = maps.read("qc"), maps.mpp_um()
    assert made.dtype == np.uint16
    at = (np.arange(truth.shape[0]) * 2.0 / um).astype(int).clip(0, made.shape[0] - 1)
    fine, tissue = made[at][:, at], maps.read("tissue")[at][:, at] > 0
    blurry = has(fine, "blurry")
    assert (blurry & truth & tissue).sum() >= 0.95 * (truth & tissue).sum()

    gone = (made & qc.left_out_bits(Settings().qc)) > 0
    j, i = ((a[n].to_numpy() / um).astype(int).clip(0, gone.shape[0] - 1) for n in ("y_um", "x_um"))
    assert not gone[j, i].any()
    # the cells that stay are measured as if nothing had been left out
    both = off.cells().filter(pc.is_in(off.cells()["cell_id"], value_set=a["cell_id"]))
    both = both.sort_by("cell_id")
    assert both.num_rows == a.num_rows < off.cells().num_rows
    for name in ("membrane_od", "completeness", "score"):
        assert both[name].equals(a[name])

    told = one.result().qc
    assert told.left_out_mm2 > 0
    assert "blurry" in told.artefacts_mm2
    assert told.analysed_area_mm2 < off.result().qc.analysed_area_mm2
    label = zarr.open_group(one.maps_path, mode="r")["labels/qc"].attrs["ome"]["image-label"]
    assert {"label-value": 1, "name": "blurry", "words": "out of focus"} in label["properties"]


def test_every_drawn_artefact_has_a_mask() -> None:
    spec = PhantomSpec(seed=3, width_um=160, height_um=160, **dict.fromkeys(ARTEFACTS, 1))
    masks = make_phantom(spec).covers.masks
    assert set(masks) == set(ARTEFACTS)
    assert all(m.any() for m in masks.values())


DATA = Path(os.environ.get("HER2PATH_REAL_DATA", "/none"))
CORES = sorted((DATA / "her2_tma_cores").glob("*.jpg"))


@pytest.mark.slow
@pytest.mark.parametrize("mpp", [0.125, 0.25, 0.5])
@pytest.mark.parametrize("core", CORES, ids=lambda p: p.name[:6])
def test_a_wrong_pixel_size_is_refused(core: Path, mpp: float, tmp_path: Path) -> None:
    result = score_slide(core, tmp_path / "out", Settings().replace({"slide.mpp": mpp}))
    refused = "MPP_UNLIKELY" in {f.code for f in result.qc.flags}
    assert refused == (mpp != 0.25)
    if refused:
        assert result.status == "not_evaluable"
        assert "0.25" in result.qc.flags[0].message


@pytest.mark.slow
@pytest.mark.parametrize("core", CORES[2:3], ids=lambda p: p.name[:6])
def test_a_wrong_pixel_size_that_is_forced_is_a_warning(core: Path, tmp_path: Path) -> None:
    settings = Settings().replace({"slide.mpp": 0.5, "slide.force_mpp": True})
    result = score_slide(core, tmp_path / "out", settings)
    told = {f.code: f.severity for f in result.qc.flags}
    assert result.status == "complete"
    assert told["MPP_UNLIKELY"] == "warning"


@pytest.mark.slow
def test_large_pale_nuclei_are_no_wrong_pixel_size(tmp_path: Path) -> None:
    # a drawing that an earlier fit of the nets doubted
    spec = random_spec(8407).model_copy(update={"width_um": 350.0, "height_um": 350.0})
    write_slide(make_phantom(spec), tmp_path / "a.svs")
    result = score_slide(tmp_path / "a.svs", tmp_path / "out", Settings())
    assert result.status == "complete"
    assert "MPP_UNLIKELY" not in {f.code for f in result.qc.flags}


def test_a_refusal_names_itself() -> None:
    assert NotEvaluable("x", "y", code="MPP_UNLIKELY").exit_code == 4

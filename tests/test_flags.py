"""Every flag of the catalogue is raised by the program on an input that calls for it."""

from __future__ import annotations

import ast
import json
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import imagecodecs
import numpy as np
import pyarrow as pa
import pytest
import shapely
import tifffile
from PIL import Image, ImageCms
from slide_samples import texture, write_svs

import her2path
from her2path import cnn
from her2path.cells import qc, stain
from her2path.cells.stain.model import unit
from her2path.cells.tissue import find_tissue
from her2path.core.errors import NotEvaluable
from her2path.core.flags import FLAGS
from her2path.core.results import Qc, QcFlag, Result, Score, Sensitivity
from her2path.core.schema import CELL_TYPES
from her2path.core.settings import QcSettings, Settings, StainSettings, TissueSettings
from her2path.io.annotations import Annotations, read_annotations
from her2path.io.annotations.model import Annotation
from her2path.io.corrections import Correction
from her2path.io.slide import SlideRef, open_slide
from her2path.io.slide.jpegtiles import JpegTiles
from her2path.runs.case import by_reader, checks, quality
from her2path.runs.case.drawn import annotation_flags
from her2path.runs.case.outcome import Outcome
from her2path.runs.case.plan import look
from her2path.runs.case.run import RunOptions
from her2path.runs.case.spiking import sensitivity_flags
from her2path.runs.cohort import cases
from her2path.scoring import guidelines
from her2path.scoring.calibration import receptors
from her2path.scoring.calibration.slidewise import calibrate_slide

PIXELS = texture(96, 128)
Codes = Iterable[str]


def of(flags: Iterable[QcFlag]) -> set[str]:
    return {f.code for f in flags}


# -- the slide's file ------------------------------------------------------------------------------


def opened(path: Path, **options: Any) -> set[str]:
    with open_slide(SlideRef(str(path), **{"mpp": 0.25, **options})) as slide:
        return of(slide.info.flags)


def tiff(folder: Path, pixels: np.ndarray = PIXELS, **options: Any) -> Path:
    settings = {"photometric": "rgb", "resolution": (40_000, 40_000),
                "resolutionunit": "CENTIMETER", "metadata": None, **options}  # fmt: skip
    tifffile.imwrite(folder / "a.tif", pixels, **settings)
    return folder / "a.tif"


def stored_as_ycbcr(folder: Path) -> Codes:
    y, x = np.mgrid[:256, :256]
    rgb = np.full((256, 256, 3), 240, np.uint8)
    rgb[(x - 128) ** 2 + (y - 128) ** 2 < 90**2] = (150, 100, 70)
    rgb[(x // 16 + y // 16) % 3 == 0] = (110, 110, 170)
    held = np.array(Image.fromarray(rgb).convert("YCbCr"))
    return opened(tiff(folder, held))


def premultiplied(folder: Path, colour: int) -> Codes:
    rgba = np.dstack([np.full((90, 90, 3), colour, np.uint8), np.full((90, 90), 100, np.uint8)])
    return opened(tiff(folder, rgba, extrasamples=["assocalpha"]))


def transparent(folder: Path) -> Codes:
    rgba = np.dstack([PIXELS, np.full(PIXELS.shape[:2], 90, np.uint8)])
    Image.fromarray(rgba).save(folder / "a.png")
    return opened(folder / "a.png")


def smallest_first(folder: Path) -> Codes:
    with tifffile.TiffWriter(folder / "a.tif") as file:
        for s in (2, 1):
            file.write(np.ascontiguousarray(PIXELS[::s, ::s]), photometric="rgb", tile=(32, 32),
                       metadata=None)  # fmt: skip
    return opened(folder / "a.tif")


def two_pictures(folder: Path) -> Codes:
    im = Image.fromarray(PIXELS)
    im.save(folder / "a.mpo", format="MPO", save_all=True, append_images=[im])
    (folder / "a.mpo").rename(folder / "a.jpg")
    return opened(folder / "a.jpg")


def readers_differ(folder: Path) -> Codes:
    decode = JpegTiles.decode
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(JpegTiles, "decode", lambda s, i, out=None: decode(s, i, out) // 2)
        return opened(write_svs(folder / "a.svs", PIXELS, photometric="rgb"))


def profile(folder: Path) -> Codes:
    icc = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    return opened(tiff(folder, iccprofile=icc))


def sixteen_bit(folder: Path) -> Codes:
    (folder / "a.png").write_bytes(imagecodecs.png_encode(PIXELS.astype(np.uint16) * 257))
    return opened(folder / "a.png")


# -- tissue, stain, focus --------------------------------------------------------------------------


def tissue(change: Callable[[np.ndarray], np.ndarray]) -> Codes:
    rng = np.random.default_rng(4)
    y, x = np.mgrid[:300, :300]
    disc = (x - 150) ** 2 + (y - 150) ** 2 < 100**2
    density = disc * 0.06 * (1 + 0.3 * rng.normal(0, 1, disc.shape))
    rgb = np.array([238.0, 238.0, 240.0]) * 10.0 ** -(density[..., None] * [1.25, 1.2, 0.55])
    return of(find_tissue(change(np.clip(rgb, 0, 255).astype(np.uint8)), 8.0,
                          TissueSettings()).flags)  # fmt: skip


def inked(rgb: np.ndarray) -> np.ndarray:
    cv2.line(rgb, (20, 60), (280, 150), (60, 70, 190), 16)
    return rgb


def covered(rgb: np.ndarray) -> np.ndarray:
    noise = np.random.default_rng(1).normal((150, 120, 170), 14, rgb.shape)
    return np.clip(noise, 0, 255).astype(np.uint8)


def framed(rgb: np.ndarray) -> np.ndarray:
    rgb[:14] = 6
    return rgb


def estimated(h: float, d: float, noise: bool = False) -> Codes:
    rng = np.random.default_rng(0)
    od_h, od_d = (np.abs(rng.normal(v, v / 2, (512, 512))) if v else np.zeros((512, 512))
                  for v in (h, d))  # fmt: skip
    od_h[:, :128] = od_d[:, :128] = 0.0
    used = StainSettings()
    both = od_h[..., None] * unit(used.hematoxylin) + od_d[..., None] * unit(used.dab)
    rgb = np.clip(np.rint(240.0 * 10.0**-both), 0, 255).astype(np.uint8)
    if noise:
        rgb = np.repeat(rng.integers(30, 240, (512, 512, 1)), 3, axis=2).astype(np.uint8)
    return of(stain.estimate([rgb], 0.5, used).flags)


def assessed(**measured: Any) -> Codes:
    return of(qc.assess(QcSettings(), **measured))


def refused(folder: Path, rgb: tuple[int, int, int], mpp: float) -> Codes:
    rng = np.random.default_rng(0)
    pixels = np.full((600, 600, 3), 240, np.uint8)
    pixels[100:500, 100:500] = np.clip(rng.normal(rgb, 12, (400, 400, 3)), 0, 255)
    Image.fromarray(pixels).save(folder / "a.png")
    with open_slide(SlideRef(str(folder / "a.png"), mpp=mpp)) as slide:
        with pytest.raises(NotEvaluable) as caught:
            look(slide, Settings())
        return {caught.value.code}


# -- settings, cases, CNN --------------------------------------------------------------------------


def own(annotations: Annotations | None = None, **changes: Any) -> Codes:
    settings = Settings().replace({k.replace("__", "."): v for k, v in changes.items()})
    outcome = Outcome(Path("a"), None, settings, RunOptions(), annotations, "", "",
                      datetime.now(UTC), 0.0)  # type: ignore[arg-type]  # fmt: skip
    return of(outcome._own_flags())


def mended() -> Annotations:
    return Annotations((Annotation("a", "Tumor", shapely.box(0, 0, 9, 9), "tumour"),), "0", 1)


def case(done: Iterable[bool], samples: int, times: Sequence[str] = ("", "")) -> Codes:
    parts = [SimpleNamespace(member=SimpleNamespace(slide_id=str(i), done=d, timepoint=t))
             for i, (d, t) in enumerate(zip(done, times, strict=False))]  # fmt: skip
    maker = next(c for c in vars(cases).values() if hasattr(c, "_qc"))
    made = [SimpleNamespace(part=p) for p in parts[:samples]]
    fake = SimpleNamespace(plan=SimpleNamespace(parts=parts), samples=made)
    return of(maker._qc(fake, []).flags)


def second_look() -> Codes:
    score = Score(guideline="asco_cap_2018", ihc="0", substate="null", rule="", trace=(), flags=(),
                  category="null")  # fmt: skip
    said = cnn.verdict(np.array([0.0, 0.0, 0.0, 1.0]), score, "m", 0.1)
    return {str(said.flag)}


def corrected() -> Codes:
    qc = Qc(flags=(), tissue_area_mm2=1.0, analysed_area_mm2=1.0)
    result = Result.model_construct(qc=qc, tumour_selection="morphology")
    one = Correction(1, "none", None, "AB", "2026-01-02T03:04:05+00:00")
    return of(by_reader.noted(result, by_reader.Said((one,), None, ("AB",), one.time)).qc.flags)


def unrecognised() -> Codes:
    """Half of the tumour cells are doubtful."""
    kinds = pa.DictionaryArray.from_arrays(pa.array([0] * 10, pa.int8()), list(CELL_TYPES))
    cells = pa.table({"cell_type": kinds, "kind_certainty": [0.95] * 5 + [0.55] * 5})
    return of(checks.recognised(cells, Settings(), drawn=False))


def calibrated(drawn: dict[str, float], **changes: Any) -> Codes:
    """Return the flags of a slide with control areas: class to the OD of its cells."""
    rng = np.random.default_rng(0)
    settings = Settings().replace({k.replace("__", "."): v for k, v in changes.items()})
    columns: dict[str, list[np.ndarray]] = {}
    areas = []
    for i, (name, od) in enumerate(drawn.items()):
        value = od * np.exp(rng.normal(0, 0.2, 200))
        x, y = rng.uniform(1000 * i, 1000 * i + 900, 200), rng.uniform(0, 900, 200)
        own = {"x_um": x, "y_um": y, "membrane_od": value, "membrane_od_ring": value,
               "membrane_mass": value, "completeness": (value > 0) * 1.0,
               "tumour_probability": np.ones(200)}  # fmt: skip
        for column, values in own.items():
            columns.setdefault(column, []).append(values)
        areas.append(Annotation(name, name, shapely.box(1000 * i, 0, 1000 * i + 900, 900),
                                "excluded"))  # fmt: skip
    cells = pa.table({k: np.concatenate(v).astype(np.float32) for k, v in columns.items()})
    made = calibrate_slide(cells, Annotations(tuple(areas), "0"), 1.0, settings)
    read = receptors.with_receptors(cells, made.curve)
    told = receptors.receptor_flags(receptors.summary(read, made.curve, made.settings))
    return of([*made.flags, *told])


def judged(
    ratio: float = 0.6,
    bar: bool = False,
    dab: tuple[float, float, float] = (0.27, 0.57, 0.78),
    finds: tuple[float, float] = (15.0, 1.5),
    **cells: int,
) -> Codes:
    """Return what a slide of 400 map cells is told, so many of them with a code."""
    codes = np.zeros((20, 20), np.uint16)
    for name, n in cells.items():
        codes.ravel()[:n] |= np.uint16(qc.CODES[name].value)
    tissue_cells = np.ones(codes.shape, bool)
    settings = Settings()
    left_out = (codes & qc.left_out_bits(settings.qc)) > 0
    made = quality.Quality(codes, tissue_cells, left_out, {}, 64, 0.25, ratio)
    overview = np.full((400, 400, 3), 240, np.uint8)
    if bar:
        overview[350:358, 300:380] = 0
    model = stain.StainModel((240.0,) * 3, (0.65, 0.70, 0.29), dab, "estimated")
    seen = SimpleNamespace(overview=overview, optics=SimpleNamespace(stain=model))
    plan = SimpleNamespace(settings=settings, optics=SimpleNamespace(mpp=0.25))
    n = np.ones(1000, np.float32)
    area_um2, heat = finds
    told = qc.slide.Finds(area_um2 * n, heat * n, 0 * n, 0.5 * n)
    before, quality._finds = quality._finds, lambda _: told
    try:
        return of(quality.judge(plan, seen, made))  # type: ignore[arg-type]
    except NotEvaluable as exc:
        return {exc.code}
    finally:
        quality._finds = before


def area(name: str | None) -> dict[str, Any]:
    ring = [[0, 0], [90, 0], [90, 90], [0, 90], [0, 0]]
    named = {} if name is None else {"classification": {"name": name}}
    return {"type": "Feature", "geometry": {"type": "Polygon", "coordinates": [ring]},
            "properties": {"objectType": "annotation", **named}}  # fmt: skip


def point() -> dict[str, Any]:
    one = area("Tumor")
    return one | {"geometry": {"type": "Point", "coordinates": [5, 5]}}


def drawn(folder: Path, features: list[Any], selection: str = "annotation") -> Codes:
    path = folder / "a.geojson"
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    return of(annotation_flags(read_annotations(path, Settings().tumour), selection))


def blind() -> Codes:
    """A slide that reads 0 and could not say what it shows."""
    score = guidelines.score({"none": 500})
    return of(sensitivity_flags(Sensitivity.without("9 unstained tumour cells were seen"), score))


#: what a laboratory's calibration rests on
MADE_FROM = [{"level": "2+", "median": 0.12}]

RAISED: dict[str, Callable[[Path], Codes]] = {
    "NO_TISSUE": lambda _: tissue(lambda rgb: np.full_like(rgb, 238)),
    "LITTLE_TISSUE": lambda _: assessed(tissue_area_mm2=0.01),
    "NOT_H_DAB": lambda f: refused(f, (60, 170, 70), 0.25),
    "DARK_BACKGROUND": lambda _: tissue(
        lambda rgb: np.clip(245 - rgb.astype(int), 3, 255).astype(np.uint8)
    ),
    "COARSE_MPP": lambda f: refused(f, (150, 100, 70), 1.0),
    "MPP_OVERRIDDEN": lambda f: opened(tiff(f), mpp=0.3, force_mpp=True),
    "MPP_NOT_USED": lambda f: opened(tiff(f), mpp=0.4),
    "ANISOTROPIC_MPP": lambda f: opened(tiff(f, resolution=(40_000, 20_000)), mpp=None),
    "COLOUR_TAG_WRONG": stored_as_ycbcr,
    "ALPHA_TAG_WRONG": lambda f: premultiplied(f, 200),
    "TRANSPARENT_PIXELS": transparent,
    "SCALED_TO_8_BIT": sixteen_bit,
    "ORIENTATION_IGNORED": lambda f: opened(tiff(f, extratags=[(274, "H", 1, 6, True)])),
    "LEVEL_ORDER": smallest_first,
    "SEVERAL_IMAGES": two_pictures,
    "READERS_DIFFER": readers_differ,
    "ICC_NOT_APPLIED": profile,
    "OUT_OF_FOCUS": lambda _: assessed(focus=np.zeros(100)),
    "PARTLY_OUT_OF_FOCUS": lambda _: assessed(focus=np.r_[np.ones(70) * 9, np.zeros(30)]),
    "PEN_MARKS": lambda _: tissue(inked),
    "FOLDS": lambda _: judged(folds=40),
    "MPP_UNLIKELY": lambda _: judged(finds=(40.0, 0.0)),
    "TOO_LITTLE_LEFT": lambda _: judged(dust=380),
    "NO_EPITHELIUM": lambda _: judged(no_epithelium=400),
    "ARTEFACTS": lambda _: judged(bubbles=30),
    "SOFT": lambda _: judged(ratio=0.2),
    "BURNT_IN_MARK": lambda _: judged(bar=True),
    "STAIN_VECTORS_UNUSUAL": lambda _: judged(dab=(0.9, 0.3, 0.3)),
    "LITTLE_TUMOUR": lambda _: of(checks._little_tumour(150, Settings())),
    "NUCLEI_HIDDEN": lambda _: judged(finds=(15.0, 1.5)),
    "DARK_BORDER": lambda _: tissue(framed),
    "NO_GLASS": lambda _: tissue(covered),
    "WHITE_FALLBACK": lambda _: of(stain.estimate([], 0.25, StainSettings()).flags),
    "STAIN_FALLBACK": lambda _: estimated(0, 0, noise=True),
    "STAIN_DAB_FALLBACK": lambda _: estimated(0.5, 0),
    "STAIN_H_FALLBACK": lambda _: estimated(0, 0.4),
    "PALE_STAIN": lambda _: assessed(nucleus_h_od=0.01),
    "STRONG_COUNTERSTAIN": lambda _: assessed(nucleus_h_od=3.0),
    "HIGH_BACKGROUND": lambda _: assessed(background_dab_od=1.0),
    "UNREADABLE_TILES": lambda _: assessed(bad_fraction=0.005),
    "IN_SITU_NOT_EXCLUDED": lambda _: own(),
    "ALL_CELLS_COUNTED": lambda _: own(tumour__method="all"),
    "UNCALIBRATED_CUTOFFS": lambda _: own(),
    "OTHER_ASSAY": lambda _: calibrated(
        {"control 0": 0.01}, assay__clone="4B5", calibration__assay={"clone": "SP3"}
    ),
    "CONTROLS_NOT_USED": lambda _: calibrated({"control 1+": 0.05, "control 3+": 0.5}),
    "FAINT_CONTROL_UNSEEN": lambda _: calibrated(
        {"control 1+": 0.0, "control 2+": 0.1, "control 3+": 0.4}
    ),
    "UNDER_STAINED": lambda _: calibrated({"control 2+": 0.04}, calibration__made_from=MADE_FROM),
    "OVER_STAINED": lambda _: calibrated({"control 2+": 0.3}, calibration__made_from=MADE_FROM),
    "RECEPTORS_OUTSIDE_RANGE": lambda _: calibrated(
        {
            "control 20000 receptors": 0.02,
            "control 1e5 receptors": 0.1,
            "control 4e5 receptors": 0.4,
        }
    ),
    "ANNOTATIONS_MENDED": lambda _: own(mended()),
    "FAINT_NOT_MEASURABLE": lambda _: blind(),
    "TUMOUR_NOT_RECOGNISED": lambda _: unrecognised(),
    "ANNOTATION_CLASSES_UNKNOWN": lambda f: drawn(f, [area("Tumor"), area("Cloud")]),
    "ANNOTATIONS_WITHOUT_CLASS": lambda f: drawn(f, [area("Tumor"), area(None)]),
    "ANNOTATIONS_NOT_SELECTING": lambda f: drawn(f, [area("Necrosis")], "morphology"),
    "ANNOTATION_OBJECTS_LEFT_OUT": lambda f: drawn(f, [area("Tumor"), point()]),
    "TIMES_BY_NAME": lambda _: case([True, True], 2, ("before", "after")),
    "SLIDES_MISSING": lambda _: case([True, False], 1),
    "SLIDES_NOT_EVALUABLE": lambda _: case([True, True], 1),
    "FEW_TUMOUR_CELLS": lambda _: case([True], 0),
    "CNN_DISAGREES": lambda _: second_look(),
    "READER_CORRECTED": lambda _: corrected(),
}


@pytest.mark.parametrize("code", FLAGS)
def test_every_flag_is_raised_by_something(tmp_path: Path, code: str) -> None:
    assert code in set(RAISED[code](tmp_path))


def test_a_slide_without_oddities_has_no_flag(tmp_path: Path) -> None:
    assert opened(tiff(tmp_path), mpp=None) == set()
    assert opened(tiff(tmp_path), mpp=0.25) == set()


def test_every_flag_that_the_code_names_is_in_the_catalogue() -> None:
    named = set()
    for path in Path(her2path.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "flag":
                named |= {a.value for a in node.args[:1] if isinstance(a, ast.Constant)}
    assert named <= set(FLAGS)


@pytest.mark.parametrize("code", FLAGS)
def test_the_catalogue_says_where_a_flag_is_raised(code: str) -> None:
    module = Path(her2path.__file__).parent.joinpath(*FLAGS[code].raised_in.split("."))
    assert f'"{code}"' in module.with_suffix(".py").read_text(encoding="utf-8")


def test_what_the_reader_of_slides_remarks_is_stored_and_printed(tmp_path: Path) -> None:
    """Flags of the file reach result.json and the report, of a slide without tissue too."""
    icc = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    path = tiff(tmp_path, np.full((600, 600, 3), 240, np.uint8), iccprofile=icc)
    how = Settings().replace({"slide.force_mpp": True})
    result = her2path.score_slide(path, tmp_path / "out", how, mpp=0.3)
    stored = of(result.qc.flags)
    assert {"MPP_OVERRIDDEN", "ICC_NOT_APPLIED", "NO_TISSUE"} <= stored
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert all(f"<code>{code}</code>" in page for code in stored)
    oblong = tmp_path / "b"
    oblong.mkdir()
    path = tiff(oblong, np.full((600, 600, 3), 240, np.uint8), resolution=(40_000, 20_000))
    assert "ANISOTROPIC_MPP" in of(her2path.score_slide(path, oblong / "out").qc.flags)

"""Quality control: focus, and the catalogue of flags."""

import re
from pathlib import Path

import cv2
import numpy as np
import pytest

import her2path
from her2path.cells.qc import FOCUS_LIMIT, assess, focus_cells, focus_share
from her2path.cells.stain import StainModel, estimate, reduce_unmix
from her2path.core.flags import FLAGS, flag, merge
from her2path.core.settings import QcSettings, StainSettings
from her2path.phantom import make_phantom, random_spec


def planes(seed: int, sigma_um: float = 0.0, **fixed: object) -> np.ndarray:
    """Return the sum of both stains of a phantom, blurred as by a badly focused objective."""
    spec = random_spec(seed, width_um=260.0, height_um=260.0, mpp=0.25, **fixed)
    rgb = make_phantom(spec).rgb
    model = estimate([rgb], spec.mpp, StainSettings())
    if sigma_um:
        rgb = cv2.GaussianBlur(rgb, (0, 0), sigma_um / spec.mpp)
    h, d = reduce_unmix(rgb, 2, model)
    return h + d


@pytest.mark.parametrize("seed", [0, 2, 4, 10])
def test_sharp_and_blurred_phantoms_are_told_apart(seed: int) -> None:
    sharp = focus_share(focus_cells(planes(seed), 32))
    blurred = focus_share(focus_cells(planes(seed, 2.0), 32))
    assert sharp is not None
    assert blurred is not None
    assert sharp > 0.85
    assert blurred < 0.3


def test_strength_of_the_stain_does_not_matter() -> None:
    plane = planes(1)
    a, b = focus_cells(plane, 32), focus_cells(plane * np.float32(2), 32)
    both = np.isfinite(a) & np.isfinite(b)
    assert np.median(np.abs(a[both] - b[both])) < 0.03


def test_focus_of_a_part_is_that_of_the_whole() -> None:
    plane = np.random.default_rng(0).random((160, 224), dtype=np.float32)
    whole = focus_cells(plane, 32)
    part = focus_cells(plane[32:128, 64:224], 32)
    assert np.array_equal(whole[1:4, 2:7], part)


def test_against_a_plain_reference() -> None:
    gray = np.random.default_rng(1).integers(0, 255, (64, 64)).astype(np.int64)
    got = focus_cells(gray.astype(np.uint8), 64, 0.5)[0, 0]
    inner = gray[:56:2, :56]
    near = (gray[:56:2, 2:58] - inner) ** 2 + (gray[2:58:2, :56] - inner) ** 2
    far = (gray[:56:2, 8:64] - inner) ** 2 + (gray[8:64:2, :56] - inner) ** 2
    n = 2 * inner.size
    assert got == pytest.approx((near.sum() / n - 4) / (far.sum() / n - 4), rel=1e-6)


def test_empty_glass_is_not_judged() -> None:
    noise = 240 + np.random.default_rng(0).normal(0, 1, (64, 64, 3))
    focus = focus_cells(noise.astype(np.uint8), 32)
    assert np.isnan(focus).all()
    assert focus_share(focus) is None


def codes(flags: object) -> list[str]:
    return [f.code for f in flags]  # type: ignore[attr-defined]


def test_focus_flags_by_share() -> None:
    limit = np.float32(FOCUS_LIMIT)
    sharp = np.full(100, 2 * limit, np.float32)
    assert assess(QcSettings(), focus=sharp) == []
    half = sharp.copy()
    half[:40] = 0.0
    assert codes(assess(QcSettings(), focus=half)) == ["PARTLY_OUT_OF_FOCUS"]
    half[:60] = 0.0
    out = assess(QcSettings(), focus=half)
    assert codes(out) == ["OUT_OF_FOCUS"]
    assert out[0].severity == "fail"
    assert assess(QcSettings(min_focus=0.3), focus=half)[0].code == "PARTLY_OUT_OF_FOCUS"
    blank = np.full(100, np.nan, np.float32)
    assert codes(assess(QcSettings(), focus=blank)) == ["OUT_OF_FOCUS"]
    assert assess(QcSettings(), focus=np.zeros(0, np.float32)) == []


@pytest.mark.parametrize(
    ("given", "code"),
    [
        ({"nucleus_h_od": 0.08}, "PALE_STAIN"),
        ({"nucleus_h_od": 0.9}, "STRONG_COUNTERSTAIN"),
        ({"background_dab_od": 0.1}, "HIGH_BACKGROUND"),
        ({"bad_fraction": 0.002}, "UNREADABLE_TILES"),
        ({"tissue_area_mm2": 0.0}, "NO_TISSUE"),
        ({"tissue_area_mm2": 0.01}, "LITTLE_TISSUE"),
    ],
)
def test_other_flags(given: dict[str, float], code: str) -> None:
    assert codes(assess(QcSettings(), **given)) == [code]  # type: ignore[arg-type]


def test_nothing_to_say_of_a_good_slide() -> None:
    good = {"nucleus_h_od": 0.3, "background_dab_od": 0.01, "tissue_area_mm2": 80.0}
    assert assess(QcSettings(), **good) == []  # type: ignore[arg-type]


def test_known_flags_are_joined_gravest_first() -> None:
    known = (flag("PEN_MARKS"), flag("LITTLE_TISSUE", severity="fail"))
    out = assess(QcSettings(), tissue_area_mm2=0.01, known=known)
    assert codes(out) == ["LITTLE_TISSUE", "PEN_MARKS"]
    assert out[0].severity == "fail"


def test_merge_keeps_one_flag_a_code() -> None:
    once = merge([flag("FOLDS")], [flag("FOLDS", "again"), flag("NO_GLASS")])
    assert codes(once) == ["FOLDS", "NO_GLASS"]


def test_the_catalogue_is_whole() -> None:
    for code, (severity, sentence, _) in FLAGS.items():
        assert re.fullmatch(r"[A-Z][A-Z0-9_]+", code)
        assert severity in ("info", "warning", "fail")
        assert sentence.endswith(".")
        assert flag(code, "More.").message.endswith("More.")
    with pytest.raises(KeyError):
        flag("NO_SUCH_FLAG")


def test_flags_raised_anywhere_are_in_the_catalogue() -> None:
    package = Path(her2path.__file__).parent
    used = set()
    for path in package.rglob("*.py"):
        used |= set(re.findall(r'\bflag\(\s*"([A-Z0-9_]+)"', path.read_text(encoding="utf-8")))
        used |= set(re.findall(r'\bcode="([A-Z0-9_]+)"', path.read_text(encoding="utf-8")))
    assert used - {"NOT_EVALUABLE"} <= set(FLAGS)


def test_model_facts_are_plain_json() -> None:
    model = StainModel((240.0, 240.0, 241.0), (0.65, 0.70, 0.29), (0.27, 0.57, 0.78))
    assert model.facts().model_dump()["method"] == "fixed"

"""The detection limit: lines laid over unstained cells, and what of them is found."""

import cv2
import numpy as np
import pytest

from her2path.cells import sensitivity
from her2path.cells.sensitivity import Jpeg, Lines, Spikes, compress, jpeg_of
from her2path.cells.sensitivity.curve import LEVELS
from her2path.cells.sensitivity.lines import LEAST_COVERAGE, MOST_COVERAGE, READS, SIGMA_UM
from her2path.core.results import Recovered, Sensitivity
from her2path.core.schema import OUTLINE_RAYS
from her2path.core.settings import Settings
from her2path.phantom import PhantomSpec, make_phantom
from her2path.runs.case import score_slide
from her2path.runs.case.spiking import sensitivity_flags
from her2path.scoring import uncertainty

DAB = (0.27, 0.57, 0.78)
UNIT = tuple(np.array(DAB) / np.linalg.norm(DAB))
MPP = 0.25


# --- lines in pixels -----------------------------------------------------------------------------


def ring(od, x=60.0, y=60.0, radius=24.0):
    level = np.broadcast_to(np.asarray(od, float), (OUTLINE_RAYS,))
    return Lines(
        np.array([x]), np.array([y]), np.full((1, OUTLINE_RAYS), radius), level[None].copy()
    )


def od_of(rgb, before):
    return np.log10(before[..., 2] / np.maximum(rgb[..., 2].astype(float), 1)) / UNIT[2]


def test_a_line_has_the_crest_the_width_and_the_place_it_was_given():
    before = np.full((121, 121, 3), 240, np.uint8)
    od = od_of(sensitivity.lay(before, ring(0.21), UNIT, MPP, 0.0), before)
    across = od[60, 60:]
    assert across.argmax() == pytest.approx(24, abs=0.6)
    assert across.max() == pytest.approx(0.21 / READS, rel=0.06)
    mass = 0.21 / READS * SIGMA_UM * np.sqrt(2 * np.pi)
    assert across.sum() * MPP == pytest.approx(mass, rel=0.06)
    assert od[60, 60] == 0
    assert od[0, 0] == 0


def test_a_softer_slide_gets_a_broader_line_of_the_same_mass():
    before = np.full((121, 121, 3), 240, np.uint8)
    sharp, soft = (
        od_of(sensitivity.lay(before, ring(0.21), UNIT, MPP, blur), before)[60, 60:]
        for blur in (0.0, 0.5)
    )
    assert soft.max() < 0.6 * sharp.max()
    assert soft.sum() == pytest.approx(sharp.sum(), rel=0.06)


def test_light_is_multiplied_so_that_noise_and_nuclei_stay():
    rng = np.random.default_rng(0)
    before = rng.integers(60, 250, (121, 121, 3)).astype(np.uint8)
    after = sensitivity.lay(before, ring(0.1), UNIT, MPP, 0.0)
    changed = (after != before).any(axis=2)
    share = (after[changed] + 0.5) / (before[changed] + 0.5)
    assert (share <= 1.01).all()
    assert (after[~changed] == before[~changed]).all()
    # DAB takes most of the blue
    assert share[:, 2].mean() < share[:, 1].mean() < share[:, 0].mean()


def test_lines_of_neighbours_add_up_and_a_gap_stays_empty():
    before = np.full((121, 201, 3), 240, np.uint8)
    two = ring(0.1), ring(0.1, x=108.0)
    names = ("x", "y", "radius", "od")
    both = Lines(*(np.concatenate([getattr(t, n) for t in two]) for n in names))
    alone, shared = (
        od_of(sensitivity.lay(before, r, UNIT, MPP, 0.0), before) for r in (two[0], both)
    )
    assert shared[60, 84] == pytest.approx(2 * alone[60, 84], rel=0.05)
    half = np.where(np.arange(OUTLINE_RAYS) < 24, 0.1, 0.0)
    od = od_of(sensitivity.lay(before, ring(half), UNIT, MPP, 0.0), before)
    assert od[84, 60] > 0.05
    assert od[36, 60] == 0


def test_a_line_over_the_edge_of_the_picture_is_cut():
    before = np.full((50, 50, 3), 240, np.uint8)
    after = sensitivity.lay(before, ring(0.2, x=45.0, y=45.0), UNIT, MPP, 0.0)
    assert (after != before).any()
    assert after.shape == before.shape


def test_doses_are_fair_shares_of_levels_and_coverages():
    crest, coverage = sensitivity.doses(np.arange(40 * len(LEVELS)))
    assert {(crest == level).sum() for level in LEVELS} == {40}
    assert coverage.min() >= LEAST_COVERAGE
    assert coverage.max() <= MOST_COVERAGE
    for level in LEVELS:
        mean = coverage[crest == level].mean()
        assert mean == pytest.approx(0.5 * (LEAST_COVERAGE + MOST_COVERAGE), abs=0.04)


def test_drawn_lines_have_the_crest_and_coverage_asked_for_and_hang_on_the_cell_alone():
    ids = np.array([5, 6, 7 << 40])
    crest, coverage = np.array([0.05, 0.1, 0.2]), np.array([0.25, 0.5, 1.0])
    od = sensitivity.draw_lines(crest, coverage, ids)
    assert [(row > 0).sum() for row in od] == [12, 24, 48]
    many = sensitivity.draw_lines(np.full(90, 0.1), np.full(90, 0.5), np.arange(90))
    pieces = [((row > 0) & (np.roll(row, 1) == 0)).sum() for row in many]
    assert set(pieces) == {1, 2, 3}
    assert [row[row > 0].mean() for row in od] == pytest.approx(crest)
    assert (sensitivity.draw_lines(crest[1:], coverage[1:], ids[1:]) == od[1:]).all()


def test_borders_are_laid_off_as_far_as_they_are_misread():
    border, ids = np.full((400, OUTLINE_RAYS), 30.0), np.arange(400) << 33
    off = (sensitivity.off_borders(border, ids, MPP) - border) * MPP
    assert off.mean() == pytest.approx(0, abs=0.06)
    assert off.mean(axis=1).std() == pytest.approx(0.45, rel=0.15)
    assert np.median(off.std(axis=1)) == pytest.approx(0.45, rel=0.15)
    # neighbouring rays go together
    assert np.abs(np.diff(off, axis=1)).mean() < 0.2 * np.abs(off).mean()
    small = sensitivity.off_borders(np.full((50, OUTLINE_RAYS), 2.0), np.arange(50), MPP)
    assert small.min() >= 1.5 / MPP
    assert (sensitivity.off_borders(border[:1], ids[:1], MPP)[0] * MPP == (off + 7.5)[0]).all()


# --- the scan ------------------------------------------------------------------------------------


def tissue_like(seed=0, side=400):
    """Dark discs with steps for edges."""
    rng = np.random.default_rng(seed)
    rgb = np.full((side, side, 3), 235, np.uint8)
    for x, y in rng.integers(0, side, (60, 2)):
        radius = int(rng.integers(8, 16))
        cv2.circle(rgb, (int(x), int(y)), radius, (120, 110, 170), -1, cv2.LINE_AA)
    return rgb


def test_the_spread_of_edges_follows_the_blur():
    sharp = tissue_like()
    spreads = [
        sensitivity.edge_spread(cv2.GaussianBlur(sharp, (0, 0), blur / MPP), MPP)
        for blur in (0.2, 0.4, 0.6, 0.9)
    ]
    assert spreads == pytest.approx([0.2, 0.4, 0.6, 0.9], abs=0.14)
    assert sensitivity.blur_of([0.2, 0.2]) == 0.0
    assert sensitivity.blur_of([0.65, float("inf")]) == pytest.approx(0.6)
    assert sensitivity.blur_of([float("inf")]) == 0.0
    assert sensitivity.edge_spread(np.full((80, 80, 3), 200, np.uint8), MPP) == float("inf")


@pytest.mark.parametrize("quality", [60, 75, 88])
def test_the_compression_of_a_picture_is_found(quality):
    rng = np.random.default_rng(quality)
    noisy = np.clip(tissue_like() + rng.normal(0, 4, (400, 400, 3)), 0, 255).astype(np.uint8)
    how = Jpeg(quality, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420)
    assert jpeg_of(compress(noisy, how)) == how
    assert jpeg_of(noisy) is None
    assert compress(noisy, None) is noisy


@pytest.mark.parametrize("quality", [60, 75, 88])
@pytest.mark.parametrize("sampling", ["420", "422", "444"])
def test_a_faint_change_is_shown_as_if_it_had_been_there_before_the_compression(quality, sampling):
    how = Jpeg(quality, getattr(cv2, f"IMWRITE_JPEG_SAMPLING_FACTOR_{sampling}"))
    line = cv2.GaussianBlur(np.pad(np.ones((230, 2)), ((0, 0), (90, 141))), (0, 0), 1.5)
    line = np.where(line > 0.05, line, 0)[..., None] * np.array([1.5, 2.4, 3.0])
    shown = {"before": [], "decoded": [], "drawn": []}
    for seed in range(12):
        rng = np.random.default_rng(seed)
        rough = cv2.GaussianBlur(rng.normal(0, 60, (230, 233, 3)), (0, 0), 3)
        raw = np.clip(160 + rough + rng.normal(0, 3, (230, 233, 3)), 10, 250)
        plain = compress(np.rint(raw).astype(np.uint8), how)
        laid = np.rint(plain - line).clip(0, 255).astype(np.uint8)
        for name, after in (
            ("before", compress(np.rint(raw - line).astype(np.uint8), how)),
            ("decoded", compress(laid, how)),
            ("drawn", sensitivity.recompress(plain, laid, how, seed)),
        ):
            shown[name].append(((plain.astype(float) - after) * line).sum() / (line**2).sum())
    mean = {name: np.mean(values) for name, values in shown.items()}
    assert mean["drawn"] == pytest.approx(mean["before"], abs=0.25)
    if quality < 80:
        # compressed once more, decoded pixels lose far more of it
        lost = mean["before"] - mean["decoded"]
        assert lost > max(0.2, 1.5 * (mean["before"] - mean["drawn"]))


def test_what_is_not_changed_stays_bit_for_bit():
    rng = np.random.default_rng(0)
    how = Jpeg(75, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420)
    before = compress(rng.integers(80, 240, (70, 85, 3)).astype(np.uint8), how)
    assert (sensitivity.recompress(before, before.copy(), how, 1) == before).all()
    after = before.copy()
    after[20:24, 40:44] -= 40
    shown = sensitivity.recompress(before, after, how, 1)
    changed = np.argwhere((shown != before).any(axis=2))
    assert len(changed)
    assert changed.min(axis=0).tolist() >= [16, 32]
    assert changed.max(axis=0).tolist() <= [31, 47]
    assert sensitivity.recompress(before, after, None, 1) is after


# --- the curve -----------------------------------------------------------------------------------


def recovered(share, n=60):
    return [
        Recovered(membrane_od=x, found=round(share(x) * n) / n, low=0, high=1, n=n) for x in LEVELS
    ]


def spikes(limit, blank=0.0, n=600, seed=0):
    """Cells that read stained where their line is stronger than a limit that varies."""
    rng = np.random.default_rng(seed)
    crest, coverage = sensitivity.doses(np.arange(n))
    seen = crest > limit * np.exp(rng.normal(0, 0.5, n))
    return Spikes(
        crest, coverage, np.where(seen | (rng.random(n) < blank), crest, 0.0),
        (rng.random(n) < blank) * 0.02,
    )  # fmt: skip


@pytest.mark.parametrize("limit", [0.02, 0.05, 0.1])
def test_the_limit_is_found(limit):
    said = sensitivity.conclude(spikes(limit, 0.03), 10, 0.0, Settings())
    assert said.od_50 == pytest.approx(limit, rel=0.2)
    top = limit * np.exp(0.5 * 1.645)
    # 95 % of the strongest limit lies at the end of what was laid: it may be reached or not
    assert said.od_95 == pytest.approx(top, rel=0.35) or (limit == 0.1 and said.od_95 is None)
    assert said.blank_rate == pytest.approx(0.03, abs=0.02)
    assert said.faint_found_low < said.faint_found < said.faint_found_high
    found = [r.found for r in said.recovery]
    assert found[0] < 0.1
    assert found[-1] > 0.9
    each = 600 // len(LEVELS)
    assert all(r.low <= r.found <= r.high and r.n == each for r in said.recovery)


def test_a_higher_limit_shows_fewer_faint_cells():
    shares = [
        sensitivity.conclude(spikes(x), 0, 0.0, Settings()).faint_found
        for x in (0.01, 0.02, 0.04, 0.08, 0.2)
    ]
    assert shares == sorted(shares, reverse=True)
    assert shares[0] > 0.9
    assert shares[-1] < 0.05


def test_nothing_found_has_no_limits():
    said = sensitivity.conclude(spikes(50.0), 0, 0.3, Settings())
    assert said.od_50 is None
    assert said.od_95 is None
    assert said.faint_found < 0.01
    assert said.blur_um == 0.3


def test_other_cutoffs_ask_about_other_cells():
    measured = sensitivity.conclude(spikes(0.05), 0, 0.0, Settings())
    higher = Settings().replace({"membrane.cutoffs": [0.05, 0.2, 0.5]}).membrane
    again = sensitivity.with_limits(measured, higher)
    assert again.faint_found > measured.faint_found + 0.3
    assert (again.od_50, again.recovery) == (measured.od_50, measured.recovery)
    mass = Settings().replace({
        "membrane.measure": "membrane_mass",
        "membrane.cutoffs": [c * SIGMA_UM * np.sqrt(2 * np.pi) for c in (0.05, 0.2, 0.5)],
    }).membrane  # fmt: skip
    assert sensitivity.with_limits(measured, mass).faint_found == pytest.approx(again.faint_found)


def test_too_few_unstained_cells_are_said():
    few = sensitivity.conclude(spikes(0.05, n=20), 400, 0.0, Settings())
    assert few.faint_found is None
    assert "nearly all tumour cells are stained" in few.reason
    none = sensitivity.conclude(spikes(0.05, n=0), 0, 0.0, Settings())
    assert none.reason == "0 unstained tumour cells were seen"


# --- probability ---------------------------------------------------------------------------------


def limit(od, blank=0.01, n=60):
    """What a slide would say of itself, found in half at ``od``."""
    from scipy.special import ndtr

    share = lambda x: blank + (1 - blank) * ndtr(np.log(x / od) / 0.5)  # noqa: E731
    measured = Sensitivity(
        cells=n * len(LEVELS), blanks=n * len(LEVELS), blank_rate=blank,
        recovery=tuple(recovered(share, n)),
    )  # fmt: skip
    return sensitivity.with_limits(measured, Settings().membrane)


def cells(faint=0.0, moderate=0.0, n=2000, certainty=None):
    rng = np.random.default_rng(1)
    x, y = rng.uniform(0, 1500, (2, n))
    u = rng.random(n)
    pattern = np.where(u < moderate, 4, np.where(u < moderate + faint, 1, 0))
    table = {"x_um": x, "y_um": y, "pattern": pattern.astype(np.int8)}
    return table | ({} if certainty is None else {"kind_certainty": np.full(n, certainty)})


def test_a_slide_that_hides_faint_cells_is_not_surely_0():
    sharp, middling, blind = (
        uncertainty.bootstrap(cells(), measured=limit(od)) for od in (0.015, 0.06, 0.5)
    )
    assert sharp.probability["0"] > 0.97
    assert sharp.probability["0"] >= middling.probability["0"] > blind.probability["0"]
    assert 0.4 < blind.probability["1+"] < 0.95
    assert sum(blind.probability.values()) == pytest.approx(1)


def test_a_sharp_slide_tells_null_from_ultralow_from_1():
    measured = limit(0.01, blank=0.001)
    for faint, right in ((0.0, "null"), (0.05, "ultralow"), (0.3, "low")):
        said = uncertainty.bootstrap(cells(faint), measured=measured)
        assert max(said.category_probability, key=said.category_probability.get) == right
        parts = said.substate_probability
        assert parts["null"] + parts["ultralow"] == pytest.approx(said.probability["0"])


def test_cells_found_by_mistake_are_taken_off():
    clean, dirty = (
        uncertainty.bootstrap(cells(0.12), measured=limit(0.012, blank)) for blank in (0.002, 0.1)
    )
    assert clean.probability["1+"] > 0.88
    assert dirty.probability["0"] > clean.probability["0"] + 0.3


def test_moderate_cells_are_seen_on_any_slide():
    for od in (0.015, 0.5):
        said = uncertainty.bootstrap(cells(0.1, 0.5), measured=limit(od))
        assert said.probability["2+"] > 0.99


def test_doubtful_kinds_widen_and_certain_ones_do_not():
    # a tenth is moderate: whether that is above 10 % hangs on which of the others are tumour
    rng = np.random.default_rng(4)
    table = cells(0.0, 0.085, certainty=1.0)
    sure = uncertainty.bootstrap(table)
    doubtful = np.where(table["pattern"] == 0, rng.uniform(0.5, 0.9, 2000), 1.0)
    unsure = uncertainty.bootstrap(table | {"kind_certainty": doubtful})
    assert sure.probability["2+"] < 0.05
    assert unsure.probability["2+"] > 0.5
    read = table | {"kind_certainty": doubtful, "reader": np.array(["A"] * 2000, object)}
    assert uncertainty.bootstrap(read).probability == sure.probability


def test_a_doubtful_selection_of_unstained_cells_leaves_every_score_open():
    sharp = limit(0.012, 0.002)
    sure, doubtful = (
        uncertainty.bootstrap(cells(certainty=c), measured=sharp).probability for c in (1.0, 0.7)
    )
    assert sure["0"] > 0.97
    # three in ten of what was counted may be no tumour: its score is then any of the four
    assert doubtful["2+"] == pytest.approx(0.3 / 4, abs=0.01)
    assert doubtful["3+"] == pytest.approx(0.3 / 4, abs=0.01)
    assert doubtful["0"] == pytest.approx(0.7 * sure["0"] + 0.3 / 4, abs=0.03)
    # stained cells are hardly anything else
    stained = uncertainty.bootstrap(cells(0.0, 1.0, certainty=0.7), measured=sharp)
    assert stained.probability["2+"] == 1.0
    half = uncertainty.bootstrap(cells(certainty=0.7), measured=sharp).substate_probability
    assert half["null"] + half["ultralow"] == pytest.approx(doubtful["0"])


def test_a_limit_that_could_not_be_measured_is_unknown_and_one_not_asked_for_is_not():
    missing = Sensitivity.without("31 unstained tumour cells were seen")
    off = Sensitivity.without("it was switched off (sensitivity.cells is 0)")
    none, unknown, unasked = (
        uncertainty.bootstrap(cells(n=100), measured=m).probability for m in (None, missing, off)
    )
    assert none == unasked
    assert none["0"] > 0.97
    assert 0.5 < unknown["0"] < none["0"] - 0.05
    assert unknown["1+"] > 0.05


def test_calibrated_cutoffs_give_a_narrower_answer():
    rng = np.random.default_rng(2)
    table = cells(0.5)
    od = np.where(table["pattern"] > 0, np.exp(rng.normal(np.log(0.045), 0.3, 2000)), 0.0)
    level = np.searchsorted([0.015, 0.058, 0.19], od, side="right")
    table |= {
        "pattern": np.array([0, 2, 4, 6])[level], "membrane_od": od.astype(np.float32),
        "completeness": np.where(od > 0, 0.9, 0.0).astype(np.float32),
    }  # fmt: skip
    wide, narrow = (
        uncertainty.bootstrap(
            table, settings=Settings().replace({"membrane.cutoffs_relative_error": e}),
            measured=limit(0.02),
        )
        for e in (0.6, 0.05)
    )  # fmt: skip
    assert max(narrow.probability.values()) > max(wide.probability.values())


def test_the_answer_hangs_on_no_order():
    table = cells(0.03, certainty=0.8)
    swap = np.random.default_rng(3).permutation(2000)
    mixed = {k: v[swap] for k, v in table.items()}
    measured = limit(0.05)
    one = uncertainty.bootstrap(table, measured=measured)
    assert uncertainty.bootstrap(mixed, measured=measured) == one


# --- flags ---------------------------------------------------------------------------------------


class _Read:
    def __init__(self, ihc):
        self.ihc = ihc


def test_faint_not_measurable_where_lines_are_found_no_more_often_than_nothing():
    assert sensitivity_flags(limit(0.03), _Read("0")) == []
    [blind] = sensitivity_flags(limit(0.5), _Read("1+"))
    assert blind.code == "FAINT_NOT_MEASURABLE"
    assert blind.severity == "warning"
    assert sensitivity_flags(limit(0.5), _Read("2+")) == []
    assert sensitivity_flags(None, _Read("0")) == []
    few = Sensitivity.without("3 unstained tumour cells were seen")
    [unknown] = sensitivity_flags(few, _Read("0"))
    assert "3 unstained tumour cells" in unknown.message


# --- a whole slide -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def slide(tmp_path_factory):
    spec = PhantomSpec(
        seed=3, width_um=300, height_um=300, margin_um=10,
        mixture={"none": 0.9, "faint_incomplete": 0.1},
    )  # fmt: skip
    path = tmp_path_factory.mktemp("spiked") / "slide.png"
    cv2.imwrite(str(path), make_phantom(spec).rgb[..., ::-1])
    return path


def scored(slide, out, **changes):
    fixed = {"slide.mpp": 0.25, "score.min_cells": 20, "sensitivity.cells": 80}
    return score_slide(slide, out, Settings().replace(fixed | changes)).result


def test_a_slide_measures_itself_the_same_however_it_is_cut(slide, tmp_path):
    one = scored(slide, tmp_path / "one", **{"stream.block_px": 512, "stream.workers": 2})
    two = scored(slide, tmp_path / "two", **{"stream.workers": 1})
    said = one.sensitivity
    assert said == two.sensitivity
    assert one.score == two.score
    assert said.cells + said.blanks >= 80
    assert abs(said.cells - said.blanks) <= 5
    assert said.reason is None
    assert said.recovery[-1].found > 0.6 > said.recovery[0].found
    assert 0 < said.faint_found < 1
    assert said.od_50 is not None
    assert set(one.score.substate_probability) == {"null", "ultralow"}
    off = scored(slide, tmp_path / "off", **{"sensitivity.cells": 0}).sensitivity
    assert off.faint_found is None
    assert "switched off" in off.reason

"""The nucleus detector: its kernels against plain references, its promises on drawn nuclei."""

from __future__ import annotations

import numpy as np
import pytest

from her2path.errors import SettingsError
from her2path.nuclei import (
    DETECTORS,
    HALO_UM,
    RAYS,
    Nuclei,
    _contours,
    _hash,
    _joining,
    _outlines,
    _planes,
    _rivals,
    _score,
    _seeds,
    _twins,
    are_sure,
    classic,
    find_nuclei,
    typical_contrast,
)
from her2path.nuclei.weights import scoring, twins
from her2path.settings import NucleiSettings

MPP = 0.5


def draw(seed, size=480, count=110, h_od=0.25, brown=0.0, mpp=MPP):
    """Elliptic nuclei in a tinted ground, some touching, some vesicular; return h, d, centres."""
    rng = np.random.default_rng(seed)
    grid = np.mgrid[0:size, 0:size].astype(np.float64) * mpp
    h = 0.05 + 0.006 * rng.standard_normal((size, size))
    d = 0.01 + 0.004 * rng.standard_normal((size, size))
    centres = []
    for _ in range(40 * count):
        if len(centres) == count:
            break
        at = rng.uniform(0, size * mpp, 2)
        if centres and np.min(np.hypot(*(np.array(centres) - at).T)) < 11:
            continue
        centres.append(at)
        low = np.maximum(np.rint((at - 9) / mpp).astype(int), 0)
        cut = tuple(slice(v, v + round(18 / mpp)) for v in low)
        y, x = grid[0][cut], grid[1][cut]
        a, b, turn = rng.uniform(3.4, 4.8), rng.uniform(3.0, 4.0), rng.uniform(0, np.pi)
        u = (x - at[1]) * np.cos(turn) + (y - at[0]) * np.sin(turn)
        v = (y - at[0]) * np.cos(turn) - (x - at[1]) * np.sin(turn)
        r = np.sqrt((u / a) ** 2 + (v / b) ** 2)
        rim = 0.75 + 0.25 * np.clip(r, 0, 1) ** 2
        h[cut] += h_od * rng.uniform(0.7, 1.3) * rim * np.clip((1.12 - r) / 0.24, 0, 1)
        ring = np.abs(np.hypot(x - at[1], y - at[0]) - 6.2)
        d[cut] = np.maximum(d[cut], brown * np.clip(1.2 - ring, 0, 1))
    return h.astype(np.float32), d.astype(np.float32), np.array(centres)


def hits(found, centres, size, mpp=MPP, edge_um=12.0):
    """Return (missed, drawn, false, found) away from the edge, one to one within 4 µm."""
    from scipy.optimize import linear_sum_assignment

    at = np.stack([found.y, found.x], axis=1) * mpp
    gap = np.hypot(*(at[:, None] - centres[None]).transpose(2, 0, 1))
    i, j = linear_sum_assignment(np.where(gap <= 4, gap, 1e6))
    good = gap[i, j] <= 4
    inner = lambda p: ((p > edge_um) & (p < size * mpp - edge_um)).all(axis=1)  # noqa: E731
    seen, true = np.zeros(len(centres), bool), np.zeros(len(at), bool)
    seen[j[good]], true[i[good]] = True, True
    missed, false = inner(centres) & ~seen, inner(at) & ~true
    return missed.sum(), inner(centres).sum(), false.sum(), inner(at).sum()


@pytest.mark.parametrize(
    ("h_od", "brown", "mpp"),
    [(0.10, 0.0, 0.5), (0.25, 0.0, 0.5), (0.6, 0.0, 0.5), (0.25, 0.7, 0.5), (0.25, 0.0, 0.28)],
)
def test_finds_drawn_nuclei_pale_dark_ringed_by_brown(h_od, brown, mpp):
    size = round(240 / mpp)
    h, d, centres = draw(3, size, h_od=h_od, brown=brown, mpp=mpp)
    missed, drawn, false, found = hits(find_nuclei(h, d, mpp), centres, size, mpp)
    assert drawn > 60
    assert missed <= 0.05 * drawn
    assert false <= 0.06 * found


def test_touching_nuclei_are_split():
    y, x = np.mgrid[0:240, 0:240] * MPP
    h = np.full((240, 240), 0.04)
    for cx in (55.0, 63.5):
        r = np.hypot(x - cx, y - 60.0)
        h = np.maximum(h, 0.04 + 0.25 * np.clip((4.4 - r) / 0.6, 0, 1))
    found = find_nuclei(h.astype(np.float32), np.zeros((240, 240), np.float32), MPP)
    assert np.sort(found.x * MPP) == pytest.approx([55.0, 63.5], abs=1.2)


def test_two_long_nuclei_in_a_row_stay_two():
    y, x = np.mgrid[0:240, 0:240] * MPP
    for apart, wanted in ((0.0, [60.0]), (17.0, [51.5, 68.5])):
        h = np.full((240, 240), 0.04)
        for cx in (60.0 - apart / 2, 60.0 + apart / 2):
            inside = np.clip((3.4 - np.abs(y - 60.0)) / 0.6, 0, 1)
            h = np.maximum(h, 0.04 + 0.2 * inside * np.clip((8.0 - np.abs(x - cx)) / 0.6, 0, 1))
        found = find_nuclei(h.astype(np.float32), np.zeros((240, 240), np.float32), MPP)
        assert np.sort(found.x * MPP) == pytest.approx(wanted, abs=3.0)


def test_joined_halves_become_one_nucleus_between_them(monkeypatch):
    rng = np.random.default_rng(1)
    y, x = np.mgrid[0:400, 0:400] * MPP
    h, centres = np.full((400, 400), 0.04), []
    for cy in range(20, 190, 20):
        for cx in range(25, 190, 30):
            a = rng.uniform(0, np.pi)
            u = (x - cx) * np.cos(a) + (y - cy) * np.sin(a)
            v = (y - cy) * np.cos(a) - (x - cx) * np.sin(a)
            rod = np.clip((2.8 - np.abs(v)) / 0.6, 0, 1) * np.clip((8.0 - np.abs(u)) / 0.6, 0, 1)
            h = np.maximum(h, 0.04 + 0.25 * rod)
            centres.append((cy, cx))
    h = (h + 0.004 * rng.standard_normal(h.shape)).astype(np.float32)
    describe = _joining.describe_pairs
    for odds, joined in ((-1.0, False), (1.0, True)):

        def one(_, *args, odds=odds):
            pairs, table = describe(*args)
            return pairs, np.full(len(table), odds)

        monkeypatch.setattr(classic.ClassicDetector, "twins", one)
        found = find_nuclei(h, np.zeros_like(h), MPP)
        missed, drawn, false, _ = hits(found, np.array(centres, float), 400)
        assert drawn == 54
        assert missed <= 1
        assert (false <= 4) if joined else (false > 20)
    area = np.median(found.area_px) * MPP**2
    assert 0.6 * 16 * 5.6 < area < 1.1 * 16 * 5.6


def test_valleys_edges_and_brown_between_speak_for_two_nuclei():
    forest, rng = twins(), np.random.default_rng(2)
    # where the trees look: between their limits
    inner = forest.child[::2] != np.arange(len(forest.feature))
    limits = [forest.limit[inner & (forest.feature == k)] for k in range(len(_twins.FEATURES))]
    table = np.stack([rng.uniform(v.min() - 0.1, v.max() + 0.1, 500) for v in limits], axis=1)
    before = forest.odds(table.astype(np.float32))
    for name in ("valley_of_paler", "facing_edge_high", "facing_edge_low", "gap", "brown_between"):
        deeper = table.copy()
        deeper[:, _twins.FEATURES.index(name)] += 2.0
        after = forest.odds(deeper.astype(np.float32))
        assert (after <= before + 1e-6).all(), name
        assert (after < before - 0.05).any(), name


def test_pale_vesicular_nuclei_are_found_by_their_rims():
    y, x = np.mgrid[0:360, 0:360] * MPP
    h, places = np.full((360, 360), 0.10), []
    for cy in range(30, 160, 16):
        for cx in range(30, 160, 16):
            r = np.hypot(y - cy, x - cx)
            rim = np.clip((r - 3.2) / 0.5, 0, 1)
            h += np.clip((4.8 - r) / 0.5, 0, 1) * (0.015 + 0.045 * rim)
            places.append((cy, cx))
    h += 0.003 * np.random.default_rng(5).standard_normal(h.shape)
    found = find_nuclei(h.astype(np.float32), np.zeros((360, 360), np.float32), MPP)
    missed, drawn, false, _ = hits(found, np.array(places, float), 360)
    assert drawn == 81
    assert missed + false <= 4


def test_area_centre_and_shape_of_an_ellipse():
    y, x = np.mgrid[0:240, 0:240] * MPP
    r = np.sqrt(((x - 60.3) / 6.0) ** 2 + ((y - 59.2) / 3.5) ** 2)
    h = (0.03 + 0.3 * np.clip((1.07 - r) / 0.14, 0, 1)).astype(np.float32)
    found = find_nuclei(h, np.full_like(h, 0.02), MPP)
    assert len(found) == 1
    assert found.x[0] * MPP == pytest.approx(60.3, abs=0.5)
    assert found.y[0] * MPP == pytest.approx(59.2, abs=0.5)
    assert found.area_px[0] * MPP**2 == pytest.approx(np.pi * 21.0, rel=0.15)
    assert found.elongation[0] == pytest.approx(6.0 / 3.5, rel=0.15)
    assert found.hematoxylin[0] == pytest.approx(0.31, abs=0.05)
    assert found.dab[0] == pytest.approx(0.02, abs=0.005)
    # +x is long, +y is short: the contour's rays start at +x and turn towards +y
    assert found.radii[0, 0] * MPP == pytest.approx(6.0, abs=0.9)
    assert found.radii[0, 12] * MPP == pytest.approx(3.5, abs=0.7)


def test_empty_glass_and_plain_ground_hold_no_nuclei():
    noise = np.random.default_rng(0).standard_normal((300, 300)).astype(np.float32)
    for level, sd in ((0.0, 0.0), (0.0, 0.004), (0.1, 0.004)):
        h = np.float32(level) + np.float32(sd) * noise
        assert len(find_nuclei(h, np.zeros_like(h), MPP)) <= 1


def test_brown_lines_alone_are_no_nuclei():
    y, x = np.mgrid[0:300, 0:300] * MPP
    line = np.clip(1.0 - np.abs((x + 0.3 * y) % 14 - 7), 0, 1) * 0.8
    h = (0.05 + 0.08 * line).astype(np.float32)  # what leaks into hematoxylin
    assert len(find_nuclei(h, line.astype(np.float32), MPP)) <= 1


def test_arrays_types_and_fixed_point():
    h, d, _ = draw(5)
    found = find_nuclei(h, d, MPP, NucleiSettings(), (7, 11))
    assert isinstance(found, Nuclei)
    assert found.radii.shape == (len(found), RAYS)
    for name in found.__dataclass_fields__:
        value = getattr(found, name)
        assert value.dtype == np.float32
        assert len(value) == len(found)
        assert np.isfinite(value).all()
    assert (found.y * 16 == np.rint(found.y * 16)).all()
    assert (found.x * 16 == np.rint(found.x * 16)).all()
    assert ((found.confidence > 0) & (found.confidence <= 1)).all()
    equivalent = np.sqrt(found.area_px / np.pi) * MPP
    assert (equivalent >= 1.8).all()
    assert (equivalent <= 9.0).all()


def table(found, oy, ox, keep):
    rows = [getattr(found, n)[keep] for n in found.__dataclass_fields__ if n not in "yx"]
    y, x = found.y[keep].astype(np.float64) + oy, found.x[keep].astype(np.float64) + ox
    columns = np.column_stack([y, x, *[r.reshape(len(y), -1) for r in rows]])
    return columns[np.lexsort((x, y))]


@pytest.mark.parametrize(("contrast", "doubtful"), [(None, False), (0.15, False), (0.15, True)])
def test_the_same_nuclei_bit_for_bit_from_any_block(contrast, doubtful):
    settings = NucleiSettings(contrast_od=contrast)
    h, d, _ = draw(11, 900, 900, h_od=0.045 if doubtful else 0.25, brown=0.4)
    whole = find_nuclei(h, d, MPP, settings, doubtful=doubtful)
    compared = 0
    halo = round(HALO_UM / MPP)
    rng = np.random.default_rng(1)
    for _ in range(5):
        oy, ox = (int(v) for v in rng.integers(0, 350, 2))
        height, width = (int(v) for v in rng.integers(460, 550, 2))
        cut = (slice(oy, oy + height), slice(ox, ox + width))
        part = find_nuclei(h[cut], d[cut], MPP, settings, (oy, ox), doubtful)

        def core(n, ay, ax, oy=oy, ox=ox, height=height, width=width):
            y, x = n.y + ay - oy, n.x + ax - ox
            return (y >= halo) & (y < height - halo) & (x >= halo) & (x < width - halo)

        expected = table(whole, 0, 0, core(whole, 0, 0))
        compared += len(expected)
        np.testing.assert_array_equal(table(part, oy, ox, core(part, oy, ox)), expected)
    assert compared > 50


def test_doubtful_finds_change_nothing_about_the_sure_ones():
    h, d, _ = draw(2, 900, 400, h_od=0.045, brown=0.2)
    settings = NucleiSettings(contrast_od=0.15)
    sure = find_nuclei(h, d, MPP, settings)
    more = find_nuclei(h, d, MPP, settings, doubtful=True)
    known = are_sure(more, settings)
    assert (~known).sum() > 20
    assert len(sure) > 20
    assert (more.confidence[~known] > 0).all()
    for name in sure.__dataclass_fields__:
        np.testing.assert_array_equal(getattr(more, name)[known], getattr(sure, name))
    keen = NucleiSettings(contrast_od=0.15, sensitivity=3.0)
    assert are_sure(more, keen).sum() > known.sum()


def test_two_runs_are_identical_and_sensitivity_finds_more():
    h, d, _ = draw(2, h_od=0.035)
    first, second = find_nuclei(h, d, MPP), find_nuclei(h, d, MPP)
    for name in first.__dataclass_fields__:
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name))
    more = find_nuclei(h, d, MPP, NucleiSettings(sensitivity=3.0))
    less = find_nuclei(h, d, MPP, NucleiSettings(sensitivity=0.5))
    assert len(less) < len(first) < len(more)


def test_typical_contrast_follows_the_stain():
    pale = typical_contrast([draw(4, h_od=0.1)[:2]], MPP)
    dark = typical_contrast([draw(4, h_od=0.4)[:2]], MPP)
    assert pale is not None
    assert dark is not None
    assert 2.5 < dark / pale < 5.5
    assert typical_contrast([], MPP) is None


def test_misuse_is_refused():
    plane = np.zeros((40, 40), np.float32)
    with pytest.raises(ValueError, match="one shape"):
        find_nuclei(plane, plane[:20], MPP)
    with pytest.raises(ValueError, match="mpp"):
        find_nuclei(plane, plane, 0.0)
    with pytest.raises(SettingsError, match="detector"):
        find_nuclei(plane, plane, MPP, NucleiSettings.model_construct(detector="none"))
    assert len(find_nuclei(plane, plane, MPP)) == 0
    assert len(find_nuclei(plane[:3, :3], plane[:3, :3], MPP)) == 0


def test_another_detector_can_be_registered(monkeypatch):
    class Nothing:
        def find(self, h, d, mpp, settings, origin):
            return find_nuclei(h * 0, d * 0, mpp)

    monkeypatch.setitem(DETECTORS, "none", Nothing)
    h, d, _ = draw(5)
    assert len(find_nuclei(h, d, MPP, NucleiSettings.model_construct(detector="none"))) == 0


# kernels against plain references


def test_blur_against_scipy():
    from scipy.ndimage import correlate1d

    rng = np.random.default_rng(0)
    plane = rng.random((40, 53), dtype=np.float32)
    taps = classic._taps(1.7)
    out = np.empty_like(plane)
    _planes.blur(plane, taps, out)
    full = np.concatenate([taps[:0:-1], taps]).astype(np.float64)
    assert full.sum() == pytest.approx(1, abs=1e-6)
    twice = correlate1d(correlate1d(plane.astype(np.float64), full, 0, mode="nearest"), full, 1,
                        mode="nearest")
    np.testing.assert_allclose(out, twice, atol=2e-6)


def test_reduce_mean_against_reshape():
    plane = np.random.default_rng(1).random((21, 26), dtype=np.float32)
    out = np.empty((9, 11), np.float32)
    _planes.reduce_mean(plane, 2, 1, 1, np.float32(0.1), np.float32(0.8), out)
    cut = np.clip(plane[1:19, 1:23], 0.1, 0.8).reshape(9, 2, 11, 2)
    np.testing.assert_allclose(out, cut.mean(axis=(1, 3)), atol=1e-6)


def test_scale_maxima_against_a_plain_search():
    from scipy.ndimage import maximum_filter

    stack = np.random.default_rng(2).random((4, 30, 33), dtype=np.float32)
    wide = np.full((30, 33), 0.5, np.float32)
    out = np.empty((500, 3), np.int32)
    n = _planes.scale_maxima(stack, wide, np.float32(1.0), np.float32(0.1), 5, 9, out)
    top = maximum_filter(stack, 3, mode="constant") == stack
    expected = [(y, x, s) for s, y, x in np.argwhere(top & (stack > 0.6))
                if 0 < y < 29 and 0 < x < 32]
    assert n > 5
    assert sorted(map(tuple, out[:n].tolist())) == sorted(expected)


def test_a_plateau_has_one_maximum_wherever_the_block_starts():
    found = set()
    for oy, ox in ((0, 0), (3, 1), (2, 6)):
        stack = np.zeros((2, 20, 20), np.float32)
        stack[:, 9 - oy : 11 - oy, 10 - ox : 12 - ox] = 1
        out = np.empty((9, 3), np.int32)
        n = _planes.scale_maxima(
            stack, stack[0] * 0, np.float32(1), np.float32(0.1), oy, ox, out
        )
        assert n == 1
        found.add((int(out[0, 0]) + oy, int(out[0, 1]) + ox))
    assert len(found) == 1


def plain_trace(h, brown, level, cap, shape):
    """Every closed path is scored by dynamic programming on an unrolled ring, in float64."""
    rays = len(h)
    first, last, side = (int(v) for v in shape[:3])
    gain = np.full((rays, last + 1), -1e9)
    for k in range(rays):
        drops = {}
        for j in range(first, last + 1):
            drops[j] = (h[k, j - side + 1 : j + 1].sum() - h[k, j + 1 : j + 1 + side].sum()) / side
            earlier = max([0.0, *[drops[i] for i in range(first, j - side + 1)]])
            wall = max(0.0, brown[k, first : j + 1].max())
            fill = np.clip(h[k, first : j + 1].astype(np.float64) - level, -cap, cap).sum()
            gain[k, j] = (min(drops[j], cap * shape[7]) - shape[3] * earlier - shape[4] * wall
                          + shape[6] * fill)
        drops_best = max(0.0, *drops.values())
        gain[k, 0] = drops_best  # kept aside for the cost
    cost = shape[5] * gain[:, 0].mean()
    gain[:, :first] = -1e9
    lead, turn = rays // 4, rays + 2 * (rays // 4)
    total, back = gain[0].copy(), []
    for t in range(1, turn):
        step = np.arange(last + 1)[:, None] - np.arange(last + 1)[None]
        reach = np.where(np.abs(step) <= 3, total[None] - cost * step**2, -1e18)
        back.append(reach.argmax(axis=1))
        total = reach.max(axis=1) + gain[t % rays]
    at, radii = int(total.argmax()), np.zeros(rays)
    for t in range(turn - 1, lead - 1, -1):
        if t < lead + rays:
            radii[t % rays] = at
        at = int(back[t - 1][at])
    return radii


def test_trace_against_a_plain_dynamic_programme():
    rng = np.random.default_rng(4)
    shape = np.array([3, 18, 2, 0.5, 1.0, 0.04, 0.1, 1.0], np.float32)
    work = _contours.workspace(22)
    for lanes in (_contours.LANES, 3):
        turn = np.arange(24) / 24 * 4 * np.pi
        edges = [8 + 3 * np.cos(turn + rng.uniform(0, 6)) for _ in range(lanes)]
        h = np.array([0.1 + 0.2 * (np.arange(22) < e[:, None]) for e in edges])
        h = (h + 0.02 * rng.standard_normal(h.shape)).astype(np.float32)
        brown = (0.05 * rng.random(h.shape)).astype(np.float32)
        level = np.linspace(0.17, 0.23, lanes).astype(np.float32)
        cap = np.linspace(0.08, 0.12, lanes).astype(np.float32)
        radii, drops, walls = (np.empty((lanes, 24), np.float32) for _ in range(3))
        rows = [np.ascontiguousarray(p.swapaxes(1, 2)) for p in (h, brown)]
        gain = np.empty(lanes, np.float32)
        _contours.trace(*rows, level, cap, shape, work, radii, drops, walls, gain)
        for c in range(lanes):
            plain = plain_trace(h[c], brown[c], level[c], cap[c], shape)
            np.testing.assert_array_equal(radii[c], plain)
            assert np.abs(radii[c] - edges[c]).mean() < 1.2


def test_ray_measures_against_the_mean_over_pixels():
    y, x = np.mgrid[0:61, 0:61] - 30.0
    h = (0.2 + 0.004 * x + 0.002 * y + 0.1 * (np.hypot(y, x) < 8)).astype(np.float32)
    d = (0.1 + 0.003 * y).astype(np.float32)
    steps = classic._ray_steps(24, 22, 1.0)
    seen = np.empty((2, 22, 24), np.float32)
    for plane, out in zip((h, d), seen, strict=True):
        _contours.sample(plane, np.array([30, 30], np.int32), steps, 22, out)
    out = np.empty(_contours.MEASURES, np.float32)
    _contours.measure_rays(seen[0], seen[1], np.full(24, 10, np.float32), 3, out)
    inside = np.hypot(y, x) <= 10.5
    ring = (np.hypot(y, x) > 10.5) & (np.hypot(y, x) <= 13.5)
    assert out[1] == pytest.approx(h[inside].mean(), abs=0.006)
    assert out[2] == pytest.approx(h[inside].std(), abs=0.008)
    assert out[3] == pytest.approx(d[inside].mean(), abs=0.003)
    assert out[4] == pytest.approx(h[ring].mean(), abs=0.004)
    assert out[5] == pytest.approx(d[ring].mean(), abs=0.003)


def test_centroid_area_elongation_and_recast_against_shapely():
    from shapely.geometry import Polygon

    old, new = classic._rays(24), classic._rays(RAYS)
    radii = (8 + 3 * np.cos(np.arange(24) / 24 * 4 * np.pi)).astype(np.float32)
    shape = Polygon(zip(radii * old[1], radii * old[0], strict=True))
    out = np.empty(3, np.float32)
    _outlines.centroid(radii, old, out)
    assert out[2] == pytest.approx(shape.area, rel=1e-5)
    move = np.array([1.25, -0.5], np.float32)
    again = np.empty(RAYS, np.float32)
    _outlines.recast(radii, old, move, new, again)
    moved = Polygon(zip(again * new[1] + move[1], again * new[0] + move[0], strict=True))
    assert moved.symmetric_difference(shape).area < 0.02 * shape.area
    centre = np.zeros(3, np.float32)
    theta = np.arange(720) / 720 * 2 * np.pi
    ellipse = (1 / np.hypot(np.cos(theta) / 9, np.sin(theta) / 4)).astype(np.float32)
    dense = np.stack([np.sin(theta), np.cos(theta)]).astype(np.float32)
    assert _outlines.long_over_short(ellipse, dense, centre) == pytest.approx(9 / 4, rel=1e-3)


def test_shared_area_against_shapely():
    from shapely.geometry import Point

    rays, angle = classic._rays(24), classic._angles(24.0, 24)
    for gap in (0.0, 4.0, 9.0, 20.0):
        a, b = np.full(24, 7, np.float32), np.full(24, 9, np.float32)
        share = _rivals.inside_share(np.float32(gap), np.float32(0), a, b, rays, angle)
        truth = Point(0, gap).buffer(7).intersection(Point(0, 0).buffer(9)).area / (49 * np.pi)
        assert share == pytest.approx(truth, abs=0.08)


def test_suppress_keeps_the_best_and_is_bounded():
    pairs = np.array([[0, 1], [1, 2], [2, 3]], np.int32)
    score = np.array([0.9, 0.8, 0.7, 0.6], np.float32)
    state = np.zeros(4, np.int8)
    _rivals.suppress(pairs, score, np.arange(4), 2, state)
    assert state.tolist() == [1, 2, 1, 2]
    once = np.zeros(4, np.int8)
    _rivals.suppress(pairs, score, np.arange(4), 1, once)
    assert once.tolist() == [1, 2, 0, 0]
    tied = np.zeros(4, np.int8)
    _rivals.suppress(pairs[:1], score * 0, np.array([5, 7, 0, 0]), 1, tied)
    assert tied.tolist()[:2] == [2, 1]


@pytest.mark.parametrize("known", [False, True])
def test_score_is_a_logistic_function_of_trees_on_the_named_features(known):
    trees = scoring(known)
    assert trees.names == _score.FEATURES + (_score.SLIDE_FEATURES if known else ())
    features = np.random.default_rng(0).random((300, len(trees.names))).astype(np.float32)
    out = np.empty(300, np.float32)
    _score.probability(features, trees.odds(features), out)
    gated = (features[:, 0] < _score.LEAST_EDGE) | (features[:, 6] < _score.LEAST_CONTRAST)
    z = np.array([walk(trees, row) for row in features])
    np.testing.assert_allclose(out, np.where(gated, 0, 1 / (1 + np.exp(-z))), rtol=1e-5)
    assert gated.any()
    assert len(np.unique(out)) > 100


def walk(trees, row):
    """Add the leaves that a row reaches, one tree after the other."""
    total = trees.base
    for root in trees.root:
        node = int(root)
        while trees.child[2 * node] != node:
            node = int(trees.child[2 * node + int(row[trees.feature[node]] > trees.limit[node])])
        total += float(trees.value[node])
    return total


def test_trees_do_not_depend_on_the_rows_beside():
    trees = scoring(True)
    features = np.random.default_rng(1).random((150, len(trees.names))).astype(np.float32)
    whole = trees.odds(features)
    np.testing.assert_array_equal(trees.odds(features[37:91]), whole[37:91])
    assert len(trees.odds(features[:0])) == 0


def test_coarse_blobs_are_tried_where_no_scale_peaks():
    """A plain search: no finest maximum below its floor, every other coarse maximum listed."""
    rng = np.random.default_rng(2)
    stack = rng.random((5, 40, 50)).astype(np.float32)
    wide = np.zeros((40, 50), np.float32)
    out = np.empty((2000, 3), np.int32)
    share, base = np.float32(2.0), np.float32(0.2)
    how = (stack, wide, share, base, 0, 0)
    n = _planes.scale_maxima(*how, out)
    before = {tuple(r) for r in out[:n].tolist()}
    m = _seeds.add_coarse(*how, np.float32(1.8), 2, np.float32(1), out, n)
    listed = [tuple(r) for r in out[:m].tolist()]
    kept = {r for r in before if r[2] or stack[0, r[0], r[1]] > 1.8 * 2.0 * 0.2}
    assert kept < before
    assert set(listed[: len(kept)]) == kept
    taken = {r[:2] for r in kept}
    beside = lambda y, x: any((y + i, x + j) in taken for i in (-1, 0, 1) for j in (-1, 0, 1))  # noqa: E731
    want = []
    for s in (4, 3, 2):
        for y in range(1, 39):
            for x in range(1, 49):
                v = stack[s, y, x]
                peak = v == stack[s, y - 1 : y + 2, x - 1 : x + 2].max() and v > 0.4
                if peak and not beside(y, x):
                    want.append((y, x, s))
                    taken.add((y, x))
    assert want
    assert listed[len(kept) :] == want
    full = out[:n].copy()
    assert _seeds.add_coarse(*how, np.float32(0.0), 2, np.float32(1), full, len(full)) == len(full)


def test_pairs_are_all_those_nearer_than_the_reach():
    rng = np.random.default_rng(3)
    place = rng.integers(0, 4000, (300, 2))
    place = place[np.lexsort((place[:, 1], place[:, 0]))]
    pairs = np.empty((20_000, 2), np.int32)
    n = _rivals.list_near(place, 320**2 - 1, pairs)
    apart = np.hypot(*(place[:, None] - place[None]).transpose(2, 0, 1))
    assert [tuple(p) for p in pairs[:n]] == [
        (i, j) for i in range(300) for j in range(i + 1, 300) if apart[i, j] < 320
    ]
    few = np.full((5, 2), -1, np.int32)
    assert _rivals.list_near(place, 320**2 - 1, few) == n
    np.testing.assert_array_equal(_rivals.near_pairs(place, 320**2 - 1), pairs[:n])
    np.testing.assert_array_equal(few, pairs[:5])


def test_pair_features_against_plain_sums():
    rng = np.random.default_rng(4)
    smooth, dab = (rng.uniform(0, 0.3, (80, 90)).astype(np.float32) for _ in range(2))
    at = np.array([[30, 30], [33, 44]], np.int32)
    place = at.astype(np.int64) * 16 + [[3, -5], [0, 7]]
    radii = rng.uniform(4, 8, (2, 24)).astype(np.float32)
    edges = rng.uniform(0.02, 0.2, (2, 24)).astype(np.float32)
    area, score = np.array([90, 120], np.float32), np.array([0.5, 0.8], np.float32)
    measures = rng.uniform(0.05, 0.3, (2, 9)).astype(np.float32)
    measures[:, 1] += 0.2
    out = np.empty((1, len(_twins.FEATURES)), np.float32)
    finds = at, place, radii, edges, area, measures, score
    _twins.describe_pairs((smooth, dab), finds, np.array([[0, 1]], np.int32), np.float32(0.5), out)
    said = dict(zip(_twins.FEATURES, out[0], strict=True))

    a, b = place / 16
    way = b - a
    steps = [np.floor(a + way * q / 16 + 0.5).astype(int) for q in range(4, 13)]
    between = np.array([smooth[tuple(p)] for p in steps])
    paler, darker = sorted(measures[:, 1])
    contrast = (measures[:, 1] - measures[:, 4]).min()
    assert said["apart"] == pytest.approx(np.hypot(*way) * 0.5)
    assert said["valley_of_paler"] == pytest.approx((paler - between.min()) / contrast, rel=1e-5)
    assert said["between_of_paler"] == pytest.approx((paler - between.mean()) / contrast, rel=1e-4)
    assert said["valley_of_darker"] == pytest.approx((darker - between.min()) / contrast, rel=1e-5)
    assert said["difference"] == pytest.approx((darker - paler) / contrast, rel=1e-4)
    k = round(np.arctan2(*way) / (2 * np.pi) * 24)
    facing = [edges[i][[(m - 1) % 24, m % 24, (m + 1) % 24]].mean() / edges[i].mean()
              for i, m in ((0, k), (1, k + 12))]  # fmt: skip
    assert said["facing_edge_high"] == pytest.approx(max(facing), rel=1e-4)
    assert said["facing_edge_low"] == pytest.approx(min(facing), rel=1e-4)
    assert (said["score_low"], said["score_high"]) == pytest.approx((0.5, 0.8))
    ends = min(dab[tuple(np.floor(p + 0.5).astype(int))] for p in (a, b))
    assert said["brown_between"] == pytest.approx(max(dab[tuple(p)] for p in steps) - ends)


def test_halves_are_joined_only_with_each_other():
    pairs = np.array([[0, 1], [1, 2], [2, 3], [4, 5], [6, 7], [7, 8]], np.int32)
    odds = np.array([1.0, 2.0, 3.0, -0.1, 1.0, 1.0])
    key = np.array([0, 0, 0, 0, 0, 0, 5, 0, 9])
    out = np.empty(10, np.int32)
    _twins.mates(pairs, odds, key, out)
    # 1 would rather have 2, which has 3; 4 and 5 are two nuclei; 7 is torn, and the key decides
    assert out.tolist() == [-1, -1, 3, 2, -1, -1, -1, 8, 7, -1]


def test_hash_spreads_neighbours():
    at = np.stack(np.mgrid[0:40, 0:40], axis=-1).reshape(-1, 2).astype(np.int32)
    keys = _hash.keys(at, 1000, 2000)
    assert len(np.unique(keys)) == len(keys)
    np.testing.assert_array_equal(keys, _hash.keys(at + np.int32(500), 500, 1500))

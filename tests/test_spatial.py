"""Spatial statistics against esda / libpysal, scipy and hand-worked examples."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from her2path.space import spatial
from her2path.space.spatial import _kernels
from her2path.space.spatial.blocks import interval, make_blocks
from her2path.space.spatial.getis import hypergeometric_tails
from tests.point_patterns import smooth_field

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import esda
    import libpysal

N = 400


@pytest.fixture(scope="module")
def points():
    rng = np.random.default_rng(0)
    x, y = rng.uniform(0, 900, (2, N))
    order = spatial.canonical(x, y)
    x, y = x[order], y[order]
    values = smooth_field(rng, x, y, 100.0) + rng.normal(0, 1, N)
    return x, y, values


def oracle_weights(x, y, k, transform="r"):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        w = libpysal.weights.KNN(np.column_stack([x, y]), k=k)
    w.transform = transform
    return w


def oracle(function, *args, **kwargs):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return function(*args, **kwargs)


@pytest.mark.parametrize("k", [4, 8])
def test_moran_equals_esda(points, k):
    x, y, v = points
    theirs = oracle(esda.Moran, v, oracle_weights(x, y, k), permutations=0)
    ours = spatial.moran(v, spatial.knn(x, y, k))
    assert ours.value == pytest.approx(theirs.I, rel=1e-12)
    assert ours.expected == pytest.approx(theirs.EI, rel=1e-12)
    assert ours.variance == pytest.approx(theirs.VI_rand, rel=1e-9)
    assert ours.z == pytest.approx(theirs.z_rand, rel=1e-9)
    assert ours.p_normal == pytest.approx(theirs.p_rand * (2 if theirs.p_rand < 0.25 else 1), rel=1)


def test_geary_equals_esda(points):
    x, y, v = points
    theirs = oracle(esda.Geary, v, oracle_weights(x, y, 6), permutations=0)
    ours = spatial.geary(v, spatial.knn(x, y, 6))
    assert ours.value == pytest.approx(theirs.C, rel=1e-12)
    assert ours.variance == pytest.approx(theirs.VC_rand, rel=1e-9)
    assert ours.z == pytest.approx(-theirs.z_rand, rel=1e-9)


def test_local_moran_equals_esda(points):
    x, y, v = points
    theirs = oracle(esda.Moran_Local, v, oracle_weights(x, y, 8), permutations=0)
    ours = spatial.local_moran(v, spatial.knn(x, y, 8))
    np.testing.assert_allclose(ours.value, theirs.Is, rtol=1e-10, atol=1e-12)
    np.testing.assert_array_equal(ours.quadrant, theirs.q)


def test_local_moran_z_is_the_conditional_permutation_moment(points):
    x, y, v = points
    w = spatial.knn(x, y, 8)
    ours = spatial.local_moran(v, w)
    rng = np.random.default_rng(1)
    i = 17
    others = np.delete(v - v.mean(), i)
    drawn = np.array([rng.choice(others, 8, replace=False).mean() for _ in range(20_000)])
    lag = (v - v.mean())[w.indices[w.indptr[i] : w.indptr[i + 1]]].mean()
    expected = (lag - drawn.mean()) / drawn.std() * np.sign(v[i] - v.mean())
    assert ours.z[i] == pytest.approx(expected, abs=0.05)


def test_gi_star_equals_esda(points):
    x, y, v = points
    w = oracle_weights(x, y, 8, "b")
    theirs = oracle(esda.G_Local, v, w, transform="B", star=True, permutations=0)
    ours = spatial.gi_star(v, spatial.knn(x, y, 8, row_standardised=False))
    np.testing.assert_allclose(ours, theirs.Zs, rtol=1e-10, atol=1e-12)


def test_join_counts_equal_esda(points):
    x, y, v = points
    labels = v > 0.4
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        w = libpysal.weights.DistanceBand(np.column_stack([x, y]), 80.0, binary=True)
        theirs = esda.Join_Counts(labels.astype(int), w, permutations=0)
    ours = spatial.join_counts(labels, spatial.radius(x, y, 80.0))
    assert (ours.bb, ours.bw, ours.ww) == (theirs.bb, theirs.bw, theirs.ww)
    total = ours.expected_bb + ours.expected_bw + ours.expected_ww
    assert total == pytest.approx(theirs.J)


def test_join_counts_by_hand():
    # four cells in a row, B B W W, neighbours within 1.5 µm: joins BB, BW, WW
    w = spatial.radius(np.arange(4.0), np.zeros(4), 1.5)
    counts = spatial.join_counts(np.array([True, True, False, False]), w)
    assert (counts.bb, counts.bw, counts.ww) == (1, 1, 1)
    assert counts.expected_bb == pytest.approx(3 * 2 / 12)


def test_label_test_equals_the_general_formulae(points):
    x, y, v = points
    labels = v > 0.3
    test = spatial.label_test(labels, spatial.neighbours(x, y, 8), 999, seed=3)
    w = spatial.knn(x, y, 8)
    general = spatial.moran(labels.astype(float), w, permutations=999, seed=5)
    joins = spatial.join_counts(labels, w)
    assert test.moran_i == pytest.approx(general.value, rel=1e-12)
    assert test.moran_z == pytest.approx(general.z, rel=0.1)
    assert test.geary_c == pytest.approx(spatial.geary(labels.astype(float), w).value, rel=1e-12)
    assert test.bb == pytest.approx(joins.bb / (w.s0 / 2))
    assert test.bw == pytest.approx(joins.bw / (w.s0 / 2))
    assert test.p_value == general.p_value == 0.001


@pytest.mark.parametrize("k", [1, 3, 8, 15, 64])
def test_bit_planes_equal_the_plain_sums(k):
    rng = np.random.default_rng(k)
    near = rng.integers(0, 150, (150, k)).astype(np.int32)
    lanes = _kernels.random_lanes(150, 37, 9)
    indegree = np.bincount(near.ravel(), minlength=150)
    both, single = _kernels.lane_products(lanes, near, indegree)
    for lane in (0, 1, 31, 63):
        b = ((lanes >> np.uint64(lane)) & np.uint64(1)).astype(np.int64)
        assert b.sum() == 37
        assert both[lane] == (b * b[near].sum(axis=1)).sum()
        assert single[lane] == b[near].sum()


def test_random_lanes_treat_all_points_alike():
    marks = np.zeros(20)
    for seed in range(60):
        lanes = _kernels.random_lanes(20, 3, seed)
        marks += [bin(int(word)).count("1") for word in lanes]
    expected = 60 * 64 * 3 / 20
    assert ((marks - expected) ** 2 / expected).sum() < 45  # chi-squared, 19 degrees of freedom


def test_permutation_p_is_uniform_under_random_labels():
    rng = np.random.default_rng(4)
    x, y = rng.uniform(0, 500, (2, 200))
    near = spatial.neighbours(x, y, 8)
    p = [spatial.label_test(rng.random(200) < 0.3, near, 99, seed=i).p_value for i in range(200)]
    assert 0.01 <= np.mean(np.array(p) <= 0.05) <= 0.10
    assert 0.40 <= np.mean(np.array(p) <= 0.5) <= 0.60


def test_hypergeometric_tails_equal_scipy():
    from scipy.stats import hypergeom

    upper, lower = hypergeometric_tails(100, 30, 25)
    c = np.arange(26)
    np.testing.assert_allclose(upper, hypergeom.sf(c - 1, 100, 30, 25), rtol=1e-9)
    np.testing.assert_allclose(lower, hypergeom.cdf(c, 100, 30, 25), rtol=1e-9)


def test_fdr_equals_scipy(points):
    from scipy.stats import false_discovery_control

    p = np.random.default_rng(0).uniform(0, 1, 300) ** 3
    np.testing.assert_allclose(spatial.benjamini_hochberg(p), false_discovery_control(p))
    assert spatial.benjamini_hochberg(np.zeros(0)).size == 0


def test_no_patches_under_random_labels_of_rare_positives():
    rng = np.random.default_rng(8)
    calls = 0
    for _ in range(40):
        x, y = rng.uniform(0, 600, (2, 900))
        labels = rng.random(900) < 0.03
        near = spatial.neighbours(x, y, 24)
        counts = labels + labels[near].sum(axis=1)
        hot, cold = spatial.hot_and_cold(counts, 25, int(labels.sum()), 0.05)
        calls += bool(hot.any() or cold.any())
    assert calls <= 6


def test_neighbours_equal_sklearn(points):
    from sklearn.neighbors import NearestNeighbors

    x, y, _ = points
    xy = np.column_stack([x, y])
    theirs = NearestNeighbors(n_neighbors=7).fit(xy).kneighbors()[1]
    np.testing.assert_array_equal(spatial.neighbours(x, y, 7), theirs)
    np.testing.assert_array_equal(spatial.neighbours(x, y, 7, workers=2), theirs)


def test_neighbours_with_many_cells_at_one_position():
    x = np.array([0.0] * 9 + [5.0, 6.0])
    near = spatial.neighbours(x, np.zeros(11), 4)
    assert all(i not in row for i, row in enumerate(near))
    with pytest.raises(ValueError, match="do not exist"):
        spatial.neighbours(x, np.zeros(11), 11)


def test_pair_counts_equal_brute_force(points):
    x, y, v = points
    labels = v > 0
    counts = spatial.pair_counts(x, y, labels, 200.0, 10.0)
    d = np.hypot(x[:, None] - x, y[:, None] - y)
    np.fill_diagonal(d, np.inf)
    for name, which in (
        ("all", d < np.inf),
        ("pp", labels[:, None] & labels),
        ("nn", ~labels[:, None] & ~labels),
        ("pn", labels[:, None] & ~labels),
    ):
        expected = np.histogram(d[which & (d < 200)], np.arange(0, 201, 10))[0]
        np.testing.assert_array_equal(getattr(counts, name), expected)
    gamma = [
        0.5 * np.mean(np.subtract.outer(labels.astype(float), labels)[(d >= a) & (d < a + 10)] ** 2)
        for a in range(0, 200, 10)
    ]
    np.testing.assert_allclose(counts.semivariance(), gamma)


def test_pairs_show_no_association_under_random_labels():
    rng = np.random.default_rng(2)
    x, y = rng.uniform(0, 3000, (2, 20_000))
    counts = spatial.pair_counts(x, y, rng.random(20_000) < 0.3, 200.0, 20.0)
    np.testing.assert_allclose(counts.connection(), 1.0, atol=0.05)
    np.testing.assert_allclose(counts.cross_k_ratio(), 1.0, atol=0.05)


def test_cross_k_of_a_random_pattern_is_pi_r2():
    rng = np.random.default_rng(3)
    radii = np.array([20.0, 50.0, 100.0])
    one, two = rng.uniform(0, 1000, (2, 2000)), rng.uniform(0, 1000, (2, 1500))
    window = (0.0, 0.0, 1000.0, 1000.0)
    for second in (None, tuple(two)):
        k = spatial.cross_k(tuple(one), second, radii, window)
        np.testing.assert_allclose(k, np.pi * radii**2, rtol=0.06)


def test_cross_k_by_hand():
    # two points 10 µm apart in a 100 x 100 window: weight 100 * 100 / (90 * 100), two ordered pairs
    k = spatial.cross_k(
        (np.array([40.0, 50.0]), np.array([50.0, 50.0])),
        None,
        np.array([5.0, 10.0]),
        (0, 0, 100, 100),
    )
    np.testing.assert_allclose(k, [0.0, 10_000 * (10_000 / 9_000)])
    one = (np.zeros(1), np.zeros(1))
    assert spatial.cross_k(one, None, np.array([5.0]), (0, 0, 9, 9)) is None


def test_variogram_finds_nugget_and_range():
    rng = np.random.default_rng(6)
    x, y = rng.uniform(0, 2500, (2, 12_000))
    field = smooth_field(rng, x, y, 60.0)
    patches = field > 0.3
    fit = spatial.fit_variogram(spatial.pair_counts(x, y, patches, 400.0, 10.0))
    assert fit.nugget_share < 0.15
    assert 60 < fit.range_um < 300
    mixed = patches ^ (rng.random(x.size) < 0.25)
    noisy = spatial.fit_variogram(spatial.pair_counts(x, y, mixed, 400.0, 10.0))
    assert 0.6 < noisy.nugget_share < 0.9
    none = spatial.fit_variogram(spatial.pair_counts(x, y, rng.random(x.size) < 0.3, 400.0, 10.0))
    assert none.range_um is None
    assert none.reason == "no spatial structure"
    assert none.nugget_share > 0.95


def test_components_equal_scipy(points):
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components
    from scipy.spatial import cKDTree

    x, y, _ = points
    reach = 40.0
    order, keys, columns = _kernels.cell_list(x, y, reach * (1 + 1e-9))
    root = np.empty(N, int)
    root[order] = _kernels.link_components(x[order], y[order], keys, columns, reach)
    pairs = cKDTree(np.column_stack([x, y])).query_pairs(reach, output_type="ndarray")
    graph = coo_array((np.ones(len(pairs)), pairs.T), shape=(N, N))
    count, label = connected_components(graph, directed=False)
    assert np.unique(root).size == count
    assert np.unique(np.column_stack([root, label]), axis=0).shape[0] == count


def test_rectangles_equal_brute_force(points):
    x, y, _ = points
    code = (np.arange(N) % 3).astype(np.int8)
    order, keys, columns = _kernels.cell_list(x, y, 50.0)
    cores = np.array(
        [
            [450, 450, 0.0],
            [100, 800, 1.0],
            [0, 0, 0.8],
            [450, 450, np.pi / 2],
            [899, 450, 0.4],
            [450, 5, 3.1],
        ]
    )
    frame = _kernels.to_records(
        _kernels.FRAME,
        x0=x.min(),
        y0=y.min(),
        size=50.0,
        columns=columns,
        length=400.0,
        width=120.0,
    )

    def count(rows: np.ndarray, draw: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        placed = _kernels.to_records(
            _kernels.CORE, x=rows[:, 0], y=rows[:, 1], angle=rows[:, 2], draw=draw
        )
        fresh = _kernels.to_records(
            _kernels.POINT, x=x[order], y=y[order], code=code[order], taken=-1
        )
        return _kernels.count_rectangles(fresh, keys, frame[()], placed, 4, 3)

    got, stretch = count(cores, np.arange(len(cores)))
    for r, (cx, cy, a) in enumerate(cores):
        t = (x - cx) * np.cos(a) + (y - cy) * np.sin(a)
        u = (y - cy) * np.cos(a) - (x - cx) * np.sin(a)
        inside = (t >= -200) & (t < 200) & (u >= -60) & (u < 60)
        expected = np.zeros((4, 3), int)
        assert inside.sum() > 1
        share = (t - t[inside].min()) / np.ptp(t[inside])
        area = np.minimum((4 * share[inside]).astype(int), 3)
        np.add.at(expected, (area, code[inside]), 1)
        np.testing.assert_array_equal(got[r], expected)
        assert stretch[r] == pytest.approx(np.ptp(t[inside]))
    # two rectangles of one draw at one place: the second finds nothing left
    twice, _ = count(cores[[0, 0]], np.array([0, 0]))
    np.testing.assert_array_equal(twice[0], got[0])
    assert twice[1].sum() == 0


@pytest.mark.parametrize("values", [np.zeros(9), np.full(9, 7.0), np.full(9, 1e9)])
def test_equal_values_have_no_autocorrelation(values):
    w = spatial.knn(np.arange(9.0), np.zeros(9), 2)
    assert spatial.moran(values, w) is None
    assert spatial.geary(values, w) is None
    assert spatial.local_moran(values, w) is None
    assert spatial.gi_star(values, w) is None
    near = spatial.neighbours(np.arange(9.0), np.zeros(9), 2)
    assert spatial.label_test(values > 0, near, 9) is None


def test_isolated_points_have_no_neighbours():
    w = spatial.radius(np.arange(5.0) * 100, np.zeros(5), 10.0)
    assert spatial.moran(np.arange(5.0), w) is None
    assert spatial.join_counts(np.array([True] * 2 + [False] * 3), w) is None


PLACE = st.floats(-1e4, 1e4, allow_subnormal=False)


@given(st.lists(st.tuples(PLACE, PLACE), min_size=1, max_size=60))
@settings(max_examples=60, deadline=None)
def test_every_point_has_one_tile(points):
    x, y = np.array(points).T
    rows, cols = spatial.tiling.unkey(spatial.square_ids(x, y, 70.0))
    assert ((cols * 70.0 <= x) & (x < (cols + 1) * 70.0 + 1e-9)).all()
    assert ((rows * 70.0 <= y) & (y < (rows + 1) * 70.0 + 1e-9)).all()
    rows, cols = spatial.tiling.unkey(spatial.hexagon_ids(x, y, 70.0))
    for px, py, r, c in zip(x, y, rows, cols, strict=True):
        cx, cy = spatial.tiling.hexagon_centre(int(r), int(c), 70.0)
        own = np.hypot(px - cx, py - cy)
        assert own <= 70.0 / np.sqrt(3) + 1e-6
        for dr in (-1, 0, 1):
            for dc in (-1, 0, 1):
                ox, oy = spatial.tiling.hexagon_centre(int(r) + dr, int(c) + dc, 70.0)
                assert own <= np.hypot(px - ox, py - oy) + 1e-6


def test_territory_is_shared_and_additive():
    x, y = np.array([1.0, 2.0, 25.0]), np.array([1.0, 3.0, 1.0])
    np.testing.assert_allclose(spatial.territory_um2(x, y), [200.0, 200.0, 400.0])
    assert spatial.territory_um2(np.zeros(0), np.zeros(0)).size == 0


def test_order_does_not_depend_on_the_rows(points):
    x, y, _ = points
    x, y = np.concatenate([x, x[:20]]), np.concatenate([y, y[:20]])
    tie = np.arange(x.size) % 7
    base = spatial.canonical(x, y, tie)
    shuffle = np.random.default_rng(0).permutation(x.size)
    again = shuffle[spatial.canonical(x[shuffle], y[shuffle], tie[shuffle])]
    for column in (x, y, tie):
        np.testing.assert_array_equal(column[base], column[again])


def test_block_intervals_cover_where_binomial_ones_do_not():
    """The interval holds the generating fraction although neighbours are alike."""
    rng = np.random.default_rng(5)
    held = naive = 0
    for i in range(60):
        x, y = rng.uniform(0, 3000, (2, 3000))
        positive = smooth_field(rng, x, y, 80.0) > 0.5
        truth = 0.3085  # P(Z > 0.5)
        blocks = make_blocks(spatial.square_ids(x, y, 400.0), 200, seed=i)
        sums = np.column_stack([blocks.sums(positive), blocks.sums(np.ones(3000))])
        low, high = interval(blocks, sums, lambda t: t[:, 0] / t[:, 1])
        held += low <= truth <= high
        p = positive.mean()
        naive += abs(p - truth) <= 1.96 * np.sqrt(p * (1 - p) / 3000)
    assert held >= 53
    assert naive <= 40


def test_too_few_blocks_give_no_interval():
    blocks = make_blocks(np.array([0, 1, 2, 3]), 50)
    assert interval(blocks, blocks.sums(np.ones((4, 2))), lambda t: t[:, 0] / t[:, 1]) is None
    assert "4 blocks" in blocks.reason


def test_local_types_are_the_exact_conditional_test():
    """Against local Moran's conditional permutation: p-values of labels are hypergeometric."""
    from scipy.stats import hypergeom

    from her2path.space.spatial.getis import local_types

    rng = np.random.default_rng(11)
    x, y = rng.uniform(0, 900, (2, N))
    labels = (np.hypot(x - 300, y - 300) < 220) ^ (rng.random(N) < 0.03)
    w = spatial.knn(x, y, 8)
    near = labels[w.indices.reshape(N, 8)].sum(axis=1)
    kind = local_types(labels, near, 8, 0.05)
    others = labels.sum() - labels
    low = hypergeom.cdf(near, N - 1, others, 8)
    high = hypergeom.sf(near - 1, N - 1, others, 8)
    p = np.minimum(1, 2 * np.minimum(low, high))
    expected = spatial.benjamini_hochberg(p) <= 0.05
    np.testing.assert_array_equal(kind > 0, expected)
    # the quadrants are local Moran's own
    theirs = spatial.local_moran(labels.astype(float), w).quadrant
    away = np.abs(near - 8 * labels.mean()) > 1
    np.testing.assert_array_equal(kind[expected & away], theirs[expected & away])
    assert (kind[labels & expected] == 1).mean() > 0.9
    # permuted by hand for one cell
    i = int(np.flatnonzero(kind == 1)[0])
    pool = np.delete(labels, i)
    drawn = np.array([rng.choice(pool, 8, replace=False).sum() for _ in range(4000)])
    assert (drawn >= near[i]).mean() == pytest.approx(high[i], abs=0.01)


def test_local_types_find_nothing_in_random_labels():
    from her2path.space.spatial.getis import local_types

    rng = np.random.default_rng(12)
    calls = 0
    for _ in range(30):
        x, y = rng.uniform(0, 600, (2, 500))
        labels = rng.random(500) < 0.3
        near = labels[spatial.neighbours(x, y, 8)].sum(axis=1)
        calls += bool(local_types(labels, near, 8, 0.05).any())
    assert calls <= 5


def test_pairs_by_centre_add_up(points):
    x, y, v = points
    pairs = spatial.pair_counts(x, y, v > 0, 200.0, 10.0)
    assert pairs.by_centre.shape == (N, 5, 20)
    np.testing.assert_array_equal(pairs.by_centre.sum(axis=0)[0], pairs.all)
    np.testing.assert_array_equal(np.sort(pairs.centre), np.arange(N))
    i = int(np.flatnonzero(pairs.centre == 17)[0])
    d = np.hypot(x - x[17], y - y[17])
    expected = np.histogram(np.delete(d, 17), np.arange(0, 201, 10))[0]
    np.testing.assert_array_equal(pairs.by_centre[i, 0], expected)


def test_fits_of_many_variograms_are_those_of_each():
    from her2path.space.spatial.variogram import best_fits

    rng = np.random.default_rng(13)
    edges = np.arange(0, 401, 10.0)
    h = (edges[1:] + edges[:-1]) / 2
    truth = [(0.02, 0.2, 90.0), (0.1, 0.1, 250.0), (0.2, 0.0, 50.0)]
    gamma = np.stack([c0 + c1 * (1 - np.exp(-3 * h / a)) for c0, c1, a in truth])
    noisy = gamma + rng.normal(0, 1e-4, gamma.shape)
    weight = np.full(gamma.shape, 1 / h.size)
    c0, c1, a, loss = best_fits(edges, h, noisy, weight)
    np.testing.assert_allclose(c0, [t[0] for t in truth], atol=0.006)
    np.testing.assert_allclose((c0 + c1)[:2], [0.22, 0.2], atol=0.006)
    np.testing.assert_allclose(a[:2], [90, 250], rtol=0.1)
    for i in range(3):
        one = best_fits(edges, h, noisy[i : i + 1], weight[:1])
        np.testing.assert_allclose([v[0] for v in one], [c0[i], c1[i], a[i], loss[i]])

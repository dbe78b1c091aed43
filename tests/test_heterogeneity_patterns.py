"""Pattern typing on drawn tumours of four layouts."""

from __future__ import annotations

import numpy as np
import pytest

from her2path.core.settings import Settings
from her2path.space.heterogeneity.pattern import error_explains, type_pattern
from her2path.space.spatial import canonical, territory_um2
from tests.point_patterns import LAYOUTS, drawn, nests

SETTINGS = Settings().replace({"heterogeneity.permutations": 99})


def typed(x, y, positive, settings=SETTINGS):
    order = canonical(x, y, positive)
    x, y, positive = x[order], y[order], np.asarray(positive)[order]
    return type_pattern(x, y, positive, territory_um2(x, y), settings)


def hits(layout, seeds):
    return [typed(*drawn(layout, seed)).type == layout for seed in seeds]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts_are_recognised(layout):
    assert all(hits(layout, range(8)))


@pytest.mark.slow
def test_two_hundred_tumours():
    right = {layout: hits(layout, range(100, 150)) for layout in LAYOUTS}
    assert np.mean([v for row in right.values() for v in row]) >= 0.98
    assert np.mean(right["homogeneous"]) >= 0.95


@pytest.mark.parametrize("error", [0.005, 0.02, 0.025])
def test_calling_errors_make_neither_patches_nor_mosaic(error):
    rng = np.random.default_rng(int(error * 1000))
    for seed in range(6):
        x, y = nests(rng, 900)
        wrong = rng.random(x.size) < error
        how = SETTINGS.replace({"heterogeneity.error_rate": 0.03})
        assert typed(x, y, wrong, how).type == "homogeneous", seed
        assert typed(x, y, wrong).type in ("homogeneous", "scattered")
        assert typed(x, y, ~wrong).type == "homogeneous"


def test_p_value_tells_clones_from_random_labels():
    assert typed(*drawn("clustered", 1)).test.p_value == 0.01
    p = [typed(*drawn("mosaic", seed)).test.p_value for seed in range(12)]
    assert sum(v <= 0.05 for v in p) <= 3


@pytest.mark.parametrize(
    ("share", "expected"), [(0.0, "homogeneous"), (0.005, "homogeneous"), (0.08, "scattered"),
                            (0.12, "mosaic"), (0.7, "mosaic"), (0.8, "homogeneous"),
                            (1.0, "homogeneous")]
)  # fmt: skip
def test_order_of_the_questions_without_patches(share, expected):
    rng = np.random.default_rng(7)
    x, y = nests(rng, 1200, share=0.6)
    positive = np.zeros(x.size, bool)
    positive[rng.permutation(x.size)[: round(share * x.size)]] = True
    assert typed(x, y, positive).type == expected


def test_a_clone_of_negative_cells_is_clustered():
    rng = np.random.default_rng(9)
    x, y = nests(rng, 1200, share=0.6)
    few = np.hypot(x - 600, y - 600) < 260
    positive = ~few & (rng.random(x.size) > 0.08)
    assert 0.10 < few.mean() < 0.25
    facts = typed(x, y, positive)
    assert facts.type == "clustered"
    assert "negative cells" in facts.reason


def test_limits_are_settings():
    x, y, positive = drawn("mosaic", 2)
    assert typed(x, y, positive, SETTINGS.replace({"heterogeneity.scattered_at": 0.9})).type == (
        "scattered"
    )
    assert typed(x, y, positive, SETTINGS.replace({"heterogeneity.homogeneous_at": 0.1})).type == (
        "homogeneous"
    )


def test_patches_are_measured():
    rng = np.random.default_rng(4)
    x, y = rng.uniform(0, 1500, (2, 12_000))
    positive = (np.hypot(x - 400, y - 400) < 200) | (np.hypot(x - 1100, y - 1000) < 150)
    facts = typed(x, y, positive)
    patches = facts.extras["patches"]
    assert patches["number"] == 2
    truth = (np.pi * 200**2, np.pi * 150**2)
    np.testing.assert_allclose(patches["area_um2"], truth, rtol=0.2)
    assert facts.hot_share == pytest.approx(positive.mean(), abs=0.02)
    border = 2 * np.pi * 350 / 2.25
    # a staircase is longer than the circle it follows, by 4 / pi
    assert facts.extras["interface_um_per_mm2"] == pytest.approx(border * 4 / np.pi, rel=0.35)


def test_error_explains():
    assert error_explains(0, 100, 0.01) == (True, 1.0)
    assert error_explains(2, 100, 0.01)[0]
    assert not error_explains(20, 100, 0.01)[0]
    assert error_explains(3, 100, 0.0)[0] is False


@pytest.mark.parametrize("layout", LAYOUTS)
def test_phantom_truth_is_typed_as_it_was_made(layout):
    from her2path.phantom import PhantomSpec, make_phantom

    share = {"homogeneous": 0.0, "clustered": 0.35, "mosaic": 0.4, "scattered": 0.06}[layout]
    spec = PhantomSpec(
        seed=3, layout=layout, width_um=800, height_um=700, mpp=1.0, second_fraction=share,
        mixture={"faint_incomplete": 0.7, "none": 0.3},
        second={"intense_complete": 1.0} if share else {},
    )  # fmt: skip
    truth = make_phantom(spec).truth
    tumour = np.array(truth["cell_type"]) == "tumour"
    positive = (np.array(truth["pattern"]) == "intense_complete")[tumour]
    x, y = (np.array(truth[c], float)[tumour] for c in ("x_um", "y_um"))
    assert typed(x, y, positive).type == layout

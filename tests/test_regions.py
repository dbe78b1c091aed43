"""Regions: membership exact, cores numbered, nests linked, figures by hand."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
import shapely

from her2path.core.errors import ManifestError, SettingsError
from her2path.core.schema import PATTERNS, REGIONS, arrow_schema
from her2path.core.settings import Settings
from her2path.space.regions import KINDS, core_row_col, make_regions
from her2path.space.regions.lattice import grid_positions

SETTINGS = Settings().replace({"regions.min_cells": 5})


def cells(x, y, pattern=None, cell_type=None):
    x = np.asarray(x, float)
    words = np.array(PATTERNS)[np.zeros(x.size, int) if pattern is None else pattern]
    table = {"x_um": x, "y_um": np.asarray(y, float), "pattern": words}
    return table if cell_type is None else table | {"cell_type": cell_type}


@pytest.fixture
def tumour():
    rng = np.random.default_rng(0)
    x, y = rng.uniform(0, 1400, (2, 6000))
    kind = np.where(rng.random(6000) < 0.8, "tumour", "other")
    return cells(x, y, rng.choice([0, 1, 4, 6], 6000, p=[0.3, 0.3, 0.2, 0.2]), kind)


@pytest.mark.parametrize("kind", ["grid", "hexagon", "nest", "core", "annotation"])
def test_every_kind_fits_the_schema_and_counts_every_cell_once(tumour, kind):
    polygons = [("left", shapely.box(0, 0, 700, 1400)), ("right", shapely.box(700, 0, 1400, 1400))]
    table, region = make_regions(tumour, kind, SETTINGS, polygons=polygons)
    assert table.schema.equals(arrow_schema(REGIONS), check_metadata=True)
    mine = tumour["cell_type"] == "tumour"
    n = np.bincount(region[mine & (region >= 0)], minlength=table.num_rows)
    assert table["tumour_cells"].to_pylist() == n.tolist()
    assert region.dtype == np.int32
    assert table["region_id"].to_pylist() == list(range(table.num_rows))
    for i, wkb in enumerate(table["polygon"].to_pylist()):
        outline = shapely.from_wkb(wkb)
        own = region == i
        x, y = tumour["x_um"][own], tumour["y_um"][own]
        inside = shapely.intersects_xy(outline.buffer(1e-6), x, y)
        assert outline.is_valid
        assert inside.all()


def test_membership_of_squares_is_half_open():
    x, y = [0, 499.999999, 500, 999, 500], [0, 0, 0, 499, 500]
    table, region = make_regions(cells(x, y), "grid", SETTINGS)
    assert region.tolist() == [0, 0, 1, 1, 2]
    assert table["name"].to_pylist() == ["r0 c0", "r0 c1", "r1 c1"]


def test_a_cell_on_a_common_border_has_one_annotation():
    polygons = [("a", shapely.box(0, 0, 10, 10)), ("b", shapely.box(10, 0, 20, 10))]
    table, region = make_regions(
        cells([5, 10, 15, 25], [5, 5, 5, 5]), "annotation", SETTINGS, polygons=polygons
    )
    assert region.tolist() == [0, 0, 1, -1]
    assert table["name"].to_pylist() == ["a", "b"]


def test_figures_by_hand():
    pattern = [PATTERNS.index("intense_complete")] * 3 + [PATTERNS.index("moderate_complete")] * 7
    table, _ = make_regions(cells(np.arange(10), np.zeros(10), pattern), "grid", SETTINGS)
    row = table.to_pylist()[0]
    assert row["positive_cells"] == 3
    assert row["positive_fraction"] == 0.3
    assert row["positive_low"] == pytest.approx(0.1078, abs=1e-4)
    assert row["positive_high"] == pytest.approx(0.6032, abs=1e-4)
    assert (row["area_class"], row["area_class_certain"]) == ("heterogeneous", False)
    assert row["score"] == "3+"
    assert row["category"] == "positive"
    assert row["h_score"] == pytest.approx(230)
    assert row["fraction_intense_complete"] == 0.3
    assert row["tumour_area_mm2"] == pytest.approx(400e-6)


def test_too_few_cells_have_no_score():
    table, _ = make_regions(cells([1, 2, 3], [1, 1, 1]), "grid", SETTINGS)
    row = table.to_pylist()[0]
    assert (row["score"], row["category"], row["area_class"]) == (None, None, "indeterminate")
    assert row["gi_z"] is None


def test_the_mask_gives_the_tissue_area():
    mask = np.zeros((100, 100), bool)
    mask[:25] = True  # 10 µm pixels: 250 µm of 1000
    table, _ = make_regions(cells([100, 900], [100, 900]), "grid", SETTINGS, tissue=(mask, 10.0))
    assert table["tissue_area_mm2"].to_pylist() == pytest.approx([0.125, 0.0])
    outline, _ = make_regions(cells([100, 900], [100, 900]), "grid", SETTINGS)
    assert outline["tissue_area_mm2"].to_pylist() == pytest.approx([0.25, 0.25])


def test_other_cells_take_their_share_of_the_ground():
    x = [5.0, 6.0, 7.0, 8.0]
    table, _ = make_regions(
        cells(x, x, cell_type=["tumour", "tumour", "tumour", "other"]), "grid", SETTINGS
    )
    assert table["tumour_area_mm2"].to_pylist() == pytest.approx([300e-6])


#: rows, columns, steps across and down, share of the places that hold a core, scatter, and the
#: shift of every other row, the sector gaps after so many columns and rows
ARRAYS = {
    "square": (6, 8, (1000, 1000), 1.0, 40, 0, None),
    "full of holes": (6, 8, (1000, 1000), 0.4, 40, 0, None),
    "large and uneven": (15, 20, (1000, 1000), 0.6, 100, 0, None),
    "wider than high": (5, 6, (1500, 1000), 1.0, 40, 0, None),
    "higher than wide": (5, 6, (1000, 2000), 0.8, 40, 0, None),
    "one row": (1, 8, (1000, 1000), 1.0, 40, 0, None),
    "one column": (8, 1, (1000, 1000), 1.0, 40, 0, None),
    "two cores": (1, 2, (1000, 1000), 1.0, 40, 0, None),
    "rows shifted by half": (6, 8, (1000, 1000), 1.0, 40, 500, None),
    "honeycomb": (6, 8, (1000, 866), 1.0, 40, 500, None),
    "sectors": (8, 12, (1000, 1000), 0.8, 50, 0, (4, 450)),
}


def drawn_array(name, seed):
    """Rows, columns and centres of an array; the first row and column are in use."""
    rows, cols, (across, down), share, scatter, shift, sectors = ARRAYS[name]
    rng = np.random.default_rng([seed, len(name)])
    row, col = (v.ravel() for v in np.meshgrid(np.arange(rows), np.arange(cols), indexing="ij"))
    keep = (rng.random(row.size) < share) | (row == 0) | (col == 0)
    row, col = row[keep], col[keep]
    x, y = across * col + shift * (row % 2), down * row
    if sectors:
        x, y = x + sectors[1] * (col // sectors[0]), y + sectors[1] * (row // sectors[0])
    return row, col, np.column_stack([x, y]) + rng.normal(0, scatter, (row.size, 2))


@pytest.mark.parametrize("angle", [-0.6, -0.3, 0.0, 0.05, 0.12, 0.5])
@pytest.mark.parametrize("name", ARRAYS)
def test_cores_are_numbered_on_any_grid(name, angle):
    if name == "honeycomb" and abs(angle) > 0.2:
        angle /= 3  # it looks the same after 30 degrees: beyond 15 the numbering is another one
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    for seed in range(3):
        row, col, centres = drawn_array(name, seed)
        r, c = grid_positions(centres @ turn)
        np.testing.assert_array_equal(r, row)
        np.testing.assert_array_equal(c, col)


def test_rows_and_columns_without_a_core_keep_their_number():
    row, col = (v.ravel() for v in np.meshgrid([0, 1, 3, 4], [0, 2, 3, 6], indexing="ij"))
    r, c = grid_positions(np.column_stack([1000.0 * col, 1000.0 * row]))
    np.testing.assert_array_equal(r, row)
    np.testing.assert_array_equal(c, col)


def test_pieces_of_a_broken_core_share_its_place():
    row, col, centres = drawn_array("square", 7)
    pieces = centres[[3, 20]] + [[0.0, 320.0], [-330.0, 60.0]]
    r, c = grid_positions(np.concatenate([centres, pieces]))
    np.testing.assert_array_equal(r, np.concatenate([row, row[[3, 20]]]))
    np.testing.assert_array_equal(c, np.concatenate([col, col[[3, 20]]]))


def test_no_core_and_one_core():
    assert [v.tolist() for v in grid_positions(np.zeros((0, 2)))] == [[], []]
    assert [v.tolist() for v in grid_positions(np.ones((1, 2)))] == [[0], [0]]


def core_cells(rng, centres, radius=280.0, n=900):
    r, a = radius * np.sqrt(rng.random((2, n)))[0], rng.uniform(0, 2 * np.pi, (len(centres), n))
    x = np.concatenate([cx + r * np.cos(t) for (cx, _), t in zip(centres, a, strict=True)])
    y = np.concatenate([cy + r * np.sin(t) for (_, cy), t in zip(centres, a, strict=True)])
    return x, y


@pytest.mark.parametrize("with_mask", [True, False])
def test_cores_are_found_in_tissue_or_cells(with_mask):
    rng = np.random.default_rng(2)
    places = [(r, c) for r in range(2) for c in range(3) if (r, c) != (0, 1)]
    centres = [(500 + 1000 * c, 600 + 1000 * r) for r, c in places]
    x, y = core_cells(rng, centres)
    tissue = None
    if with_mask:
        gx, gy = np.meshgrid(np.arange(400) * 8 + 4, np.arange(280) * 8 + 4)
        mask = np.zeros(gx.shape, bool)
        for cx, cy in centres:
            mask |= np.hypot(gx - cx, gy - cy) < 290
        mask[150:152, 5:8] = True  # a crumb
        tissue = (mask, 8.0)
    table, region = make_regions(cells(x, y), "core", SETTINGS, tissue=tissue)
    assert table["name"].to_pylist() == ["A1", "A3", "B1", "B2", "B3"]
    assert (region >= 0).mean() > 0.99
    assert table["tissue_area_mm2"][0].as_py() == pytest.approx(np.pi * 0.285**2, rel=0.1)
    assert [core_row_col(n) for n in ("A1", "B3", "AA12")] == [(1, 1), (2, 3), (27, 12)]


def test_nests_are_linked_cells():
    x = [0, 25, 50, 75, 100, 131, 300, 310, 320, 330, 340, 900]
    table, region = make_regions(cells(x, np.zeros(12)), "nest", SETTINGS)
    # 31 µm between 100 and 131: not linked; one or two cells are no nest
    assert region.tolist() == [0] * 5 + [-1] + [1] * 5 + [-1]
    assert table["name"].to_pylist() == ["nest 1", "nest 2"]


def test_nests_do_not_depend_on_the_rows(tumour):
    shuffle = np.random.default_rng(3).permutation(len(tumour["x_um"]))
    one, region_one = make_regions(tumour, "nest", SETTINGS)
    two, region_two = make_regions({k: v[shuffle] for k, v in tumour.items()}, "nest", SETTINGS)
    assert one.equals(two)
    np.testing.assert_array_equal(region_one[shuffle], region_two)


def test_hot_regions_stand_out():
    rng = np.random.default_rng(5)
    x, y = rng.uniform(0, 3000, (2, 20_000))
    hot = np.hypot(x - 750, y - 750) < 600
    pattern = np.where(rng.random(20_000) < np.where(hot, 0.8, 0.1), 6, 0)
    table, _ = make_regions(cells(x, y, pattern), "grid", SETTINGS)
    z = np.array(table["gi_z"].to_pylist())
    p = np.array(table["positive_fraction"].to_pylist())
    assert z[p > 0.6].min() > 2.5
    assert np.corrcoef(z, p)[0, 1] > 0.7


def test_gastric_biopsy_regions_look_for_clusters():
    settings = SETTINGS.replace({"score.guideline": "gastric_biopsy"})
    x = np.concatenate([np.arange(5) * 10.0, np.arange(60) * 8.0])
    y = np.concatenate([np.zeros(5), np.full(60, 300.0)])
    pattern = np.array([PATTERNS.index("intense_incomplete")] * 5 + [0] * 60)
    table, _ = make_regions(cells(x, y, pattern), "grid", settings)
    assert table["score"].to_pylist() == ["3+"]
    assert table["positive_cells"].to_pylist() == [5]
    scattered, _ = make_regions(cells(x * 5, y, pattern), "grid", settings)
    assert "3+" not in scattered["score"].to_pylist()


def test_pyarrow_pandas_and_dict_agree(tumour):
    import pandas as pd

    one, region = make_regions(tumour, "grid", SETTINGS)
    words = pa.array(tumour["pattern"]).dictionary_encode()
    arrow = pa.table(tumour).set_column(2, "pattern", words)
    for table in (arrow, pd.DataFrame(tumour)):
        two, again = make_regions(table, "grid", SETTINGS)
        assert one.equals(two)
        np.testing.assert_array_equal(region, again)


@pytest.mark.parametrize("kind", KINDS)
def test_no_cells_give_an_empty_table(kind):
    table, region = make_regions(
        cells([], []), kind, SETTINGS, polygons=[("a", shapely.box(0, 0, 1, 1))]
    )
    assert region.size == 0
    assert table.num_rows == (1 if kind == "annotation" else 0)


def test_errors_name_what_is_wrong():
    with pytest.raises(SettingsError, match="Valid: grid"):
        make_regions(cells([1], [1]), "circle", SETTINGS)
    with pytest.raises(SettingsError, match="--annotations"):
        make_regions(cells([1], [1]), "annotation", SETTINGS)
    with pytest.raises(ManifestError, match="'y_um'"):
        make_regions({"x_um": [1.0], "pattern": ["none"]}, "grid", SETTINGS)
    with pytest.raises(ManifestError, match="row 2"):
        make_regions(cells([1, np.nan], [1, 1]), "grid", SETTINGS)
    with pytest.raises(ManifestError, match="'brown'"):
        make_regions({"x_um": [1.0], "y_um": [1.0], "pattern": ["brown"]}, "grid", SETTINGS)


def test_hot_regions_are_told_under_one_false_discovery_rate():
    from scipy.stats import false_discovery_control, norm

    from her2path.space.regions.table import area_gi_q

    z = [3.5, None, -0.2, 2.1, -4.0]
    known = np.array([v for v in z if v is not None])
    expected = false_discovery_control(2 * norm.sf(np.abs(known)))
    q = area_gi_q(z)
    assert q[1] is None
    np.testing.assert_allclose([v for v in q if v is not None], expected)
    assert area_gi_q([None]) == [None]

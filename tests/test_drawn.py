"""The generators of drawings: one protocol, one shape of the answer; and how they are judged."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from her2path.core.schema import PATTERNS
from her2path.core.settings import Settings
from her2path.phantom import TUMOURS
from scripts.evaluate import comparison, drawings, other_drawings
from scripts.evaluate.comparison import ControlNotEvaluableError
from scripts.phantoms.drawn import TRUTH_COLUMNS, Drawn
from scripts.phantoms.generators import GENERATORS
from scripts.phantoms.jpeg import through_jpeg
from scripts.phantoms.mixtures import draw_mixture

STRENGTH = Settings().membrane.measure


@pytest.mark.parametrize("name", GENERATORS)
def test_every_generator_keeps_to_the_protocol(name: str) -> None:
    generator = GENERATORS[name]
    style = generator.STYLES[0]
    one, again = (generator.draw(4, style, TUMOURS["2+"], 90.0) for _ in range(2))
    np.testing.assert_array_equal(one.rgb, again.rgb)
    assert one.truth.equals(again.truth)
    other = generator.draw(5, style, TUMOURS["2+"], 90.0)
    assert not np.array_equal(one.rgb[:50, :50], other.rgb[:50, :50])
    assert one.rgb.dtype == np.uint8
    side = one.rgb.shape[0] * one.mpp
    assert one.rgb.shape == (one.rgb.shape[0], one.rgb.shape[0], 3)
    assert abs(side - 90.0) < 1.0
    t = one.columns()
    assert set(TRUTH_COLUMNS) <= set(t)
    assert set(t["cell_type"]) <= {"tumour", "lymphocyte", "stroma"}
    assert set(t["pattern"]) <= {*PATTERNS, None}
    at = one.at()
    assert ((at >= 0) & (at <= side)).all()


def test_a_truth_without_a_column_is_refused() -> None:
    table = pa.table({"x_um": [1.0], "y_um": [1.0], "pattern": ["none"], "has_nucleus": [True]})
    with pytest.raises(ValueError, match="lacks cell_type"):
        Drawn(np.zeros((4, 4, 3), np.uint8), 0.25, table)


def _drawn(x: list[float], y: list[float]) -> Drawn:
    n = len(x)
    table = pa.table({"x_um": x, "y_um": y, "cell_type": ["tumour"] * n, "pattern": ["none"] * n,
                      "has_nucleus": [True] * n})  # fmt: skip
    return Drawn(np.zeros((40, 80, 3), np.uint8), 0.5, table)  # 40 by 20 µm


def test_cells_at_the_edge_are_told_apart() -> None:
    drawn = _drawn([5.0, 5.1, 34.9, 35.0, 20.0], [10.0, 10.0, 10.0, 10.0, 15.0])
    assert drawn.away_from_edge(5.0).tolist() == [False, True, True, False, False]


def test_a_jpeg_gives_back_about_what_it_was_given() -> None:
    rgb = np.full((32, 48, 3), (180, 120, 60), np.uint8)
    for halved in (False, True):
        again = through_jpeg(rgb, 95, halved=halved)
        assert again.shape == rgb.shape
        assert np.abs(again.astype(int) - rgb).max() <= 3


def test_mixtures_have_known_patterns_and_weights_that_add_up() -> None:
    for seed in range(50):
        mixture = draw_mixture(np.random.default_rng(seed))
        assert set(mixture) <= set(PATTERNS)
        assert all(w > 0.005 for w in mixture.values())
        assert 0.96 < sum(mixture.values()) < 1 + 1e-9


def _cells(strength: list[float], kind: str = "tumour") -> pa.Table:
    return pa.table({"cell_type": [kind] * len(strength), STRENGTH: strength})


def test_cutoffs_lie_between_the_medians_of_the_controls() -> None:
    level = {"faint": 0.04, "moderate": 0.16, "intense": 0.64}
    cells = {k: _cells([0.0, 0.0, 0.0, v, v, 9.0 * v]) for k, v in level.items()}
    found = comparison.control_cutoffs(cells.get, Settings())
    assert found == pytest.approx((0.02, 0.08, 0.32))


@pytest.mark.parametrize(
    ("moderate", "why"),
    [(None, "is not evaluable"), (_cells([0.0, 0.0]), "shows no stained tumour cell"),
     (_cells([0.5], "stroma"), "shows no stained tumour cell"), (_cells([]), "shows no stained")],
)  # fmt: skip
def test_a_control_that_tells_nothing_is_named(moderate: pa.Table | None, why: str) -> None:
    cells = {"faint": _cells([0.1]), "moderate": moderate, "intense": _cells([0.9])}
    with pytest.raises(ControlNotEvaluableError, match=f"the moderate control {why}"):
        comparison.control_cutoffs(cells.get, Settings())


def test_a_control_that_is_not_evaluable_leaves_its_slides_out(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(drawings, "run", lambda *_: (None, None, None))
    monkeypatch.setattr("sys.argv", ["drawings", "--seeds", "1", "2", "--size-um", "100"])
    drawings.main()
    told = capsys.readouterr().out
    assert told.count("the faint control is not evaluable") == 2
    assert "evaluable: 0 of 2" in told
    assert "score right: 0 of 0" in told


def test_other_drawings_leave_out_what_has_no_controls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(other_drawings, "score", lambda *_: (None, None))
    rows = other_drawings.evaluate(lambda _: _drawn([5.0], [5.0]), Settings())
    assert [r["mixture"] for r in rows] == list(TUMOURS)
    assert {r["score"] for r in rows} == {None}
    assert {r["why"] for r in rows} == {"the faint control is not evaluable"}

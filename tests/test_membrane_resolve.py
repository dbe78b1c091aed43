"""Shared lines are attributed jointly: hand-made nests of hexagonal cells."""

from __future__ import annotations

import io

import numpy as np
import pytest
from scipy.spatial import cKDTree

from her2path import membrane
from her2path.membrane import _inputs, _joint, _network, attribution
from her2path.membrane._inputs import PLACES
from her2path.membrane._lines import LOOK_STEP_UM
from her2path.membrane._looks import MIDDLE
from her2path.membrane._network import LOOK_TAPS
from her2path.membrane.columns import RAW_COLUMNS, pack
from her2path.membrane.rays import looks_of
from her2path.membrane.weights import read
from her2path.settings import MembraneSettings

MPP_A = 0.5
APOTHEM = 6.0
TURN = np.arange(48) * (2 * np.pi / 48)


def hexagons(rings: int, apothem: float = APOTHEM) -> np.ndarray:
    """Centres (µm) of a hexagonal nest; the middle one first."""
    span = range(-rings, rings + 1)
    at = [(q, r) for q in span for r in span if abs(q + r) <= rings]
    at.sort(key=lambda c: (max(abs(c[0]), abs(c[1]), abs(c[0] + c[1])), c))
    pitch = 2 * apothem
    return np.array([(pitch * (q + r / 2), pitch * r * np.sqrt(3) / 2) for q, r in at]) + 200.0


def nest(centres: np.ndarray, own: np.ndarray, apothem: float = APOTHEM) -> dict[str, np.ndarray]:
    """Raw table of hexagonal cells whose own masses (N, 48) add up on shared lines."""
    n = len(centres)
    radius = apothem / np.cos((TURN % (np.pi / 3)) - np.pi / 6)
    # flat sides face the six neighbours: side s covers the rays around s * 60 degrees
    radius = np.roll(radius, -4)
    mass = own.copy()
    for i in range(n):
        for s in range(6):
            side = np.array([np.cos(s * np.pi / 3), np.sin(s * np.pi / 3)])
            far = np.hypot(*(centres - centres[i] - 2 * apothem * side).T)
            j = np.flatnonzero(far < 2.0)
            if j.size:
                for t in range(-4, 4):
                    mass[i, (8 * s + t) % 48] += own[j[0], (8 * s + 24 - t) % 48]
    full = np.ones((n, 48), np.float32)
    fx = np.rint(centres * 16 / MPP_A).astype(np.int64)
    return {
        "cell_id": fx[:, 1] * (1 << 30) + fx[:, 0],
        "x_fx": fx[:, 0],
        "y_fx": fx[:, 1],
        "line_r": pack("line_r", (radius * full).astype(np.float32)),
        "line_mass": pack("line_mass", mass.astype(np.float32)),
        "line_crest": pack("line_crest", (mass * 0.6).astype(np.float32)),
        "line_width": pack("line_width", 1.6 * full),
        "line_ridge": pack("line_ridge", full),
        "line_edge": pack("line_edge", 2.0 * full),
        "line_kind": np.ones((n, 48), np.uint8),
        "line_look": looks(mass, 0.01),
        "cytoplasm_od": np.full(n, 0.02, np.float32),
        "line_noise": np.full(n, 0.01, np.float32),
        "line_mpp": np.full(n, 0.25, np.float32),
    }


def looks(mass: np.ndarray, noise: float) -> np.ndarray:
    """Looks of plain lines of so much mass (N, 48), 1.2 µm wide, 2 µm outside the nuclei.

    Dark brown saturates, as it does in eight bits.
    """
    off = (np.arange(LOOK_TAPS) - MIDDLE) * LOOK_STEP_UM
    line = np.exp(-4 * np.log(2) * (off / 1.2) ** 2) / (1.2 * 1.0645)
    read = 0.5 * mass + 0.25 * (np.roll(mass, 1, 1) + np.roll(mass, -1, 1))
    dab = 0.02 + 1.6 * np.tanh(read[:, ::2, None] * line / 1.6)
    dab = dab + 0.6 * noise * np.random.default_rng(0).normal(size=dab.shape)
    nucleus = 0.05 + 0.3 / (1 + np.exp((2.0 - np.abs(off)) / 0.25))
    seen = np.stack([nucleus - 0.1 * dab, dab], axis=1)
    return looks_of(seen.astype(np.float32), np.full(len(mass), noise, np.float32))


def solve(raw: dict[str, np.ndarray], core: np.ndarray | None = None) -> dict[str, np.ndarray]:
    core = np.ones(raw["cell_id"].size, bool) if core is None else core
    return membrane.resolve(raw, MPP_A, core, MembraneSettings())


def rough(mass: np.ndarray, seed: int, share: float = 0.15) -> np.ndarray:
    return mass * np.random.default_rng(seed).lognormal(0, share, mass.shape)


def test_the_hand_made_table_has_every_raw_column() -> None:
    raw = nest(hexagons(1), np.zeros((7, 48)))
    assert {c.name for c in RAW_COLUMNS} <= set(raw)


def test_unstained_nest_is_unstained() -> None:
    found = solve(nest(hexagons(2), np.zeros((19, 48))))
    assert not found["completeness"].any()
    assert not found["membrane_od"].any()
    assert not found["uncertain"].any()


def test_a_lone_ring_is_complete_and_keeps_its_mass() -> None:
    found = solve(nest(hexagons(0), rough(np.full((1, 48), 0.5), 1)))
    assert found["completeness"][0] > 0.95
    assert found["membrane_mass"][0] == pytest.approx(0.5, rel=0.1)
    assert found["shared_fraction"][0] == 0


@pytest.mark.parametrize("start", [0, 11, 30])
def test_half_a_ring_is_half_complete(start: int) -> None:
    own = np.zeros((1, 48))
    own[0, (start + np.arange(24)) % 48] = 0.4
    found = solve(nest(hexagons(0), rough(own, 2)))
    assert found["completeness"][0] == pytest.approx(0.5, abs=0.08)


def test_two_intense_cells_share_one_line_and_each_reports_its_own_part() -> None:
    centres = hexagons(1)[:2]
    raw = nest(centres, np.full((2, 48), 1.6))
    assert raw["line_mass"].max() == pytest.approx(3.2 * 4000, rel=0.01)
    found = solve(raw)
    assert (found["completeness"] > 0.9).all()
    assert found["membrane_mass"] == pytest.approx([1.6, 1.6], rel=0.12)


def test_negative_beside_one_intense_cell_stays_negative() -> None:
    own = np.zeros((7, 48))
    own[0] = 2.0
    found = solve(nest(hexagons(1), rough(own, 3)))
    assert found["completeness"][0] > 0.9
    assert (found["completeness"][1:] < 0.05).all()


@pytest.mark.parametrize("seed", range(5))
def test_negative_in_the_middle_of_six_intense_cells_stays_negative(seed: int) -> None:
    own = np.full((7, 48), 2.0)
    own[0] = 0
    found = solve(nest(hexagons(1), rough(own, seed)))
    assert found["completeness"][0] < 0.05
    assert (found["completeness"][1:] > 0.9).all()


@pytest.mark.parametrize("seed", range(3))
def test_intense_nest_stays_intense_with_its_own_completeness(seed: int) -> None:
    own = np.full((19, 48), 2.0)
    own[0, 10:28] = 0  # 18 of 48 rays bare, in the middle of the nest
    found = solve(nest(hexagons(2), rough(own, seed)))
    assert (found["completeness"][1:] > 0.85).all()
    assert found["completeness"][0] == pytest.approx(30 / 48, abs=0.15)
    assert np.median(found["membrane_mass"]) == pytest.approx(2.0, rel=0.15)


def test_faint_beside_intense_is_told_by_its_free_border_or_called_uncertain() -> None:
    own = np.full((7, 48), 2.0)
    own[0] = 0.08
    found = solve(nest(hexagons(1), rough(own, 4)))
    assert found["completeness"][0] < 0.1
    assert found["uncertain"][0]


def test_nuclear_edges_are_no_evidence_unless_strong() -> None:
    raw = nest(hexagons(0), np.full((1, 48), 0.12))
    assert solve(raw)["completeness"][0] > 0.9
    raw["line_edge"] = np.zeros_like(raw["line_edge"])
    assert solve(raw)["completeness"][0] == 0
    strong = nest(hexagons(0), np.full((1, 48), 0.9))
    strong["line_edge"] = np.zeros_like(strong["line_edge"])
    assert solve(strong)["completeness"][0] > 0.9


def test_texture_hides_weak_lines() -> None:
    raw = nest(hexagons(0), np.full((1, 48), 0.08))
    raw["line_noise"][:] = 0.08
    raw["line_look"] = looks(np.full((1, 48), 0.08), 0.08)
    assert solve(raw)["completeness"][0] == 0


def test_more_stain_never_reads_less() -> None:
    od, mass = [], []
    for strength in (0.06, 0.1, 0.2, 0.4, 0.8, 1.6):
        found = solve(nest(hexagons(1), np.full((7, 48), strength)))
        od.append(found["membrane_od"][0])
        mass.append(found["membrane_mass"][0])
    assert (np.diff(od) > 0).all()
    assert (np.diff(mass) > 0).all()


def draw_tissue(seed: int, apothem: float) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    centres = hexagons(int(150 / apothem), apothem)
    centres = centres + rng.normal(0, 0.3, centres.shape)
    own = rng.choice([0.0, 0.1, 0.4, 1.8], (len(centres), 1)) * np.ones((1, 48))
    own *= rng.random((len(centres), 48)) < 0.8
    return nest(centres, rough(own, seed, 0.3), apothem)


@pytest.mark.parametrize("apothem", [6.0, 11.4])
def test_any_cut_with_the_reach_around_it_gives_the_same_bits(apothem: float) -> None:
    raw = draw_tissue(5, apothem)
    whole = solve(raw)
    x, y = raw["x_fx"] * MPP_A / 16, raw["y_fx"] * MPP_A / 16
    rng = np.random.default_rng(6)
    for _ in range(4):
        x0, y0 = rng.uniform(80, 260, 2)
        core = (x >= x0) & (x < x0 + 60) & (y >= y0) & (y < y0 + 60)
        reach = membrane.REACH_UM
        near = (x >= x0 - reach) & (x < x0 + 60 + reach)
        near &= (y >= y0 - reach) & (y < y0 + 60 + reach)
        assert core.any()
        assert not near.all()
        part = rng.permutation(np.flatnonzero(near))
        found = solve({k: v[part] for k, v in raw.items()}, core[part])
        chosen = part[core[part]]
        for name, values in found.items():
            assert np.array_equal(values, whole[name][chosen]), name


def test_nothing_in_nothing_out() -> None:
    raw = nest(hexagons(1), np.zeros((7, 48)))
    empty = solve({k: v[:0] for k, v in raw.items()})
    assert all(v.size == 0 for v in empty.values())
    none = solve(raw, np.zeros(7, bool))
    assert none.keys() == empty.keys()


def squashed(x: np.ndarray) -> np.ndarray:
    return x / np.sqrt(1 + x * x)


def test_a_round_equals_plain_matrices() -> None:
    rng = np.random.default_rng(7)
    n, states, hidden, places = 3, _network.STATES, _network.HIDDEN, PLACES
    m, length = rng.random((n, places)), np.full((n, places), 1 / places)
    sd, a = np.full(n, 0.02), rng.random(n) + 0.1
    partner = np.full((n, places), -1, np.int32)
    partner[0, :10], partner[1, 11:21] = places + np.arange(20, 10, -1), np.arange(9, -1, -1)
    overlap = np.where(partner >= 0, 0.7, 0.0)
    fixed = rng.normal(0, 1, (n, hidden, places)).astype(np.float32)
    h = rng.uniform(-1, 1, (n, states, places)).astype(np.float32)
    names = ("bias", "moving", "talk", "last", "last_bias")
    weights = tuple(rng.normal(0, 0.3, _network.SHAPES[n]).astype(np.float32) for n in names)
    new_h, new_a = np.empty_like(h), np.empty(n)
    data = (m, length, sd, partner, overlap, fixed)
    _network.take_round(1, data, (h, a), weights, np.ones(n, bool), (new_h, new_a))

    bias, moving, talk, last, last_bias = (w[1] for w in weights)
    h = h.transpose(0, 2, 1)
    has = (partner >= 0)[..., None]
    j, s = np.maximum(partner, 0) // places, np.maximum(partner, 0) % places
    own, other = a[:, None] + 1e-3, np.where(has[..., 0], a[j], 0.0) + 1e-3
    part = overlap * (0.5 + 0.5 * h[j, s, 0]) * a[j]
    rest = m - part
    x = np.stack(
        [
            (m + 1e-3) / (m + 1e-3 + own),
            (m + 1e-3) / (m + part + 2e-3),
            own / (own + other),
            (m + 1e-3) / (m + a[:, None] + part + 2e-3),
            np.repeat((a / (a + 3 * sd))[:, None], places, 1),
            rest / (abs(rest) + a[:, None] + sd[:, None]),
            (m + 1e-3) / (m + 1e-3 + other),
            (m + 1e-3) / (m + own + other - 1e-3 + 1e-3),
        ],
        axis=-1,
    )
    mean = h.mean(axis=1)
    near = (np.roll(h, 1, 1) + np.roll(h, -1, 1)) / 2
    far = sum(np.roll(h, t, 1) + np.roll(h, -t, 1) for t in (2, 3)) / 4
    z = fixed.transpose(0, 2, 1) + bias + x @ moving
    z = z + h @ talk[0] + near @ talk[1] + far @ talk[2]
    z = z + has * (h[j, s] @ talk[3] + mean[j] @ talk[5]) + (mean @ talk[4])[:, None]
    expected = squashed(np.maximum(z, 0) @ last + last_bias)
    assert new_h.transpose(0, 2, 1) == pytest.approx(expected, abs=1e-4)
    trust = length * (0.52 + 0.5 * expected[..., 1]) * (0.5 + 0.5 * expected[..., 0])
    strength = (trust * m * own / (own + part)).sum(1) / (trust.sum(1) + 1e-4)
    assert new_a == pytest.approx(strength, abs=1e-4)


def test_thinning_is_a_weighted_mean_round_every_second_ray() -> None:
    counts = np.random.default_rng(3).integers(-90, 900, (4, 48)).astype(np.int16)
    out = np.empty((4, PLACES))
    _inputs.thin(counts, 0.01, 0.0, out)
    value = np.maximum(counts * 0.01, 0.0)
    expected = 0.5 * value + 0.25 * (np.roll(value, 1, 1) + np.roll(value, -1, 1))
    assert out == pytest.approx(expected[:, ::2])


def test_marks_are_shares_of_the_rays() -> None:
    kind = np.zeros((1, 48), np.uint8)
    kind[0, [0, 1, 47]], kind[0, 2] = 1, 6
    edge, crest = np.full((1, PLACES), 2.0), np.full((1, PLACES), 0.1)
    edge[0, 5] = edge[0, 6] = 0.3
    crest[0, 6] = 0.5
    line, limit, behind, doubtful = (np.empty((1, PLACES)) for _ in range(4))
    _inputs.thin_marks(kind, edge, crest, np.array([0.25]), (line, limit, behind, doubtful))
    assert line[0, :3].tolist() == [1.0, 0.25, 0.0]
    assert limit[0, :3].tolist() == behind[0, :3].tolist() == [0.0, 0.5, 0.0]
    assert np.flatnonzero(doubtful).tolist() == [5]


def test_weights_of_another_shape_are_refused() -> None:
    arrays = {name: np.zeros(shape, np.float32) for name, shape in _network.SHAPES.items()}
    arrays["says"] = arrays["says"][:, :1]
    file = io.BytesIO()
    np.savez(file, **arrays)
    with pytest.raises(ValueError, match="says must be of shape"):
        read(file.getvalue())


def test_lengths_of_a_ring_add_up_to_its_perimeter() -> None:
    lengths = _joint.ring_lengths(np.full((1, PLACES), 5.0))
    assert lengths.sum() == pytest.approx(PLACES * 2 * 5.0 * np.sin(np.pi / PLACES))
    assert np.ptp(lengths) < 1e-9


def around(far_um: float, evidence: float, others: float) -> bool:
    """Tell whether a cell is stained that has eight cells at a distance, with their evidence."""
    turn = np.arange(8) * np.pi / 4
    um = np.stack([np.cos(turn), np.sin(turn)]) * far_um + 100.0
    x, y = (np.rint(np.append(v, 100.0) * 16).astype(np.int64) for v in um)
    at = x, y, 1 / 16, attribution.CONTEXT_UM
    core = np.ones(9, np.bool_)
    return bool(attribution._stained(np.append(np.full(8, others), evidence), at, core)[-1])


def test_rare_staining_asks_for_stronger_evidence() -> None:
    weak, strong = 0.4, 1.5  # log odds
    assert not around(12.0, weak, -6.0)
    assert around(12.0, strong, -6.0)
    assert around(12.0, weak, 6.0)
    # where three in four are stained no weaker evidence will do, where nearly all are it will
    assert not around(12.0, -weak, 1.0)
    assert around(12.0, -weak, 6.0)
    # but what is plainly unstained stays so among any others
    assert not around(12.0, -3.5, 20.0)
    # what lies beyond does not count, and too few cells tell nothing
    assert around(40.0, weak, -6.0)


def test_company_is_that_of_a_tree() -> None:
    rng = np.random.default_rng(3)
    x, y = rng.integers(-4000, 9000, (2, 700))
    value, wanted = rng.integers(0, 1 << 20, 700), rng.random(700) < 0.6
    count, total = _joint.company(x, y, 0.25 / 16, 30.0, wanted, value)
    near = cKDTree(np.column_stack([x, y])).query_ball_point(
        np.column_stack([x, y]), 30.0 / (0.25 / 16)
    )
    for i, js in enumerate(near):
        others = [j for j in js if j != i]
        assert count[i] == (len(others) if wanted[i] else 0)
        assert total[i] == (value[others].sum() if wanted[i] else 0)

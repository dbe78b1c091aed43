"""The rule engine: biopsy clusters, properties, user rule sets, words."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

import her2path
from her2path.core.errors import NotEvaluable, SettingsError, UsageError
from her2path.core.schema import INTENSITY, PATTERNS
from her2path.core.settings import load_settings
from her2path.scoring import guidelines
from her2path.scoring.guidelines import Mix
from her2path.scoring.guidelines.grammar import GROUPS, parse_condition

NAMES = guidelines.names()
BY_COUNT = [n for n in NAMES if not guidelines.rule_set(n).needs_clusters]
CONFIGS = Path(__file__).parents[1] / "configs"


def chain(n, step=20.0, pattern="intense_complete", start=0.0):
    return {
        "pattern": np.array([pattern] * n, dtype=object),
        "x_um": start + step * np.arange(n),
        "y_um": np.zeros(n),
    }


def joined(*tables):
    return {k: np.concatenate([t[k] for t in tables]) for k in tables[0]}


# --- biopsy clusters ---------------------------------------------------------------------------

BIOPSY = [
    ("cluster of 5", chain(5), "3+"),
    ("cluster of 4", chain(4), "0"),
    ("five cells at the link distance exactly", chain(5, 25.0), "3+"),
    ("five cells just too far apart", chain(5, 25.001), "0"),
    ("4 intense and 1 moderate make a moderate cluster",
     joined(chain(4), chain(1, pattern="moderate_complete", start=80.0)), "2+"),
    ("4 intense and 1 faint make a faint cluster",
     joined(chain(4), chain(1, pattern="faint_incomplete", start=80.0)), "1+"),
    ("an unstained cell does not link",
     joined(chain(3), chain(1, pattern="none", start=60.0), chain(2, start=80.0)), "0"),
    ("a faint cell does not link intense ones",
     joined(chain(3), chain(1, pattern="faint_complete", start=60.0), chain(2, start=80.0)), "1+"),
    ("lateral staining counts", chain(5, pattern="intense_incomplete"), "3+"),
    ("moderate lateral", chain(5, pattern="moderate_incomplete"), "2+"),
    ("faint", chain(5, pattern="faint_complete"), "1+"),
    ("unstained", chain(5, pattern="none"), "0"),
    ("two clusters of 4", joined(chain(4), chain(4, start=500.0)), "0"),
    ("5 cells in 2000 are enough", joined(chain(5), chain(2000, 30.0, "none", 1000.0)), "3+"),
    ("100 scattered intense cells are not", chain(100, 40.0), "0"),
    ("five cells at one point", chain(5, 0.0), "3+"),
]  # fmt: skip


@pytest.mark.parametrize(("table", "ihc"), [c[1:] for c in BIOPSY], ids=[c[0] for c in BIOPSY])
def test_biopsy(table, ihc):
    found = guidelines.score_cells(table, "gastric_biopsy")
    assert found.ihc == ihc
    stained = (table["pattern"] != "none").mean() > 0.01
    assert ("STAINED_WITHOUT_CLUSTER" in found.flags) == (ihc == "0" and stained)


def test_biopsy_cluster_size_and_link_are_settings():
    four = load_settings(None, ["score.cluster_cells=4"])
    near = load_settings(None, ["score.cluster_link_um=15"])
    assert guidelines.score_cells(chain(4), "gastric_biopsy", four).ihc == "3+"
    assert guidelines.score_cells(chain(5), "gastric_biopsy", near).ihc == "0"


def test_biopsy_counts_tumour_cells_only():
    table = chain(5) | {"cell_type": np.array(["tumour"] * 4 + ["other"], dtype=object)}
    assert guidelines.score_cells(table, "gastric_biopsy").ihc == "0"


def test_biopsy_needs_positions():
    with pytest.raises(UsageError, match="clusters"):
        guidelines.score({"intense_complete": 50}, "gastric_biopsy")
    with pytest.raises(UsageError, match="x_um"):
        guidelines.score_cells({"pattern": ["none"] * 5}, "gastric_biopsy")
    sizes = {"faint": 9, "moderate": 5, "intense": 4}
    assert guidelines.score({"intense_complete": 50}, "gastric_biopsy", clusters=sizes).ihc == "2+"


def oracle_sizes(x, y, intensity, link):
    out = [len(x)]
    for level in (1, 2, 3):
        keep = intensity >= level
        points = np.column_stack([x[keep], y[keep]])
        if not len(points):
            out.append(0)
            continue
        pairs = cKDTree(points).query_pairs(link, output_type="ndarray")
        graph = coo_matrix((np.ones(len(pairs)), pairs.T), shape=(len(points),) * 2)
        out.append(int(np.bincount(connected_components(graph, directed=False)[1]).max()))
    return out


@pytest.mark.parametrize("seed", range(6))
def test_clusters_equal_scipy(seed):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 600))
    x, y = rng.uniform(-200, 300, n), rng.uniform(0, 400, n)
    level = rng.integers(0, 4, n)
    found = guidelines.largest_clusters(x, y, level, 20.0)
    assert found.tolist() == oracle_sizes(x, y, level, 20.0)


@pytest.mark.parametrize("seed", range(4))
def test_cluster_levels_equal_cutting_again(seed):
    rng = np.random.default_rng(seed)
    n = 250
    x, y = rng.uniform(0, 300, n), rng.uniform(0, 300, n)
    measure = rng.uniform(0, 1, n).round(2)
    top = guidelines.cluster_levels(x, y, measure, 25.0, 5)
    for cut in (0.2, 0.5, 0.7, 0.9):
        keep = np.flatnonzero(measure >= cut)
        pairs = cKDTree(np.column_stack([x, y])[keep]).query_pairs(25.0, output_type="ndarray")
        graph = coo_matrix((np.ones(len(pairs)), pairs.T), shape=(len(keep),) * 2)
        label = connected_components(graph, directed=False)[1]
        inside = np.zeros(n, dtype=bool)
        inside[keep] = np.bincount(label)[label] >= 5
        assert np.array_equal(top >= cut, inside)


# --- properties --------------------------------------------------------------------------------

mixes = st.lists(st.integers(0, 60), min_size=7, max_size=7).filter(lambda m: sum(m) > 0)
floors = st.sampled_from([0, 0.005, 0.01, 0.05, 0.2])
ORDER = {"0": 0, "1+": 1, "2+": 2, "3+": 3}
VERDICT = {"null": 0, "ultralow": 1, "negative": 1, "low": 1, "equivocal": 2, "positive": 3}


def stronger(p, q):
    """Whether q is at least as intense and at least as complete as p."""
    complete = q.endswith("_complete") or not p.endswith("_complete")
    return INTENSITY[q] >= INTENSITY[p] and complete and p != q


RISES = [(p, q) for p in PATTERNS for q in PATTERNS if stronger(p, q)]


@settings(max_examples=300, deadline=None)
@given(mix=mixes, rise=st.sampled_from(RISES), moved=st.integers(1, 60), floor=floors)
def test_more_staining_never_lowers_the_score(mix, rise, moved, floor):
    chosen = load_settings(None, [f"score.noise_floor={floor}"])
    before = dict(zip(PATTERNS, mix, strict=True))
    moved = min(moved, before[rise[0]])
    after = before | {rise[0]: before[rise[0]] - moved, rise[1]: before[rise[1]] + moved}
    for name in BY_COUNT:
        low, high = (guidelines.score(m, name, chosen) for m in (before, after))
        assert ORDER[low.ihc] <= ORDER[high.ihc], name
        assert VERDICT[low.category] <= VERDICT[high.category], name


@settings(max_examples=100, deadline=None)
@given(mix=mixes, floor=floors)
def test_every_mix_gets_exactly_one_score(mix, floor):
    chosen = load_settings(None, [f"score.noise_floor={floor}"])
    for name in BY_COUNT:
        rules = guidelines.rule_set(name)
        index = guidelines.rule_indices(rules, Mix(np.array([mix])), chosen.score)
        assert 0 <= index[0] < len(rules.rules)
        found = guidelines.score(dict(zip(PATTERNS, mix, strict=True)), name, chosen)
        assert found.ihc == rules.rules[int(index[0])].score
        assert (found.substate is not None) == (found.ihc == "0" and rules.substates)


@settings(max_examples=100, deadline=None)
@given(mix=mixes, factor=st.integers(2, 1000))
def test_only_shares_matter(mix, factor):
    for name in BY_COUNT:
        one = guidelines.score(dict(zip(PATTERNS, mix, strict=True)), name)
        many = guidelines.score({p: k * factor for p, k in zip(PATTERNS, mix, strict=True)}, name)
        assert (one.ihc, one.category, one.rule) == (many.ihc, many.category, many.rule)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), angle=st.floats(0, 6.28))
def test_order_and_rotation_change_nothing(seed, angle):
    rng = np.random.default_rng(seed)
    n = 150
    x, y = rng.uniform(0, 400, n), rng.uniform(0, 400, n)
    pattern = np.array(PATTERNS, dtype=object)[rng.integers(0, 7, n)]
    swap = rng.permutation(n)
    turned = (np.cos(angle) * x - np.sin(angle) * y, np.sin(angle) * x + np.cos(angle) * y)
    one = {"pattern": pattern, "x_um": x, "y_um": y}
    two = {"pattern": pattern[swap], "x_um": turned[0][swap], "y_um": turned[1][swap]}
    for name in NAMES:
        assert guidelines.score_cells(one, name) == guidelines.score_cells(two, name)


def test_a_mix_is_compared_exactly():
    floor = 0.012345678901
    chosen = load_settings(None, [f"score.noise_floor={floor}"])
    exact = Fraction(str(floor))
    n = 10**9
    at = int(exact * n)
    above = guidelines.score({"faint_incomplete": at + 1, "none": n - at - 1}, settings=chosen)
    below = guidelines.score({"faint_incomplete": at, "none": n - at}, settings=chosen)
    assert (above.substate, below.substate) == ("ultralow", "null")


def test_floor_zero_sees_one_cell():
    chosen = load_settings(None, ["score.noise_floor=0"])
    assert guidelines.score({"faint_incomplete": 1, "none": 9999}, settings=chosen).substate == (
        "ultralow"
    )
    assert guidelines.score({"none": 9999}, settings=chosen).substate == "null"


# --- tables, errors ----------------------------------------------------------------------------


def test_tables_of_every_kind_agree():
    pandas = pytest.importorskip("pandas")
    words = ["intense_complete"] * 20 + ["none"] * 80 + ["moderate_complete"] * 50
    kinds = ["tumour"] * 100 + ["other"] * 50
    frame = pandas.DataFrame({"pattern": words, "cell_type": kinds})
    arrow = pa.table(
        {
            "pattern": pa.array(words).dictionary_encode(),
            "cell_type": pa.array(kinds).dictionary_encode(),
        }
    )
    chunked = pa.concat_tables([arrow.slice(0, 70), arrow.slice(70)])
    codes = {"pattern": np.array([PATTERNS.index(w) for w in words]), "cell_type": np.array(kinds)}
    frame_of_categories = frame.astype("category")
    wanted = guidelines.score_cells(frame)
    for table in (arrow, chunked, codes, frame_of_categories, arrow.to_pydict()):
        assert guidelines.score_cells(table) == wanted
    assert wanted.ihc == "3+"
    assert wanted.fractions["intense_complete"] == 0.2
    assert wanted.model_dump()["h_score"] == 60.0
    assert her2path.score_cells(frame) == wanted
    assert guidelines.h_score(arrow) == 60.0


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ({"patern": ["none"]}, "no column pattern"),
        ({"pattern": ["none", "strong"]}, "row 1, column pattern: 'strong'"),
        ({"pattern": ["none", None]}, "row 1, column pattern"),
        ({"pattern": np.array([0, 7])}, "row 1, column pattern"),
        ({"pattern": ["none"], "cell_type": ["tumor"]}, "row 0, column cell_type"),
        ({"none": -1}, "count of none"),
        ({"none": 1.5}, "count of none"),
        ({"none": "x"}, "count of none"),
        ({"strong": 1}, "'strong' is no pattern"),
        (17, "not a table"),
    ],
)
def test_bad_tables_name_the_place(table, words):
    with pytest.raises(UsageError, match=words):
        guidelines.score_cells(table)


@pytest.mark.parametrize("table", [{"none": 0}, {"pattern": []}, {}])
def test_no_cells_are_not_evaluable(table):
    with pytest.raises(NotEvaluable, match="no tumour cells"):
        guidelines.score_cells(table)


def test_unknown_guideline_lists_the_valid_ones():
    with pytest.raises(SettingsError, match=r"Did you mean asco_cap_2018.*endometrial_serous"):
        guidelines.score({"none": 1}, "asco_cap_2081")


def test_unknown_ish_status():
    with pytest.raises(UsageError, match="amplified"):
        guidelines.score({"none": 1}, ish_status="amplified")


def test_pattern_scores():
    assert guidelines.pattern_score("intense_incomplete", "asco_cap_2018") == 2
    assert guidelines.pattern_score("intense_incomplete", "heracles") == 3
    assert guidelines.positive_definition("asco_cap_2013") == ("intense_complete",)
    assert guidelines.positive_definition("endometrial_serous") == (
        "intense_complete",
        "intense_incomplete",
    )


# --- what-if, trace, words ---------------------------------------------------------------------


def test_what_if_has_a_row_for_every_rule_set():
    rows = guidelines.what_if(joined(chain(20), chain(80, pattern="none", start=1000.0)))
    assert [r["guideline"] for r in rows] == list(NAMES)
    by_name = {r["guideline"]: r for r in rows}
    assert by_name["asco_cap_2007"]["ihc"] == "2+"
    assert by_name["asco_cap_2018"]["ihc"] == "3+"
    assert by_name["gastric_biopsy"]["ihc"] == "3+"
    assert (by_name["heracles"]["ihc"], by_name["heracles"]["category"]) == ("3+", "equivocal")
    assert all(r["reason"] is None for r in rows)


def test_what_if_without_positions_says_why():
    rows = {r["guideline"]: r for r in guidelines.what_if({"intense_complete": 20, "none": 80})}
    assert rows["gastric_biopsy"]["ihc"] is None
    assert "clusters" in rows["gastric_biopsy"]["reason"]
    assert rows["asco_cap_2013"]["ihc"] == "3+"


def test_the_trace_can_be_followed():
    found = guidelines.score({"moderate_complete": 150, "none": 850})
    assert found.rule == "moderate complete in > 10 %"
    assert found.trace[0] == "ASCO/CAP 2018, breast: 1000 tumour cells, noise floor 1 %"
    assert found.trace[1] == "1. 3+ if intense complete in > 10 % [0 of 1000, 0.00%]: no"
    assert found.trace[3].endswith("[150 of 1000, 15.00%]: yes, so 2+")
    assert found.trace[-1] == "category equivocal: ISH is due"


def test_the_rule_names_the_alternative_that_held():
    focal = guidelines.score({"intense_complete": 50, "none": 950}, "asco_cap_2013")
    assert focal.rule == "intense complete in > 1 % (noise floor)"
    weak = guidelines.score({"faint_complete": 100, "none": 900}, "asco_cap_2007")
    assert weak.rule == "faint + moderate + intense complete in >= 10 %"


def test_the_score_is_printed_first_and_never_replaced():
    for name in NAMES:
        for mix in (chain(200), chain(200, pattern="none"), chain(200, 20, "faint_incomplete")):
            found = guidelines.score_cells(mix, name)
            lines = guidelines.report_text(found)
            assert lines[0].startswith(f"HER2 IHC score: {found.ihc} ")
            assert found.ihc in lines[0]


def test_2023_comments_on_0_against_1():
    low, null = {"faint_incomplete": 500, "none": 500}, {"none": 1000}
    for mix in (low, null):
        new = " ".join(guidelines.report_text(guidelines.score(mix, "asco_cap_2023")))
        old = " ".join(guidelines.report_text(guidelines.score(mix, "asco_cap_2018")))
        assert "0 from 1+" in new
        assert "0 from 1+" not in old
    strong = guidelines.report_text(guidelines.score({"intense_complete": 9}, "asco_cap_2023"))
    assert not any("0 from 1+" in line for line in strong)
    line = next(x for x in guidelines.report_text(guidelines.score(low)) if "HER2-low" in x)
    assert line.startswith("Beside the score")


def test_equivocal_text_asks_for_ish_until_it_is_there():
    mix = {"moderate_complete": 500, "none": 500}
    due = guidelines.report_text(guidelines.score(mix))
    assert any("ISH is due" in line for line in due)
    done = guidelines.report_text(guidelines.score(mix, ish_status="negative"), None, "negative")
    assert "HER2 ISH: negative" in done
    assert not any("is due" in line for line in done)


# --- rule sets ---------------------------------------------------------------------------------

OWN = """
name: my_lab
title: My laboratory
year: 2026
source: internal procedure 12
groups:
  strong: [intense_complete, intense_incomplete]
rules:
  - {score: 3+, when: "strong >= 25 %"}
  - {score: 2+, when: "strong > floor or moderate + strong > 10 % and any > 30 %"}
  - {score: 1+, when: "any > 10 %"}
  - {score: "0"}
flags:
  - {code: PALE, when: "faint > 50 %", at: ["1+"]}
"""


def test_a_users_rule_set(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(OWN, encoding="utf-8")
    assert guidelines.score({"intense_incomplete": 25, "none": 75}, path).ihc == "3+"
    assert guidelines.score({"moderate_complete": 20, "none": 80}, str(path)).ihc == "1+"
    both = {"moderate_complete": 20, "faint_complete": 20, "none": 60}
    assert guidelines.score(both, path).ihc == "2+"
    pale = guidelines.score({"faint_complete": 60, "none": 40}, path)
    assert (pale.ihc, pale.flags) == ("1+", ("PALE",))
    stored = guidelines.score(both, path)
    assert stored.guideline == "my_lab"
    # its report needs no rule set file
    assert guidelines.report_text(stored)[0].startswith("HER2 IHC score: 2+ (My laboratory; ")


def test_a_rule_set_that_extends(tmp_path):
    path = tmp_path / "words.yml"
    path.write_text("extends: asco_cap_2023\nname: house_2023\ncomments: {'null': No staining.}\n")
    rules = guidelines.load_rule_set(path)
    found = guidelines.score({"none": 500}, rules)
    text = guidelines.report_text(found, rules)
    assert "Comment: No staining." in text
    assert any("0 from 1+" in line for line in text)


BAD = [
    ("unknown field", OWN + "colour: red\n", "no field colour"),
    ("taken name", OWN.replace("my_lab", "heracles"), "name heracles is taken"),
    ("no rules", "name: x1\ntitle: t\nyear: 2020\nsource: s\n", "rules: Field required"),
    ("unknown pattern", OWN.replace("any > 10 %", "brown > 10 %"), "rule 3: 'brown' is no pattern"),
    ("no limit", OWN.replace("any > 10 %", "any"), "rule 3: 'any' is not a comparison"),
    ("share above 1", OWN.replace("any > 10 %", "any > 110 %"), "rule 3: '110 %'"),
    ("number without %", OWN.replace("any > 10 %", "any > 10"), "rule 3: '10' is not a share"),
    ("twice", OWN.replace("any > 10 %", "any + faint > 10 %"), "counts a pattern twice"),
    ("falling", OWN.replace("any > 10 %", "any < 10 %"), "rule 3.*could lower the score"),
    ("not upward closed", OWN.replace("any > 10 %", "faint > 10 %"), "rule 3.*could lower"),
    ("scores rise", OWN.replace("score: 1+", "score: 3+"), "must fall"),
    ("no last rule", OWN.replace('{score: "0"}', '{score: "0", when: "any > 1 %"}'), "rule 4"),
    ("early otherwise", OWN.replace(', when: "any > 10 %"', ""), "rule 3: the last rule"),
    ("substate", OWN.replace('{score: "0"}', '{score: "0", substate: "null"}'), "substate"),
    ("bad cluster", OWN.replace("any > 10 %", "cluster(brown) >= 5 cells"), "cluster\\(brown\\)"),
    ("cluster share", OWN.replace("any > 10 %", "cluster(any) >= 5 %"), "number of cells"),
    ("flag", OWN.replace("faint > 50 %", "pale > 50 %"), "flag PALE: 'pale'"),
    ("group named as pattern", OWN.replace("strong:", "none:"), "group 'none'"),
    ("not YAML", "name: [", "not valid YAML"),
    ("a list", "- 1\n", "not a table"),
    ("aliases", "name: &a x1\ntitle: *a\n", "aliases"),
    ("tags", "name: !!python/object/apply:os.getcwd []\n", "not valid YAML"),
    ("unknown parent", "extends: nobody\nname: x1\n", "extends names no shipped"),
    ("parent without name", "extends: heracles\n", "name is missing"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "words"), [b[1:] for b in BAD], ids=[b[0] for b in BAD])
def test_a_faulty_rule_set_says_what_is_wrong(tmp_path, text, words):
    path = tmp_path / "bad.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(SettingsError, match=words) as caught:
        guidelines.load_rule_set(path)
    assert "\n" not in str(caught.value)


def test_rule_set_files_that_cannot_be_read(tmp_path):
    with pytest.raises(SettingsError, match="cannot be read"):
        guidelines.load_rule_set(tmp_path / "none.yaml")
    (tmp_path / "big.yaml").write_text("#" * 70_000)
    with pytest.raises(SettingsError, match="64 KiB"):
        guidelines.load_rule_set(tmp_path / "big.yaml")
    (tmp_path / "latin.yaml").write_bytes(b"name: \xff\xfe\xfa")
    with pytest.raises(SettingsError, match="UTF-8"):
        guidelines.load_rule_set(tmp_path / "latin.yaml")


def test_every_rule_set_names_its_source_and_year():
    for name in NAMES:
        rules = guidelines.rule_set(name)
        assert rules.source
        assert str(rules.year) in rules.title + rules.source
        assert rules.rules[-1].when is None
        breast = "asco" in name or "international" in name
        assert rules.pattern_scores()["intense_incomplete"] == (2 if breast else 3)


def test_and_binds_before_or():
    condition = parse_condition("any > 10 % or faint > 1 % and intense > 2 %", GROUPS)
    assert [len(clause) for clause in condition] == [1, 2]


# --- ready settings ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["default", *NAMES])
def test_ready_settings_load(name):
    chosen = load_settings(CONFIGS / f"{name}.yaml")
    guideline = "asco_cap_2018" if name == "default" else name
    assert chosen.score.guideline == guideline
    wanted = guidelines.positive_definition(guideline)
    assert (chosen.heterogeneity.positive or wanted) == wanted


def test_default_settings_are_the_defaults():
    assert load_settings(CONFIGS / "default.yaml") == load_settings()


@pytest.mark.parametrize(
    ("mix", "ihc", "stratum", "category"),
    [
        ({"none": 100}, "0", "0", "null"),
        ({"none": 95, "faint_incomplete": 5}, "0", "0+", "ultralow"),
        ({"none": 80, "faint_incomplete": 20}, "1+", "1+", "low"),
        ({"none": 80, "moderate_complete": 20}, "2+", "2+", "equivocal"),
        ({"none": 80, "intense_complete": 20}, "3+", "3+", "positive"),
    ],
)
def test_international_prints_five_strata_by_the_rules_of_2018(mix, ihc, stratum, category):
    found = guidelines.score(mix, "international_2026")
    assert (found.ihc, found.stratum, found.category) == (ihc, stratum, category)
    old = guidelines.score(mix, "asco_cap_2018")
    assert (old.ihc, old.substate, old.category) == (found.ihc, found.substate, found.category)
    assert old.stratum == old.ihc
    assert guidelines.report_text(found)[0].startswith(f"HER2 IHC score: {stratum} (")

"""Agreement of readers: from reads to the tree that ``agreement.json`` holds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from her2path.core.errors import UsageError
from her2path.io.reads import ISH, PROGRAM, Read
from her2path.scoring.agreement import several
from her2path.scoring.agreement.differences import Comparison, compare
from her2path.scoring.agreement.draws import Draws, add_figure, add_figures, make_draws
from her2path.scoring.agreement.onest import onest
from her2path.scoring.agreement.pairwise import (
    Figure,
    Figures,
    binary,
    lower_end,
    moments,
    pair,
    ratio,
)
from her2path.scoring.agreement.panel import Panel, make_panel, repeats
from her2path.scoring.agreement.scale import CUTOFFS
from her2path.scoring.agreement.sums import by_case, pair_moments, pair_tables

__all__ = ["AgreeOptions", "measure"]

#: figures that a pair with ISH cannot have: ISH has two classes
_SCORES_ONLY = tuple(pair(np.full((4, 4), np.nan)))
#: elements of one block of features
_ROOM = 30_000_000
#: 95 % of a normal distribution lie within so many standard deviations
_Z95 = 1.96


@dataclass(frozen=True)
class AgreeOptions:
    """How agreement is measured.

    Attributes
    ----------
    draws : int
        Bootstrap draws over cases.
    seed : int
        Of the draws.
    margin : float
        Non-inferiority margin of differences.
    compare : tuple of Comparison
        Differences to give beside those that the readers suggest.
    """

    draws: int = 2000
    seed: int = 0
    margin: float = 0.05
    compare: tuple[Comparison, ...] = ()

    def __post_init__(self) -> None:
        if not 100 <= self.draws <= 100_000:
            raise UsageError(f"{self.draws} draws are outside 100 to 100000", "Give --draws 2000")
        if not 0 <= self.margin <= 1:
            raise UsageError(f"the margin {self.margin:g} is outside 0 to 1", "Give --margin 0.05")
        if self.seed < 0:
            raise UsageError("the seed is negative", "Give 0 or a whole number above")


def measure(
    reads: Sequence[Read],
    options: AgreeOptions | None = None,
    strata: Mapping[str, Mapping[str, str]] | None = None,
) -> dict[str, Any]:
    """Return all figures of agreement.

    Parameters
    ----------
    reads : sequence of Read
        Of readers, of ``reference`` and of ``her2path``.
    options : AgreeOptions, optional
        Draws, seed, margin, comparisons.
    strata : mapping, optional
        Column to case to value: every value's cases are measured by themselves too.

    Returns
    -------
    dict
        As ``agreement.json``; see docs/agreement.md.

    Raises
    ------
    UsageError
        For a single reader, a single case, or readers who have read nothing in common.
    """
    how = options or AgreeOptions()
    panel = make_panel(reads)
    again, pairs_again = repeats(reads)
    _check(panel, bool(pairs_again))
    tree: dict[str, Any] = {"readers": _readers(panel, reads), "cases": len(panel.cases),
            "items": len(panel.case_of),
            "settings": {"draws": how.draws, "seed": how.seed, "confidence": 0.95,
                         "margin": how.margin}}  # fmt: skip
    tree |= _figures(panel, how)
    intra: list[dict[str, Any]] = []
    if again is not None:
        draws = make_draws(len(again.cases), how.draws, how.seed)
        found = _pairs(again, draws, [(p.a, p.b) for p in pairs_again])
        for p, figures in zip(pairs_again, found, strict=True):
            intra.append(
                {
                    "reader": p.reader,
                    "first": p.first,
                    "second": p.second,
                    **{k: v for k, v in figures.items() if k not in "ab"},
                }
            )
    tree["intra"] = intra
    tree["strata"] = _strata(panel, how, strata or {})
    return tree


def _check(panel: Panel, repeated: bool) -> None:
    if len(panel.cases) < 2:
        raise UsageError("there is one case only", "Give reads of at least two cases")
    known = panel.score >= 0
    if not known.any():
        raise UsageError("no read has a score", "Fill in the column score")
    alone = len(panel.readers) < 2 and not (panel.ish >= 0).any()
    if alone and not repeated:
        raise UsageError(f"{panel.readers[0]} is the only reader",
                         "Add reads of another reader, read_no, ish, or --results OUT")  # fmt: skip
    together = (known.sum(1) >= 2).any() or (known.any(1) & (panel.ish >= 0)).any()
    if not together and not repeated:
        raise UsageError("no two readers have read the same case",
                         "Check case_id, slide_id and region_id")  # fmt: skip


def _readers(panel: Panel, reads: Sequence[Read]) -> list[dict[str, Any]]:
    known = panel.score >= 0
    scores = [{str(k): int((panel.score[:, j] == k).sum()) for k in range(4)}
              for j in range(len(panel.readers))]  # fmt: skip
    total = Counter(r.reader for r in reads if r.score is not None)
    return [{"reader": name, "items": int(known[:, j].sum()), "missing": int((~known[:, j]).sum()),
             "reads": total[name], "scores": scores[j]}
            for j, name in enumerate(panel.readers)]  # fmt: skip


def _figures(panel: Panel, how: AgreeOptions, inside: bool = False) -> dict[str, Any]:
    """Return pairs, all, differences and ONEST of a panel; a stratum goes without comparisons."""
    draws = make_draws(len(panel.cases), how.draws, how.seed)
    columns = list(combinations(range(len(panel.readers)), 2))
    tree: dict[str, Any] = {"pairs": _ish_pairs(panel, draws) + _pairs(panel, draws, columns)}
    people = panel.people
    tree["all"] = _all(panel, draws, people)
    program = panel.at(PROGRAM)
    tree["all_with_program"] = None if program is None else _all(panel, draws, [*people, program])
    tree["differences"] = compare(panel, draws, how.margin, () if inside else how.compare)
    if not inside:
        tree["onest"] = (onest(panel.score[:, people], panel.case_of, draws, how.seed)
                         if len(people) >= 2 else None)  # fmt: skip
    return tree


# -- two readers -------------------------------------------------------------------------------


def _pairs(panel: Panel, draws: Draws, columns: list[tuple[int, int]]) -> list[dict[str, Any]]:
    block = max(1, min(64, _ROOM // (16 * max(1, len(panel.cases)))))
    found = []
    for at in range(0, len(columns), block):
        found += _block(panel, draws, columns[at : at + block])
    return found


def _block(panel: Panel, draws: Draws, columns: list[tuple[int, int]]) -> list[dict[str, Any]]:
    first, second = (list(side) for side in zip(*columns, strict=True))
    case_of = panel.case_of
    tables = pair_tables(draws, case_of, panel.score[:, first], panel.score[:, second], (4, 4))
    figures = pair(tables)
    # without a single null or ultralow read there is nothing to divide
    if ((panel.low == 0) | (panel.low == 1)).any():
        low = pair_tables(draws, case_of, panel.low[:, first], panel.low[:, second], (3, 3))
        figures |= lower_end(low)
    rows: list[dict[str, Any]] = []
    tables_found = []
    for i, (a, b) in enumerate(columns):
        table = tables[..., i, 0].astype(int)
        rows.append({"a": panel.readers[a], "b": panel.readers[b], "n": int(table.sum())})
        tables_found.append(table.tolist())
    for path, figure in figures.items():
        add_figures(rows, path, figure)
    for i, row in enumerate(rows):
        for name, cut in row["cutoffs"].items():
            cut["n"] = row["n"] if name in CUTOFFS else int(low[..., i, 0].sum())
        row["table"] = tables_found[i]
    for name, v in panel.values.items():
        found = _measured(draws, case_of, v[:, first], v[:, second])
        for row, entry in zip(rows, found, strict=True):
            row[name] = entry
    return rows


def _measured(
    draws: Draws, case_of: NDArray[np.int64], a: NDArray[np.float64], b: NDArray[np.float64]
) -> list[dict[str, Any]]:
    """Return n and the figures of a number: ICC, CCC, and Bland-Altman's of b less a."""
    middle = float(np.nanmean(np.concatenate([a, b]))) if not np.isnan([a, b]).all() else 0.0
    n, sums = pair_moments(draws, case_of, a - middle, b - middle)
    m = moments(n, sums)
    bias = m.mean_b - m.mean_a
    spread = np.maximum(m.var_a + m.var_b - 2 * m.cov, 0.0) * ratio(n, n - 1)
    sd = np.sqrt(spread)
    found: Figures = {
        ("icc",): Figure(m.icc()), ("ccc",): Figure(m.ccc()), ("bias",): Figure(bias),
        ("sd",): Figure(sd), ("loa_lower",): Figure(bias - _Z95 * sd),
        ("loa_upper",): Figure(bias + _Z95 * sd),
    }  # fmt: skip
    trees: list[dict[str, Any]] = [{"n": round(float(v))} for v in n[:, 0]]
    for path, figure in found.items():
        add_figures(trees, path, figure)
    return trees


def _ish_pairs(panel: Panel, draws: Draws) -> list[dict[str, Any]]:
    """Return every reader at each cut-off against ISH, positive or negative."""
    if not (panel.ish >= 0).any():
        return []
    status = np.repeat(panel.ish[:, None], len(panel.readers), axis=1)
    tables = pair_tables(draws, panel.case_of, status, panel.score, (2, 4))
    rows = []
    for j, name in enumerate(panel.readers):
        row: dict[str, Any] = {"a": ISH, "b": name, "n": int(tables[..., j, 0].sum())}
        for path in _SCORES_ONLY:
            if path[0] != "cutoffs":
                add_figure(row, path, Figure(np.full(2, np.nan)))
        for cut, above in CUTOFFS.items():
            mine = tables[:, :, j]
            table = np.stack([mine[:, :above].sum(1), mine[:, above:].sum(1)], axis=1)
            for key, figure in binary(table).items():
                add_figure(row, ("cutoffs", cut, *key), figure)
            row["cutoffs"][cut]["n"] = row["n"]
        row["table"] = tables[..., j, 0].astype(int).tolist()
        rows.append(row)
    return rows


# -- several readers ---------------------------------------------------------------------------


def _all(panel: Panel, draws: Draws, columns: list[int]) -> dict[str, Any]:
    """Return the figures of several readers together."""
    score, cases = panel.score[:, columns], len(panel.cases)
    reads = (score >= 0).sum(1)
    tree: dict[str, Any] = {"readers": len(columns), "n": int((reads >= 2).sum()),
                            "complete": int((reads == len(columns)).sum())}  # fmt: skip
    if len(columns) < 2 or not tree["n"]:
        tree["reason"] = "no two readers have read the same"
    counts = several.counts_of(score, 4)
    sums = draws.sums(by_case(several.features(counts), panel.case_of, cases))
    for path, figure in several.figures(sums, 4).items():
        add_figure(tree, path, figure)
    values = np.where(score < 0, np.nan, score.astype(float))
    add_figure(tree, ("icc",), Figure(_icc(values, panel, draws)))
    for name, above in CUTOFFS.items():
        two = np.stack([counts[:, :above].sum(1), counts[:, above:].sum(1)], axis=1)
        sums = draws.sums(by_case(several.features(two), panel.case_of, cases))
        for path, figure in several.figures(sums, 2).items():
            if path not in {("alpha_nominal",), ("ac2",)}:  # with two classes the same as others
                add_figure(tree, ("cutoffs", name, *path), figure)
    for name, v in panel.values.items():
        tree[name] = {}
        add_figure(tree[name], ("icc",), Figure(_icc(v[:, columns], panel, draws)))
    return tree


def _icc(values: NDArray[np.float64], panel: Panel, draws: Draws) -> NDArray[np.float64]:
    if values.shape[1] < 2 or np.isnan(values).all():
        return np.full(draws.columns, np.nan)
    # about its mean, so that no figure is lost in large squares
    terms = several.icc_features(values - np.nanmean(values))
    return several.icc(draws.sums(by_case(terms, panel.case_of, len(panel.cases))))


# -- strata ------------------------------------------------------------------------------------


def _strata(
    panel: Panel, how: AgreeOptions, strata: Mapping[str, Mapping[str, str]]
) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for column, known in strata.items():
        values: dict[str, list[str]] = {}
        for case in panel.cases:
            values.setdefault(known.get(case, "") or "not given", []).append(case)
        tree[column] = {}
        for value in sorted(values):
            cases = values[value]
            part = panel.of_cases(cases)
            entry: dict[str, Any] = {"cases": len(cases), "items": len(part.case_of)}
            if len(cases) < 2:
                entry |= {"pairs": [], "all": None, "reason": "one case only"}
            else:
                entry |= _figures(part, how, inside=True)
            tree[column][value] = entry
    return tree

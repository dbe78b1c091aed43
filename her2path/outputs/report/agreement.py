"""The report on agreement: its sections, and the page that they make."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from her2path.core.schema import SCORES
from her2path.io.reads import ISH, PROGRAM, REFERENCE, Read
from her2path.io.store import write_text
from her2path.outputs.report import agreement_plots as plots
from her2path.outputs.report.canvas import inline_svg
from her2path.outputs.report.context import CannotSay, Context
from her2path.outputs.report.pages import plain_page
from her2path.outputs.report.sections import Section, make_all

__all__ = ["AGREEMENT_SECTIONS", "AgreementContext", "build_agreement"]

#: pairs that tables and plots show; all are in agreement.json
SHOWN = 24
#: points of a Bland-Altman plot
POINTS = 2000
Row = dict[str, Any]


class AgreementContext(Context):
    """Figures of agreement, and the reads that they rest on.

    Parameters
    ----------
    tree : dict
        ``agreement.json``.
    reads : sequence of Read
        All reads, the program's among them.
    """

    kind = "agreement"

    def __init__(self, tree: Mapping[str, Any], reads: Sequence[Read]) -> None:
        super().__init__(dict(tree))
        self.reads = reads

    @property
    def pairs(self) -> list[Row]:
        """Pairs, those of ISH, reference and program first.

        Raises
        ------
        CannotSay
            Where nothing was compared.
        """
        rows = self.get("pairs") or []
        if not rows:
            raise CannotSay("No two readers were compared.")
        special = {ISH: 0, REFERENCE: 1, PROGRAM: 2}
        return sorted(rows, key=lambda p: min(special.get(p["a"], 3), special.get(p["b"], 3)))

    @property
    def scored(self) -> list[Row]:
        """Pairs of readers, without ISH."""
        rows = [p for p in self.pairs if p["a"] != ISH]
        if not rows:
            raise CannotSay("No two readers were compared.")
        return rows

    @property
    def title(self) -> str:
        """The page's name."""
        return f"Agreement of {len(self.get('readers') or [])} readers"


def build_agreement(tree: Mapping[str, Any], reads: Sequence[Read], out: Path) -> Path:
    """Write ``report.html``; return its path.

    Raises
    ------
    OutputError, DiskFull
    """
    context = AgreementContext(tree, reads)
    page = plain_page("agreement.html.j2", context=context, facts=_facts(context),
                      sections=make_all(AGREEMENT_SECTIONS, context))  # fmt: skip
    path = out / "report.html"
    write_text(path, page)
    return path


def _facts(context: AgreementContext) -> list[tuple[str, str]]:
    together, outcome = context.get("all") or {}, context.get("outcome")
    facts = [("Readers", str(len(context.get("readers") or []))),
             ("Cases", str(context.get("cases") or (outcome or {}).get("cases", 0)))]  # fmt: skip
    for words, name in (("All agree", "exact"), ("Fleiss' kappa", "fleiss"),
                        ("Krippendorff's alpha", "alpha")):  # fmt: skip
        if together.get(name) is not None:
            facts.append((words, figure(together, name)))
    return facts


def figure(tree: Mapping[str, Any], name: str, percent: bool = False) -> str:
    """Return a figure with its interval in words: ``0.80 (0.71 to 0.88)``."""
    value, low, high = (tree.get(name + end) for end in ("", "_low", "_high"))
    if value is None:
        return "–"
    said = [f"{100 * v:.1f} %" if percent else f"{v:.2f}" for v in (value, low, high)
            if v is not None]  # fmt: skip
    return said[0] if len(said) < 3 else f"{said[0]} ({said[1]} to {said[2]})"


def _name(pair: Mapping[str, Any]) -> str:
    return f"{pair['a']} ~ {pair['b']}"


def _group(pair: Mapping[str, Any]) -> int:
    names = (pair["a"], pair["b"])
    return 2 if REFERENCE in names else 1 if PROGRAM in names else 0


def _svg(drawn: Any, name: str) -> Markup:
    return Markup(inline_svg(drawn, name))


# -- sections ----------------------------------------------------------------------------------


def overall(context: AgreementContext) -> Row:
    """Return the figures of all readers together, with and without the program."""
    groups = [(words, context.get(key)) for words, key in
              (("Readers", "all"), ("Readers and program", "all_with_program"))
              if (context.get(key) or {}).get("n")]  # fmt: skip
    if not groups:
        raise CannotSay("Fewer than two readers have read the same.")
    names = [("All agree", "exact", True), ("Two agree, mean of all pairs", "pairwise", True),
             ("Fleiss' kappa", "fleiss", False), ("Krippendorff's alpha, ordinal", "alpha", False),
             ("Krippendorff's alpha, nominal", "alpha_nominal", False), ("PABAK", "pabak", False),
             ("Gwet's AC1", "ac1", False), ("Gwet's AC2, quadratic", "ac2", False),
             ("ICC(2,1)", "icc", False)]  # fmt: skip
    rows = [(words, [figure(g, key, pct) for _, g in groups]) for words, key, pct in names]
    cuts = [(cut, words, figure(part, "exact", True), figure(part, "fleiss"), figure(part, "alpha"))
            for words, g in groups for cut, part in g["cutoffs"].items()]  # fmt: skip
    return {"groups": groups, "rows": rows, "cuts": cuts}


def confusion(context: AgreementContext) -> Row:
    """Return the tables of counts."""
    shown = context.pairs[:SHOWN]
    tables = []
    for p in shown:
        rows = ("ISH negative", "ISH positive") if p["a"] == ISH else SCORES
        tables.append({"name": _name(p), "a": p["a"], "b": p["b"], "n": p["n"],
                       "rows": list(zip(rows, p["table"], strict=True)),
                       "exact": figure(p, "exact", True)})  # fmt: skip
    return {"tables": tables, "scores": SCORES, "left": len(context.pairs) - len(shown)}


def kappas(context: AgreementContext) -> Row:
    """Return the forest plot of weighted kappa, and the figures of each pair."""
    shown = context.scored[:SHOWN]
    rows = [{"name": _name(p), "group": _group(p), "value": p["kappa"]["quadratic"],
             "low": p["kappa"]["quadratic_low"], "high": p["kappa"]["quadratic_high"]}
            for p in shown]  # fmt: skip
    lowest = min([r["low"] for r in rows if r["low"] is not None], default=0.0)
    drawn = plots.forest(rows, "quadratically weighted kappa, 95 % interval",
                         (min(0.0, np.floor(lowest * 10) / 10), 1.02))  # fmt: skip
    table = [(_name(p), p["n"], [figure(p, "exact", True), *(figure(p["kappa"], k) for k in
              ("plain", "linear", "quadratic")), *(figure(p, k) for k in
              ("pabak", "ac1", "ac2", "icc", "ccc"))]) for p in shown]  # fmt: skip
    return {"svg": _svg(drawn, "kappa"), "table": table, "left": len(context.scored) - len(shown)}


def cutoffs(context: AgreementContext) -> Row:
    """Return agreement at each cut-off: overall, positive, negative."""
    shown = context.pairs[:SHOWN]
    names = list(dict.fromkeys(cut for p in shown for cut in p["cutoffs"]))
    plotted: list[tuple[str, Markup]] = []
    for cut in names:
        rows = [{"name": _name(p), "group": _group(p), "value": p["cutoffs"][cut]["opa"],
                 "low": p["cutoffs"][cut]["opa_low"], "high": p["cutoffs"][cut]["opa_high"]}
                for p in shown if cut in p["cutoffs"]]  # fmt: skip
        lowest = min([r["low"] for r in rows if r["low"] is not None], default=0.5)
        drawn = plots.forest(rows, f"overall agreement at {cut}",
                             (np.floor(lowest * 10) / 10, 1.01))  # fmt: skip
        plotted.append((cut, _svg(drawn, f"cut{len(plotted)}")))
    table = [(_name(p), cut, part["n"], [figure(part, k, True) for k in ("opa", "ppa", "npa")]
              + [figure(part, "kappa")])
             for p in shown for cut, part in p["cutoffs"].items()]  # fmt: skip
    return {"plots": plotted, "table": table, "left": len(context.pairs) - len(shown)}


def measures(context: AgreementContext) -> Row:
    """Return Bland-Altman plots of the numbers that readers gave."""
    names = sorted({n for r in context.reads for n in r.values})
    if not names:
        raise CannotSay("The reads hold no h_score and no percent_ column.")
    found: list[Row] = []
    for name in names:
        for p in [q for q in context.scored if (q.get(name) or {}).get("n", 0) >= 2][:6]:
            a, b = _paired(context.reads, name, p)
            drawn = plots.bland_altman(a, b, p[name], name)
            found.append(
                {
                    "name": name,
                    "pair": _name(p),
                    "n": p[name]["n"],
                    "a": p["a"],
                    "b": p["b"],
                    "svg": _svg(drawn, f"ba{len(found)}"),
                    "icc": figure(p[name], "icc"),
                    "ccc": figure(p[name], "ccc"),
                }
            )
    if not found:
        raise CannotSay("No two readers gave the same number of the same item.")
    return {"plots": found}


def _paired(reads: Sequence[Read], name: str, pair: Row) -> tuple[Any, Any]:
    """Return both readers' first numbers of the same items, at most `POINTS` of them."""
    sides: list[dict[Any, tuple[int, float]]] = [{}, {}]
    for r in reads:
        for side, reader in zip(sides, (pair["a"], pair["b"]), strict=True):
            if r.reader == reader and name in r.values:
                known = side.get(r.item)
                if known is None or r.read_no < known[0]:
                    side[r.item] = (r.read_no, r.values[name])
    common = [item for item in sides[0] if item in sides[1]]
    common = common[:: -(-len(common) // POINTS) or 1]
    a, b = (np.array([side[item][1] for item in common]) for side in sides)
    return a, b


def onest(context: AgreementContext) -> Row:
    """Return the ONEST curve."""
    tree = context.need("onest", "Fewer than two readers: no curve over the number of readers.")
    curves = {"four scores": tree["exact"], **tree["cutoffs"]}
    return {"svg": _svg(plots.onest(curves), "onest"), "curves": curves,
            "plateau": tree["plateau"], "orders": tree["orders"],
            "rows": [(p["readers"], p["n"], figure(p, "opa", True), p["lowest"], p["highest"])
                     for p in tree["exact"]]}  # fmt: skip


def differences(context: AgreementContext) -> Row:
    """Return differences with their verdicts."""
    rows = context.get("differences") or []
    if not rows:
        raise CannotSay("Nothing was compared: there is no program among the readers, and no "
                        "comparison was asked for.")  # fmt: skip
    shown = [{**r, "of": " ~ ".join(r["of"]), "minus": " ~ ".join(r["minus"]),
              "words": figure(r, "difference"),
              "verdict": {True: "yes", False: "not shown", None: "–"}[r["non_inferior"]]}
             for r in rows]  # fmt: skip
    return {"rows": shown, "margin": rows[0]["margin"]}


def intra(context: AgreementContext) -> Row:
    """Return readers against themselves."""
    rows = context.get("intra") or []
    if not rows:
        raise CannotSay("No reader has read twice (column read_no).")
    return {
        "rows": [
            (
                f"{r['reader']}: read {r['first']} and {r['second']}",
                r["n"],
                [
                    figure(r, "exact", True),
                    figure(r["kappa"], "plain"),
                    figure(r["kappa"], "quadratic"),
                    figure(r, "icc"),
                ],
            )
            for r in rows
        ]
    }


def strata(context: AgreementContext) -> Row:
    """Return the figures of each stratum."""
    tree = context.get("strata") or {}
    if not tree:
        raise CannotSay("No column was named to divide the cases by (--strata).")
    rows = []
    for column, values in tree.items():
        for value, part in values.items():
            program = [p for p in part["pairs"] if p["b"] == PROGRAM and p["a"] == REFERENCE]
            together = part["all"] or {}
            rows.append((column, value, part["cases"], [
                figure(together, "exact", True), figure(together, "fleiss"),
                figure(together, "alpha"),
                figure(program[0]["kappa"], "quadratic") if program else "–"]))  # fmt: skip
    return {"rows": rows}


def outcome(context: AgreementContext) -> Row:
    """Return associations with the outcome."""
    tree = context.need("outcome", "No outcome was given (--outcome).")
    rows = []
    for r in tree["associations"]:
        share = ([f"{r[k]['positive']} of {r[k]['n']}" for k in ("with", "without")]
                 if r["kind"] == "class" else ["", ""])  # fmt: skip
        rows.append({"source": r["source"], "finding": r["finding"], "n": r["n"], "share": share,
                     "odds": _odds(r) if r["kind"] == "class" else "–", "firth": _odds(r["firth"]),
                     "p": _p(r["p"]), "q": _p(r["q"])})  # fmt: skip
    reason = next((r["firth"]["reason"] for r in tree["associations"]
                   if "needs the package" in r["firth"].get("reason", "")), None)  # fmt: skip
    return {"rows": rows, "tree": tree, "reason": reason}


def _odds(tree: Mapping[str, Any]) -> str:
    low, high = tree.get("odds_ratio_low"), tree.get("odds_ratio_high")
    value = tree.get("odds_ratio")
    if low is None:
        return "–"
    upper = "no bound" if high is None else f"{high:.3g}"
    return f"{'no bound' if value is None else format(value, '.3g')} ({low:.3g} to {upper})"


def _p(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:.1e}" if value < 0.001 else f"{value:.3f}"


def basis(context: AgreementContext) -> Row:
    """Return who read how much, and how figures were made."""
    return {
        "readers": context.get("readers") or [],
        "scores": SCORES,
        "settings": context.get("settings"),
        "without": context.get("without_result") or [],
    }


AGREEMENT_SECTIONS: tuple[Section, ...] = (
    Section("overall", "All readers", overall),
    Section("kappas", "Pairs of readers", kappas),
    Section("cutoffs", "Agreement by cut-off", cutoffs),
    Section("confusion", "Confusion tables", confusion),
    Section("differences", "Differences and non-inferiority", differences),
    Section("onest", "Agreement by the number of readers (ONEST)", onest),
    Section("measures", "Numbers: Bland-Altman", measures),
    Section("intra", "Readers against themselves", intra),
    Section("strata", "By stratum", strata),
    Section("outcome", "Association with the outcome", outcome),
    Section("basis", "Reads and methods", basis),
)

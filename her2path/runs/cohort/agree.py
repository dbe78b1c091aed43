"""From READS.csv, results, manifest and outcome to ``agreement.json`` and ``agreement.csv``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from her2path import __version__
from her2path.core.csvfile import tidy
from her2path.core.errors import OutputError, UsageError
from her2path.core.schema import SCORES
from her2path.io.reads import Read, read_outcome, read_table
from her2path.io.store import BatchStore, RunStore, write_json, write_text
from her2path.io.store.files import make_dir
from her2path.runs.cohort.manifest import KNOWN as MANIFEST_COLUMNS
from her2path.runs.cohort.readings import Readings, finding_values, shared_values
from her2path.runs.cohort.tables import csv_line
from her2path.scoring.agreement import AgreeOptions, associate, measure

__all__ = ["Sources", "agreement_of", "csv_text", "guard_out", "write_agreement"]

#: columns of ``agreement.csv``
COLUMNS = ("stratum_column", "stratum", "kind", "a", "b", "cutoff", "figure", "value", "low",
           "high", "n")  # fmt: skip


@dataclass(frozen=True)
class Sources:
    """What agreement is measured from, beside the reads.

    Attributes
    ----------
    results : Readings, optional
        The program's results.
    manifest : path, optional
        CSV with ``case_id`` and the columns of `strata`.
    strata : tuple of str
        Columns whose values divide the cases: of the manifest, else of the results' tables, else of
        the reads.
    outcome : str, optional
        ``FILE.csv:COLUMN``, 0 and 1 by ``case_id``.
    """

    results: Readings | None = None
    manifest: str | Path | None = None
    strata: tuple[str, ...] = ()
    outcome: str | None = None


def agreement_of(
    reads: Sequence[Read], sources: Sources, options: AgreeOptions
) -> tuple[dict[str, Any], list[Read]]:
    """Return the tree of ``agreement.json``, and all reads, the program's among them.

    Raises
    ------
    UsageError, ManifestError, OutputError
    """
    if not reads and sources.outcome is None:
        raise UsageError("there are no reads", "Give READS.csv, or --outcome with --results")
    if not reads and sources.results is None:
        raise UsageError("--outcome has nothing to go with", "Give READS.csv or --results OUT")
    outcome = _outcome(sources.outcome) if sources.outcome is not None else None
    tree: dict[str, Any] = {"schema_version": 1, "her2path_version": __version__}
    everyone = list(reads)
    if reads:
        own = sources.results.reads(reads) if sources.results is not None else []
        everyone += own
        if outcome is None or _comparable(everyone):
            tree |= measure(everyone, options, _strata(reads, sources))
            tree["without_result"] = _without(reads, own) if sources.results is not None else []
    if outcome is not None:
        tree["outcome"] = {"column": str(sources.outcome).rpartition(":")[2],
                           **associate(outcome, _findings(reads, sources.results))}  # fmt: skip
    return tree, everyone


def _comparable(reads: Sequence[Read]) -> bool:
    """Tell whether there is more than one reader: with an outcome one reader is enough."""
    return len({(r.reader, r.read_no) for r in reads}) > 1 or any(r.ish is not None for r in reads)


def _without(reads: Sequence[Read], own: Sequence[Read]) -> list[str]:
    known = {r.item for r in own}
    return ["/".join(filter(None, item)) for item in dict.fromkeys(r.item for r in reads)
            if item not in known]  # fmt: skip


def _outcome(text: str) -> dict[str, bool]:
    path, colon, column = text.rpartition(":")
    if not (colon and path and column):
        raise UsageError(f"--outcome {text!r} is not FILE.csv:COLUMN", "Name file and column")
    return read_outcome(path, column)


def _findings(
    reads: Sequence[Read], results: Readings | None
) -> dict[str, dict[str, dict[str, float | bool]]]:
    found = {"her2path": finding_values(results)} if results is not None else {}
    for r in reads:
        # a case's own read: of several slides or regions none stands for the case
        if r.region or r.read_no != 1 or r.score is None:
            continue
        mine = found.setdefault(r.reader, {})
        for above in range(1, len(SCORES)):
            known = mine.setdefault(f"score {SCORES[above]} or above", {})
            known[r.case] = bool(known.get(r.case)) or r.score >= above
        if "h_score" in r.values:
            scores = mine.setdefault("h_score", {})
            scores[r.case] = max(r.values["h_score"], scores.get(r.case, 0.0))
    return found


def _strata(reads: Sequence[Read], sources: Sources) -> dict[str, dict[str, str]]:
    """Return column to case to value.

    Raises
    ------
    UsageError
        For a column that is nowhere; names those there are.
    """
    found: dict[str, dict[str, str]] = {}
    places: list[Sequence[Mapping[str, str]]] = []
    if sources.manifest is not None:
        places.append(_manifest_rows(Path(sources.manifest)))
    if sources.results is not None:
        found |= sources.results.columns(sources.strata) if sources.manifest is None else {}
    places.append([{"case_id": r.case, **r.extra} for r in reads])
    for column in sources.strata:
        name = column.strip()
        for rows in places:
            if name in found:
                break
            spelt = {k.lower(): k for k in rows[0]} if rows else {}
            if name.lower() in spelt:
                found[name] = shared_values([dict(r) for r in rows], spelt[name.lower()])
        if name not in found:
            there = [k for rows in places if rows for k in rows[0] if k != "case_id"]
            raise UsageError(f"there is no column {name!r} to divide the cases by",
                             f"There are: {', '.join(dict.fromkeys(there)) or 'none'}")  # fmt: skip
    return found


def _manifest_rows(path: Path) -> list[dict[str, str]]:
    """Return a manifest's rows; a case without a name is called by its slide's stem."""
    rows = [row for _, row in read_table(path, (), MANIFEST_COLUMNS)]
    for row in rows:
        row["case_id"] = row.get("case_id") or tidy(Path(row.get("slide", "")).stem)
    return rows


# -- files -----------------------------------------------------------------------------------------


def guard_out(out: Path) -> None:
    """Refuse a folder that holds results: their report would be replaced.

    Raises
    ------
    OutputError
    """
    if RunStore(out).complete or BatchStore(out).is_batch or (out / "case.json").exists():
        raise OutputError(f"{out} holds results of slides", "Give -o another folder")


def write_agreement(tree: Mapping[str, Any], out: Path) -> None:
    """Write ``agreement.csv`` and ``agreement.json``, each whole or not at all.

    Raises
    ------
    OutputError, DiskFull
    """
    make_dir(out)
    write_text(out / "agreement.csv", csv_text(tree))
    write_json(out / "agreement.json", tree)


def csv_text(tree: Mapping[str, Any]) -> str:
    """Return the figures of a tree one a line."""
    lines = [csv_line(COLUMNS), *(csv_line(row) for row in _rows(tree, "", ""))]
    for column, values in (tree.get("strata") or {}).items():
        for value, part in values.items():
            lines += [csv_line(row) for row in _rows(part, column, value)]
    return "".join(lines)


def _rows(tree: Mapping[str, Any], column: str, value: str) -> Iterator[tuple[Any, ...]]:
    head = (column, value)
    for p in tree.get("pairs") or ():
        yield from _flat(p, (*head, "pair", p["a"], p["b"]))
    for p in tree.get("intra") or ():
        names = (f"{p['reader']} {p['first']}", f"{p['reader']} {p['second']}")
        yield from _flat(p, (*head, "intra", *names))
    for kind in ("all", "all_with_program"):
        if tree.get(kind):
            yield from _flat(tree[kind], (*head, kind, "", ""))
    for d in tree.get("differences") or ():
        sides = (" ~ ".join(d["of"]), " ~ ".join(d["minus"]))
        yield (*head, "difference", *sides, "", d["figure"], d["difference"],
               d["difference_low"], d["difference_high"], d["n"])  # fmt: skip
    curves = tree.get("onest") or {}
    for name, points in {"": curves.get("exact", ()), **curves.get("cutoffs", {})}.items():
        for p in points:
            yield (*head, "onest", p["readers"], "", name, "opa", p["opa"], p["opa_low"],
                   p["opa_high"], p["n"])  # fmt: skip


def _flat(
    tree: Mapping[str, Any], head: tuple[Any, ...], cutoff: str = "", path: str = "", n: Any = None
) -> Iterator[tuple[Any, ...]]:
    """Yield every figure of a branch that has limits beside it."""
    n = tree.get("n", n)
    for name, value in tree.items():
        if name == "cutoffs":
            for cut, part in value.items():
                yield from _flat(part, head, cut, path, n)
        elif isinstance(value, Mapping):
            yield from _flat(value, head, cutoff, f"{path}{name}.", n)
        elif f"{name}_low" in tree:
            yield (*head, cutoff, path + name, value, tree[f"{name}_low"], tree[f"{name}_high"], n)

"""Compares scored slides, folder by folder: cells, figures and the report's numbers.

``python -m scripts.evaluate.same_results BEFORE AFTER`` names what differs between the OUT folders
of two versions (each holds one OUT a slide) and ends with 1 where anything does. The cell and
region tables must be the same bit for bit, every figure of ``result.json`` that both have must be
equal (the new one may hold more), and so must the numbers that ``report.html`` prints. What tells
of the run, not of the slide (times, versions, fingerprints, memory, paths), is left out.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

#: keys of result.json that tell of the run
OF_THE_RUN = re.compile(
    r"(^provenance$|sha256|fingerprint|version|_at$|seconds|started|finished|peak|workers|path$)"
)
#: the report's parts that tell of the run
RUN_SECTIONS = re.compile(r'<section[^>]*id="provenance".*?</section>', re.DOTALL)
NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:e-?\d+)?")
TABLES = ("cells.parquet", "regions.parquet")


def differing(before: Any, after: Any, at: str = "") -> Iterator[str]:
    """Yield the places at which ``after`` lacks or changes what ``before`` says."""
    if isinstance(before, dict) and isinstance(after, dict):
        for key, value in before.items():
            if OF_THE_RUN.search(key):
                continue
            if key not in after:
                yield f"{at}/{key} is gone"
            else:
                yield from differing(value, after[key], f"{at}/{key}")
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        for i, (one, other) in enumerate(zip(before, after, strict=True)):
            yield from differing(one, other, f"{at}/{i}")
    elif before != after and not (before != before and after != after):
        yield f"{at}: {str(before)[:60]} -> {str(after)[:60]}"


def report_numbers(path: Path) -> list[str]:
    """Return the numbers that a reader sees in a report, in their order."""
    text = RUN_SECTIONS.sub("", path.read_text(encoding="utf-8"))
    text = re.sub(r"<(script|style|svg)\b.*?</\1>", "", text, flags=re.DOTALL)
    text = re.sub(r"data:[^\"']+", "", text)
    text = re.sub(r"<[^>]*>", " ", text)
    text = re.sub(r"\b[0-9a-f]{12,64}\b|\d{4}-\d\d-\d\d[T ]?[\d:.+Z]*", "", text)
    return NUMBER.findall(text)


def compare(before: Path, after: Path) -> Iterator[str]:
    """Yield what differs between two OUT folders."""
    for name in TABLES:
        one, other = before / name, after / name
        if one.exists() != other.exists():
            yield f"{name} is in one only"
        elif one.exists() and not pq.read_table(one).equals(pq.read_table(other)):
            yield f"{name} differs"
    read = [json.loads((p / "result.json").read_text(encoding="utf-8")) for p in (before, after)]
    yield from differing(read[0], read[1], "result.json")
    reports = before / "report.html", after / "report.html"
    if reports[0].is_file():
        told = [report_numbers(p) for p in reports]
        if told[0] != told[1]:
            at = next(
                (i for i, (a, b) in enumerate(zip(*told, strict=False)) if a != b),
                min(map(len, told)),
            )
            yield f"report.html: number {at} differs: {told[0][at : at + 3]} {told[1][at : at + 3]}"


def main() -> int:
    """Compare and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path)
    given = parser.parse_args()
    names = sorted(p.parent.name for p in given.before.glob("*/result.json"))
    if not names:
        parser.error(f"{given.before} holds no scored slide")
    failed = 0
    for name in names:
        if not (given.after / name / "result.json").is_file():
            found = ["is missing"]
        else:
            found = list(compare(given.before / name, given.after / name))
        failed += bool(found)
        print(f"{name}: {'the same' if not found else '; '.join(found[:8])}")
    print(f"{len(names) - failed} of {len(names)} the same")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())

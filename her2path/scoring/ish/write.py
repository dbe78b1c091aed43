"""ISH results on disk: ``ish.json``, ``ish_areas.csv``, ``ish_cases.csv``."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

from her2path.core.errors import DiskFull, OutputError
from her2path.core.schema import csv_category

__all__ = ["csv_text", "json_text", "write"]

#: a spreadsheet would run text that begins with one of these
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")


def json_text(result: dict[str, Any]) -> str:
    """Return the text of ``ish.json``."""
    return json.dumps(result, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def write(result: dict[str, Any], out: str | Path) -> None:
    """Write the three files; each appears whole or not at all.

    Parameters
    ----------
    result : dict
        What `interpret` returned.
    out : path
        A folder; made where it does not exist.

    Raises
    ------
    OutputError
        Where it cannot be written.
    DiskFull
        Where no room is left.
    """
    out = Path(out)
    texts = {
        "ish_areas.csv": csv_text(result["areas"]),
        "ish_cases.csv": csv_text([_flat(c) for c in result["cases"]]),
        "ish.json": json_text(result),
    }
    try:
        out.mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            part = out / f".{name}.part"
            part.write_text(text, encoding="utf-8", newline="")
            part.replace(out / name)
    except OSError as exc:
        if exc.errno == 28:  # no space left on device
            raise DiskFull(f"no room left in {out}", "Free some and run again") from exc
        raise OutputError(f"{out} cannot be written ({exc.strerror})", "Choose another -o") from exc


def _flat(case: dict[str, Any]) -> dict[str, Any]:
    flat = {k: v for k, v in case.items() if k not in ("heterogeneous", "heterogeneity")}
    flat["category"] = csv_category(case["category"])
    verdicts = case["heterogeneous"]
    return flat | {f"heterogeneous_{k}": v for k, v in verdicts.items() if k != "reasons"}


def csv_text(rows: list[dict[str, Any]]) -> str:
    """Return rows as CSV; empty for None; text that a spreadsheet would run is disarmed."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(names)
    for row in rows:
        writer.writerow([_cell(row.get(name)) for name in names])
    return buffer.getvalue()


def _cell(value: Any) -> Any:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str) and value.startswith(_FORMULA):
        return f"'{value}"
    return value

"""What the terminal shows: a bar while it works, and the result in a pathologist's words."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn
from rich.table import Table

__all__ = ["print_result", "print_rows", "print_truth", "progress_bar"]


@contextmanager
def progress_bar() -> Iterator[Callable[[str, int, int, float], None]]:
    """Show stage, share done, rate and time left on stderr; yield the callback."""
    import time

    bar = Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed}/{task.total}"),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    )
    tasks: dict[str, Any] = {}
    begun: dict[str, float] = {}

    def tick(stage: str, done: int, total: int, megapixels: float) -> None:
        if stage not in tasks:
            tasks[stage] = bar.add_task(stage, total=total, rate="")
            begun[stage] = time.monotonic()
        seconds = time.monotonic() - begun[stage]
        rate = f"{megapixels / seconds:.0f} Mpx/s" if megapixels and seconds > 0.5 else ""
        bar.update(tasks[stage], completed=done, total=total, rate=rate)

    with bar:
        yield tick


def print_result(result: Any) -> None:
    """Show the main figures of one slide."""
    console = Console()
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(style="bold")
    table.add_column()
    r = result.result
    for name, value in _rows(r):
        table.add_row(name, value)
    console.print(table)
    for f in r.qc.flags:
        console.print(f"  [{'yellow' if f.severity != 'info' else 'dim'}]{f.code}[/]  {f.message}")
    state = "" if result.fresh else " (was complete already)"
    console.print(
        f"Result in {result.out}{state}. Research use only.", highlight=False, markup=False
    )


def _rows(r: Any) -> Iterator[tuple[str, str]]:
    yield "Slide", str(r.slide.id)
    if r.score is None:
        yield "Score", "not evaluable"
        return
    s = r.score
    sub = f" ({s.substate})" if s.substate else ""
    yield "HER2 score", f"{s.ihc}{sub} by {s.guideline}: {s.rule}"
    if s.probability:
        yield (
            "Probability",
            ", ".join(f"{k} {v:.0%}" for k, v in s.probability.items() if v >= 0.005),
        )
    if r.cnn is not None:
        beside = {True: "the same", False: "differs", None: "cannot be compared"}[r.cnn.agrees]
        yield "Second look", f"{r.cnn.score or 'no score'} by the CNN {r.cnn.model}: {beside}"
    yield "Category", f"HER2-{s.category}" + (", ISH is due" if s.reflex_ish else "")
    yield "H-score", f"{r.h_score:.0f} of 300"
    yield "Tumour cells", f"{r.counts.tumour:,} (other cells {r.counts.other:,})"
    h = r.heterogeneity
    if h is not None:
        yield "Pattern", h.pattern.type
        if h.positive_cell_fraction is not None:
            yield "Positive cells", f"{h.positive_cell_fraction:.1%}"


def print_rows(title: str, rows: list[dict[str, Any]]) -> None:
    """Show rows of plain values as a table."""
    table = Table(title=title)
    for number, name in enumerate(rows[0] if rows else ()):
        table.add_column(str(name), no_wrap=number == 0)
    for row in rows:
        # what stands in brackets (her2path[cnn]) is text, not markup
        table.add_row(*(escape(_plain(v)) for v in row.values()))
    Console().print(table)


def _plain(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.3g}"
    return ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


def print_truth(folder: Any, result: Any) -> None:
    """Say what the demo's slide was drawn with, and how near the measurement came."""
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    truth = pq.read_table(folder / "truth.parquet", columns=["cell_type", "pattern"])
    tumour = truth.filter(pc.equal(truth["cell_type"], "tumour"))
    if not tumour.num_rows or result.result.fractions is None:
        return
    table = Table(title="Drawn and found", title_justify="left", box=None)
    for name in ("share of tumour cells", "drawn", "found", "points apart"):
        table.add_column(name, justify="left" if name.startswith("share") else "right")
    drawn = pc.value_counts(tumour["pattern"]).to_pylist()
    known = {row["values"]: row["counts"] / tumour.num_rows for row in drawn}
    for name, found in result.result.fractions.items():
        share = known.get(name, 0.0)
        apart = 100 * (found - share)
        table.add_row(name.replace("_", " "), f"{share:.1%}", f"{found:.1%}", f"{apart:+.1f}")
    table.add_row("tumour cells", f"{tumour.num_rows:,}", f"{result.result.counts.tumour:,}", "")
    Console().print(table)

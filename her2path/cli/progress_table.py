"""The live table of a batch: what every child is at, and how the whole stands."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from her2path.runs.cohort import BatchProgress

__all__ = ["live_table"]

#: seconds between two drawings, at the least
EVERY_S = 0.25


@contextmanager
def live_table() -> Iterator[Callable[[BatchProgress], None]]:
    """Show a table on stderr; yield the callback of a `BatchProgress`."""
    last = 0.0
    with Live(console=Console(stderr=True), auto_refresh=False, transient=True) as live:

        def changed(board: BatchProgress) -> None:
            nonlocal last
            now = time.monotonic()
            if now - last >= EVERY_S:
                last = now
                live.update(picture(board), refresh=True)

        yield changed


def picture(board: BatchProgress) -> Group:
    """Return the table and the line below it."""
    table = Table(box=None, pad_edge=False)
    for heading in (board.what[:-1], "stage", "done", "time"):
        table.add_column(heading, style="bold" if heading == board.what[:-1] else "")
    for slot in board.slots.values():
        seconds = time.monotonic() - slot.since
        # names come from files: never read as markup
        table.add_row(Text(slot.name[:60]), Text(slot.stage), f"{slot.done}/{slot.total}",
                      f"{seconds:.0f} s")  # fmt: skip
    return Group(table, Text(board.line(), style="cyan"))

"""What is on the desk: the slides of OUT, opened when they are asked for, and who is reading."""

from __future__ import annotations

import secrets
import threading
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc

from her2path.core.errors import UsageError
from her2path.io.store import BatchStore, RunStore
from her2path.outputs.viewer.borderline import Borderline
from her2path.outputs.viewer.ledger import Ledger
from her2path.outputs.viewer.tiles import Tiles
from her2path.runs.cohort.readlog import Reading, ReadLog
from her2path.runs.cohort.worklist import Item, items_of
from her2path.scoring import guidelines

__all__ = ["SlideView", "Viewer", "finite"]

#: slides that stay open; the one that was looked at longest ago is closed for another
_MOST_OPEN = 3


class SlideView:
    """One slide: tiles, corrections, what its result says.

    Parameters
    ----------
    item : Item
        Which slide.
    slide : path, optional
        The slide's file, when it has moved.
    """

    def __init__(self, item: Item, slide: Path | None = None) -> None:
        self.item = item
        self.store = RunStore(item.out)
        self.result = self.store.result()
        self.tiles = Tiles(self.store, slide)
        self.ledger = Ledger(self.store)
        #: rises with everything that changes what tiles show, so that none is taken for another
        self.version = 0
        self.show_corrected()

    def close(self) -> None:
        """Close the slide."""
        self.tiles.close()

    def show_corrected(self) -> None:
        """Let corrected cells have the class that their reader gave them."""
        said = self.ledger.corrected()
        if said or self.tiles.index.corrected.any():
            incomplete = guidelines.incomplete_score(self.store.settings().score.guideline)
            self.tiles.index.correct(said, incomplete)
            self.tiles.corrected()
        self.version += 1

    @cached_property
    def borderline(self) -> Borderline:
        """Every borderline cell, the nearest to a cut-off first."""
        return Borderline(self.store, self.tiles.index)

    def cell(self, row: int) -> dict[str, Any]:
        """Return everything about one cell, by its row in the index; JSON values only."""
        index = self.tiles.index
        number = int(index.cells.cell_id[row])
        table = self.store.cells(where=pc.field("cell_id") == number)
        facts: dict[str, Any] = table.drop_columns(["outline", "nucleus_outline"]).to_pylist()[0]
        ring = index.outlines_px(np.array([row]))[0]
        # 64-bit whole numbers do not fit into JavaScript's
        return {
            **{k: finite(v) for k, v in facts.items()},
            "cell_id": str(number),
            "ring": np.round(ring, 1).tolist(),
            "corrected": self.ledger.of_cell(number),
        }


def finite(value: Any) -> Any:
    """Return a value that JSON has; numbers rounded."""
    if isinstance(value, float):
        return round(value, 5) if np.isfinite(value) else None
    return value


class Viewer:
    """What the handlers share: the slides, the reader, token.

    Parameters
    ----------
    out : path
        A complete run, or a batch.
    slide : path, optional
        The slide, when it has moved; not for a batch.
    reader : str, optional
        Who reads blind: what the program says of a slide is hidden until that reader has read it.
    order : {"random", "given"}, optional
        Of a new worklist.
    again : bool
        Begin the worklist once more.

    Raises
    ------
    OutputError
        Without a complete run.
    UsageError
        For a reader's name or order that cannot be used, or a slide given for a batch.
    """

    def __init__(
        self, out: str | Path, slide: Path | None = None, reader: str | None = None,
        order: str | None = None, again: bool = False,
    ) -> None:  # fmt: skip
        self.out = Path(out)
        self.batch = BatchStore(out) if BatchStore(out).is_batch else None
        if self.batch is not None and slide is not None:
            raise UsageError("--slide names one slide, and this is a batch",
                             "Give the folder of that slide: OUT/slides/NAME")  # fmt: skip
        self._moved = slide
        items = items_of(out)
        self.log = ReadLog(self.out, reader) if reader is not None else None
        if self.log is None and (order is not None or again):
            raise UsageError("--order and --again go with --read", "Add --read NAME")
        self.items = self.log.begin(items, order, again) if self.log is not None else items
        self.token = secrets.token_urlsafe(32)
        # drawing releases the interpreter lock for most of its time
        self.pool = ThreadPoolExecutor(4, thread_name_prefix="tiles")
        self.port = 0
        self._open: OrderedDict[int, SlideView] = OrderedDict()
        self._busy = threading.Lock()
        if self.batch is None:
            self.at(0)

    # -- slides -----------------------------------------------------------------------------------

    def at(self, number: int) -> SlideView:
        """Return one slide of the worklist, opened.

        Raises
        ------
        IndexError
            Where there is none.
        Her2PathError
            Where its result is damaged.
        """
        if not 0 <= number < len(self.items):
            raise IndexError(number)
        with self._busy:
            if number not in self._open:
                self._open[number] = SlideView(self.items[number], self._moved)
            self._open.move_to_end(number)
            while len(self._open) > _MOST_OPEN:
                # whoever still draws from it gets the overview: a closed slide is not read
                self._open.popitem(last=False)[1].close()
            return self._open[number]

    def reopen(self, number: int) -> SlideView:
        """Open a slide anew, after its result was replaced."""
        with self._busy:
            old = self._open.pop(number, None)
        made = self.at(number)
        if old is not None:
            made.version = old.version + 1
            old.close()
        return made

    def close(self) -> None:
        """Stop drawing and close the slides."""
        self.pool.shutdown(wait=True, cancel_futures=True)
        for view in self._open.values():
            view.close()
        self._open.clear()

    # -- who reads --------------------------------------------------------------------------------

    def reading(self, number: int) -> Reading | None:
        """Return the reader's read of a slide; None where nobody reads."""
        return self.log.reading(self.items[number].key) if self.log is not None else None

    def hides(self, number: int) -> bool:
        """Tell whether what the program says of a slide is hidden."""
        if not 0 <= number < len(self.items):
            return self.log is not None
        read = self.reading(number)
        return read is not None and read.state == "unread"

    # -- the only slide, or the first --------------------------------------------------------------

    @property
    def store(self) -> RunStore:
        """The first slide's store."""
        return self.at(0).store

    @property
    def result(self) -> Any:
        """The first slide's result."""
        return self.at(0).result

    @property
    def tiles(self) -> Tiles:
        """The first slide's tiles."""
        return self.at(0).tiles

    @property
    def ledger(self) -> Ledger:
        """The first slide's corrections."""
        return self.at(0).ledger

"""What there is to read in OUT: one item a slide, in the manifest's order or shuffled.

Nothing that the program found takes part in the order, nor in what an item says.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from her2path.core.errors import OutputError
from her2path.io.store import BatchStore, RunStore
from her2path.runs.cohort.tables import read_rows

__all__ = ["ORDERS", "Item", "batch_of", "home_of", "items_of", "shuffled"]

#: order of a worklist
ORDERS = ("random", "given")


@dataclass(frozen=True)
class Item:
    """One slide to read.

    Attributes
    ----------
    case_id, slide_id : str
        As in the manifest; of a slide that was scored alone both are its name.
    out : Path
        Folder of its result.
    specimen : str
        As in the manifest; may be empty.
    """

    case_id: str
    slide_id: str
    out: Path
    specimen: str = ""

    @property
    def key(self) -> tuple[str, str]:
        """What names it in READS.csv."""
        return self.case_id, self.slide_id


def items_of(out: str | Path) -> list[Item]:
    """Return the slides of a batch that can be shown, in the manifest's order, or the one slide.

    A slide without a result (it failed, or is being scored) is left out; one that was not
    evaluable is not: that too is something that the program found.

    Raises
    ------
    OutputError
        Where there is no complete result.
    """
    batch = BatchStore(out)
    if not batch.is_batch:
        store = RunStore(out)
        name = str(store.result().slide.id or store.out.resolve().name)
        return [Item(name, name, store.out)]
    rows = read_rows(batch.slides_csv) if batch.slides_csv.is_file() else []
    known = {r.get("folder", ""): r for r in rows}
    there = {s.out.name: s for s in batch.slides()}
    found = []
    for folder in (*(f for f in known if f in there), *(f for f in there if f not in known)):
        row = known.get(folder, {})
        slide_id = row.get("slide_id") or folder
        found.append(Item(row.get("case_id") or slide_id, slide_id, there[folder].out,
                          row.get("specimen", "")))  # fmt: skip
    if not found:
        raise OutputError(f"{out} holds no scored slide", "Score slides, or give another OUT")
    return found


def shuffled(items: Sequence[Item], seed: str) -> list[Item]:
    """Return the items in an order that depends on ``seed`` and on nothing else."""
    number = int.from_bytes(hashlib.sha256(seed.encode()).digest()[:8])
    order = sorted(items, key=lambda i: i.key)
    random.Random(number).shuffle(order)
    return order


def home_of(store: RunStore) -> Path:
    """Return the folder of a result, of one that is still staged too."""
    out = store.out.absolute()
    staged = out.name == "staged" and out.parent.name == ".work"
    return out.parent.parent if staged else out


def batch_of(store: RunStore) -> BatchStore | None:
    """Return the batch that a slide's result lies in; None for a slide on its own."""
    home = home_of(store).parent
    batch = BatchStore(home.parent)
    return batch if home.name == "slides" and batch.run_json.is_file() else None

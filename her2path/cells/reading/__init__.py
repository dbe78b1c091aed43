"""Reading: from stain planes to cells, by two small nets.

`inputs` is what the nets see, `nets` runs them, `finder` finds the nuclei, `cells` reads them one
by one, `doubles` tells which nucleus was found twice. The nets say where a line runs and whose it
is; how much stain lies there is measured (`her2path.cells.membrane`).
"""

from __future__ import annotations

from her2path.cells.reading.cells import HALO_UM, KINDS, Cells, read_cells
from her2path.cells.reading.doubles import are_doubles
from her2path.cells.reading.nets import NETS, card, weights_sha256

__all__ = [
    "HALO_UM", "KINDS", "NETS", "Cells", "are_doubles", "card", "read_cells", "weights_sha256",
]  # fmt: skip

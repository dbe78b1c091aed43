"""Many slides: the manifest, the children that score, the cases, the tables."""

from her2path.cohort.batch import BatchOptions, BatchResult, Faces, run_batch
from her2path.cohort.collect import collect
from her2path.cohort.live import Board

__all__ = ["BatchOptions", "BatchResult", "Board", "Faces", "collect", "run_batch"]

"""The layout on disk: the only place that knows Zarr, Parquet files and where things lie."""

from her2path.io.store.files import (
    atomic_dir,
    atomic_file,
    disk_errors,
    read_json,
    write_json,
    write_text,
)
from her2path.io.store.gallery import PATCH_PX, Gallery, read_gallery, write_gallery
from her2path.io.store.lock import RunLock
from her2path.io.store.maps import Maps, add_label, write_maps
from her2path.io.store.run import (
    ISH_FILES,
    UNTOUCHED_BY_ISH,
    UNTOUCHED_BY_SCORE,
    BatchStore,
    RunStore,
)
from her2path.io.store.tables import conform, dictionary_codes

__all__ = [
    "ISH_FILES",
    "PATCH_PX",
    "UNTOUCHED_BY_ISH",
    "UNTOUCHED_BY_SCORE",
    "BatchStore",
    "Gallery",
    "Maps",
    "RunLock",
    "RunStore",
    "add_label",
    "atomic_dir",
    "atomic_file",
    "conform",
    "dictionary_codes",
    "disk_errors",
    "read_gallery",
    "read_json",
    "write_gallery",
    "write_json",
    "write_maps",
    "write_text",
]

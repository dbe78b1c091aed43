"""Maps of a slide as OME-Zarr 0.5: float maps as channels of one image, masks as its labels."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.codecs import ZstdCodec

from her2path.core.errors import OutputError
from her2path.io.store.files import atomic_dir

__all__ = ["LABELS", "Maps", "add_label", "write_maps"]

#: maps that are masks; they are stored as labels, everything else as channels
LABELS = ("tissue", "qc")
#: colour and display range (OD; cells' mean score) of the known channels, for viewers
_CHANNELS: dict[str, tuple[str, float]] = {
    "hematoxylin": ("3B4CC0", 1.5),
    "dab": ("8B5A2B", 1.5),
    "score_density": ("E8A33D", 3.0),
}
_CHUNK = 256
#: a level is stored in at most 2 x 2 shards, however large: a slide leaves few files
_SHARD = 4096
_SMALLEST = 512


def write_maps(
    path: Path,
    arrays: Mapping[str, NDArray[Any]],
    mpp_um: float,
    extra: Mapping[str, Mapping[str, Any]] | None = None,
) -> None:
    """Write maps as one OME-Zarr 0.5 image with labels, sharded.

    Parameters
    ----------
    path : Path
        The Zarr folder, replaced as a whole.
    arrays : mapping of name to array, each (H, W), all of one shape
        Names in `LABELS` are masks (bool or unsigned) and become labels; the others become channels
        of one float16 image, in the mapping's order.
    mpp_um : float
        Pixel size of the maps, µm.
    extra : mapping, optional
        By the name of a label: ``colors`` and ``properties`` of OME-Zarr's ``image-label``.

    Raises
    ------
    DiskFull, OutputError
    ValueError
        Where shapes differ, or there is no channel.
    """
    channels = {k: v for k, v in arrays.items() if k not in LABELS}
    masks = {k: v for k, v in arrays.items() if k in LABELS}
    if len({np.shape(a) for a in arrays.values()}) != 1 or not channels:
        raise ValueError("maps need at least one channel, and all of them one shape")
    stack = np.stack([np.asarray(a, np.float32) for a in channels.values()])
    with atomic_dir(path) as folder:
        root = zarr.open_group(folder, mode="w", zarr_format=3)
        levels = _pyramid(stack)
        _write_levels(root, [level.astype(np.float16) for level in levels], ("c", "y", "x"))
        root.attrs["ome"] = {
            "version": "0.5",
            "multiscales": [_multiscale(path.stem, levels, mpp_um)],
            "omero": {"channels": [_channel(name) for name in channels]},
        }
        if masks:
            _write_labels(root, masks, mpp_um, extra or {})


def _pyramid(stack: NDArray[np.float32]) -> list[NDArray[np.float32]]:
    """Return the levels, each half of the one before by area mean; odd edges are repeated."""
    levels = [stack]
    while max(levels[-1].shape[-2:]) > _SMALLEST:
        levels.append(_halve(levels[-1]))
    return levels


def _halve(stack: NDArray[np.float32]) -> NDArray[np.float32]:
    height, width = stack.shape[-2:]
    even = np.pad(stack, ((0, 0), (0, height % 2), (0, width % 2)), mode="edge")
    c, h, w = even.shape
    return even.reshape(c, h // 2, 2, w // 2, 2).mean(axis=(2, 4), dtype=np.float32)


def _write_levels(group: zarr.Group, levels: list[NDArray[Any]], names: tuple[str, ...]) -> None:
    for number, level in enumerate(levels):
        lead = level.shape[:-2]
        # a shard holds whole chunks and need not be larger than the level
        side = [min(max(_SHARD, _whole(-(-n // 2))), _whole(n)) for n in level.shape[-2:]]
        array = group.create_array(
            str(number),
            shape=level.shape,
            dtype=level.dtype,
            chunks=(*(1 for _ in lead), _CHUNK, _CHUNK),
            shards=(*lead, *side),
            compressors=[ZstdCodec(level=3)],
            fill_value=0,
            dimension_names=names,
        )
        array[...] = level


def _whole(pixels: int) -> int:
    """Round up to whole chunks."""
    return -(-pixels // _CHUNK) * _CHUNK


def _multiscale(name: str, levels: list[NDArray[Any]], mpp_um: float) -> dict[str, Any]:
    spatial = [{"name": n, "type": "space", "unit": "micrometer"} for n in ("y", "x")]
    lead = levels[0].ndim - 2
    axes = [{"name": "c", "type": "channel"}] * lead + spatial
    datasets = []
    for number in range(len(levels)):
        scale = mpp_um * 2**number
        # the mean of 2**n pixels lies half a pixel off the first one's centre
        shift = mpp_um * (2**number - 1) / 2
        transforms = [
            {"type": "scale", "scale": [1.0] * lead + [scale, scale]},
            {"type": "translation", "translation": [0.0] * lead + [shift, shift]},
        ]
        datasets.append({"path": str(number), "coordinateTransformations": transforms})
    return {"name": name, "axes": axes, "datasets": datasets, "type": "mean"}


def _channel(name: str) -> dict[str, Any]:
    colour, top = _CHANNELS.get(name, ("FFFFFF", 1.0))
    window = {"start": 0.0, "end": top, "min": 0.0, "max": top}
    return {"label": name, "color": colour, "window": window, "active": True}


def _write_labels(
    root: zarr.Group,
    masks: Mapping[str, NDArray[Any]],
    mpp_um: float,
    extra: Mapping[str, Mapping[str, Any]],
) -> None:
    labels = root.create_group("labels")
    labels.attrs["ome"] = {"version": "0.5", "labels": list(masks)}
    for name, mask in masks.items():
        whole = np.asarray(mask)
        kind = np.uint16 if whole.dtype == np.uint16 else np.uint8
        _write_label(labels, name, whole.astype(kind), mpp_um, extra.get(name, {}))


def _write_label(
    labels: zarr.Group, name: str, label: NDArray[Any], mpp_um: float, extra: Mapping[str, Any]
) -> None:
    group = labels.create_group(name)
    levels = [label]
    while max(levels[-1].shape) > _SMALLEST:
        levels.append(levels[-1][::2, ::2])
    _write_levels(group, levels, ("y", "x"))
    group.attrs["ome"] = {
        "version": "0.5",
        "multiscales": [_multiscale(name, levels, mpp_um)],
        "image-label": {"source": {"image": "../../"}, **extra},
    }


def add_label(
    path: Path, name: str, label: NDArray[Any], mpp_um: float, extra: Mapping[str, Any]
) -> None:
    """Add a label image to maps that lie in a folder of one's own.

    Parameters
    ----------
    path : Path
        The Zarr folder; changed in place.
    name : str
        The label's name.
    label : (H, W) whole numbers
        0 is background.
    mpp_um : float
        Pixel size, µm.
    extra : mapping
        ``colors`` and ``properties`` of OME-Zarr's ``image-label``.
    """
    root = zarr.open_group(path, mode="r+")
    labels = root.require_group("labels")
    known = labels.attrs.get("ome", {"version": "0.5", "labels": []})
    labels.attrs["ome"] = {**known, "labels": [*known["labels"], name]}
    _write_label(labels, name, label, mpp_um, extra)


class Maps:
    """Reads ``maps.zarr``.

    Parameters
    ----------
    path : Path
        The Zarr folder.

    Raises
    ------
    OutputError
        Where it is missing or damaged.
    """

    def __init__(self, path: Path) -> None:
        try:
            self._root = zarr.open_group(path, mode="r")
            ome: Any = self._root.attrs["ome"]
            self._datasets = ome["multiscales"][0]["datasets"]
            self._channels = [c["label"] for c in ome["omero"]["channels"]]
        except (OSError, KeyError, IndexError, TypeError, ValueError) as exc:
            raise OutputError(
                f"{path} is missing or damaged", "Score the slide again with --overwrite"
            ) from exc
        self._labels = sorted(self._root["labels"].group_keys()) if "labels" in self._root else []

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the maps: channels first, then labels."""
        return (*self._channels, *self._labels)

    @property
    def levels(self) -> int:
        """Number of levels of the channels."""
        return len(self._datasets)

    def mpp_um(self, level: int = 0) -> float:
        """Return the pixel size of a level, µm."""
        return float(self._datasets[level]["coordinateTransformations"][0]["scale"][-1])

    def read(self, name: str, level: int = 0) -> NDArray[Any]:
        """Return a map, (H, W): float32 for channels, unsigned for labels.

        Raises
        ------
        KeyError
            For a name that is not in `names`.
        """
        if name in self._labels:
            return np.asarray(self._root[f"labels/{name}/{level}"][...])
        index = self._channels.index(name) if name in self._channels else None
        if index is None:
            raise KeyError(name)
        return np.asarray(self._root[str(level)][index], np.float32)

"""The direct path: raw JPEG tiles of a TIFF or SVS, decoded by libjpeg-turbo.

OpenSlide reads such tiles through libtiff, which hands the colour space of the TIFF tags to
libjpeg (markers inside the tile do not count), with the accurate integer DCT and smooth chroma
upsampling. The same choices are made here, so that pixels are equal bit for bit; `agrees` looks at
some tiles of every file before it is trusted. What OpenSlide's compositing and its 4-byte pixels
cost is saved.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from functools import partial

import imagecodecs
import numpy as np
import numpy.typing as npt
import tifffile

from her2path.core.geometry import Box
from her2path.io.slide.cache import Pixels, TileCache
from her2path.io.slide.jpegmarks import scan_is_whole
from her2path.io.slide.rawfile import RawFile
from her2path.io.slide.source import Colour, Source, cells_of, colour_of, paint

__all__ = ["JPEG", "DirectSource", "JpegTiles", "NotDirect", "agrees"]

JPEG = 7
RGB, YCBCR = 2, 6
#: a tile larger than this is no tile (px)
MAX_TILE_PX = 1 << 24
#: tiles compared with OpenSlide when a file is opened
CHECKED_TILES = 6
#: the rim of a large box is this part of its side: about what blocks share by their halo
RIM = 7


class NotDirect(Exception):
    """The file's level 0 is not made of JPEG tiles that the direct path knows; says why."""


@dataclass(frozen=True)
class _Layout:
    width: int
    height: int
    tile_w: int
    tile_h: int
    offsets: npt.NDArray[np.int64]
    counts: npt.NDArray[np.int64]
    tables: bytes | None
    colour: str


class JpegTiles:
    """The tile directory of one level, and the decoder of its tiles. Thread-safe.

    Parameters
    ----------
    path : str
        The file.
    size : (int, int), optional
        (width, height) of the level; level 0 by default.

    Raises
    ------
    NotDirect
        When the level is anything but 8-bit, 3-sample, tiled JPEG.
    """

    def __init__(self, path: str, size: tuple[int, int] | None = None) -> None:
        self.layout = _read_layout(path, size)
        self.cols = -(-self.layout.width // self.layout.tile_w)
        self.rows = -(-self.layout.height // self.layout.tile_h)
        self._raw = RawFile(path)
        # some writers leave out the end marker: then its absence is no sign of damage
        self._needs_end = True
        samples = [self.raw(i) for i in self.some()]
        self._needs_end = any(d[-18:].find(b"\xff\xd9") >= 0 for d in samples if d)

    def some(self) -> list[int]:
        """Return a few tile indices, spread over the slide, that hold data."""
        held = np.flatnonzero(self.layout.counts)
        if held.size == 0:
            return []
        picks = {0, held.size - 1, min(self.cols, held.size) - 1}
        picks |= {held.size * k // CHECKED_TILES for k in range(CHECKED_TILES)}
        return [int(held[k]) for k in sorted(picks)]

    def box(self, index: int) -> Box:
        """Return the part of the level that a tile covers."""
        row, col = divmod(index, self.cols)
        lay = self.layout
        x0, y0 = col * lay.tile_w, row * lay.tile_h
        return Box(x0, y0, min(x0 + lay.tile_w, lay.width), min(y0 + lay.tile_h, lay.height))

    def missing(self, index: int) -> bool:
        """Tell whether the scanner left a tile out (zero bytes): background, not damage."""
        return bool(self.layout.counts[index] == 0)

    def raw(self, index: int) -> bytes:
        """Return the bytes of a tile; fewer than its directory states where the file is cut."""
        count = int(self.layout.counts[index])
        return self._raw.read(int(self.layout.offsets[index]), count) if count else b""

    def whole(self, index: int) -> bool:
        """Tell whether a tile is missing by intent, or undamaged as far as its markers show."""
        return self.missing(index) or self._whole(index, self.raw(index))

    def decode(self, index: int, out: Pixels | None = None) -> Pixels | None:
        """Return the pixels of a tile (tile_h, tile_w, 3), or None where it is damaged."""
        data = self.raw(index)
        if not self._whole(index, data):
            return None
        lay = self.layout
        if out is None:
            out = np.empty((lay.tile_h, lay.tile_w, 3), np.uint8)
        try:
            # `out` also bounds memory: a header that claims another size is refused
            imagecodecs.jpeg8_decode(
                data, tables=lay.tables, colorspace=lay.colour, outcolorspace="RGB", out=out
            )
        except (imagecodecs.Jpeg8Error, ValueError):
            return None
        return out

    def as_stored(self) -> Pixels:
        """Return a sample of the components in a few tiles, as stored, (n, 3)."""
        lay, found = self.layout, []
        for index in self.some():
            box, data = self.box(index), self.raw(index)
            if not self._whole(index, data):
                continue
            out = np.empty((lay.tile_h, lay.tile_w, 3), np.uint8)
            try:
                imagecodecs.jpeg8_decode(
                    data, tables=lay.tables, colorspace=lay.colour, outcolorspace=lay.colour,
                    out=out,
                )  # fmt: skip
            except (imagecodecs.Jpeg8Error, ValueError):
                continue
            found.append(out[: box.height : 2, : box.width : 2].reshape(-1, 3))
        return np.concatenate(found) if found else np.zeros((0, 3), np.uint8)

    def close(self) -> None:
        """Close the file."""
        self._raw.close()

    def _whole(self, index: int, data: bytes) -> bool:
        if len(data) < int(self.layout.counts[index]):
            return False
        return scan_is_whole(data, self._needs_end)


class DirectSource:
    """Every level that can be from raw tiles, the others from another source.

    A coarser level is read directly where its size divides level 0's and some of its tiles equal
    what the other source shows; a read that meets a damaged or missing tile there is left to the
    other source, so that the pixels are always its own.
    """

    def __init__(
        self,
        path: str,
        tiles: JpegTiles,
        coarser: Source,
        cache: TileCache,
        background: tuple[int, int, int],
        colour: Colour | None,
    ) -> None:
        self.tiles = tiles
        self.cache = cache
        self._path = path
        self._coarser = coarser
        self._colour = colour
        self._ycbcr: frozenset[int] = frozenset()
        self._background = background
        self._lock = threading.Lock()
        self._levels: dict[int, JpegTiles | None] = {0: tiles}

    @property
    def sizes(self) -> tuple[tuple[int, int], ...]:
        """(width, height) of every level, level 0 first."""
        return self._coarser.sizes

    def read_into(self, level: int, box: Box, out: Pixels) -> list[Box]:
        """See `Source.read_into`."""
        tiles = self._tiles_of(level)
        if tiles is not None and not level:
            return self._read_tiles(level, tiles, box, out)
        if tiles is not None and self._read_whole(level, tiles, box, out):
            return []
        return self._coarser.read_into(level, box, out)

    def _read_whole(self, level: int, tiles: JpegTiles, box: Box, out: Pixels) -> bool:
        """Read a box of which no tile is missing or damaged; False where one is."""
        return _all_there(tiles, box) and not self._read_tiles(level, tiles, box, out)

    def _read_tiles(self, level: int, tiles: JpegTiles, box: Box, out: Pixels) -> list[Box]:
        lay, bad = tiles.layout, []
        # a box that would sweep the cache clean is decoded past it, but for its rim, which the
        # neighbouring boxes read again
        sweeping = out.size > self.cache.max_bytes // 4
        inside = box.grow(-(min(box.width, box.height) // RIM))
        scratch = np.empty((lay.tile_h, lay.tile_w, 3), np.uint8) if sweeping else None
        for col, row, part in cells_of(box, lay.tile_w, lay.tile_h):
            index = row * tiles.cols + col
            to = part.shift(-box.x0, -box.y0)
            target = out[to.y0 : to.y1, to.x0 : to.x1]
            if tiles.missing(index):
                paint(target, self._background)
                continue
            once = tiles.box(index).clip(inside) == tiles.box(index)
            tile = self._tile(level, tiles, index, scratch if once else None)
            if tile is None:
                paint(target, self._background)
                bad.append(part)
                continue
            x, y = part.x0 - col * lay.tile_w, part.y0 - row * lay.tile_h
            target[...] = tile[y : y + part.height, x : x + part.width]
        return bad

    def _tiles_of(self, level: int) -> JpegTiles | None:
        """Return the tiles of a level that can be read directly; looked at when first asked for."""
        with self._lock:
            if level not in self._levels:
                self._levels[level] = _trusted(self._path, level, self._coarser)
            return self._levels[level]

    def take_as_ycbcr(self, levels: frozenset[int]) -> None:
        """See `Source.take_as_ycbcr`."""
        self._ycbcr = levels
        self._coarser.take_as_ycbcr(levels)
        self.cache.clear()

    def close(self) -> None:
        """Give back files and memory."""
        for tiles in self._levels.values():
            if tiles is not None:
                tiles.close()
        self.cache.clear()
        self._coarser.close()

    def _tile(
        self, level: int, tiles: JpegTiles, index: int, scratch: Pixels | None
    ) -> Pixels | None:
        if scratch is None:
            return self.cache.get((level, index), partial(self._made, level, tiles, index, None))
        held, tile = self.cache.peek((level, index))
        return tile if held else self._made(level, tiles, index, scratch)

    def _made(self, level: int, tiles: JpegTiles, index: int, out: Pixels | None) -> Pixels | None:
        tile = tiles.decode(index, out)
        colour = colour_of(level in self._ycbcr, self._colour)
        return tile if tile is None or colour is None else colour(tile)


def _all_there(tiles: JpegTiles, box: Box) -> bool:
    """Tell whether the file holds every tile that a box touches."""
    lay = tiles.layout
    return not any(
        tiles.missing(row * tiles.cols + col)
        for col, row, _ in cells_of(box, lay.tile_w, lay.tile_h)
    )


def _trusted(path: str, level: int, other: Source) -> JpegTiles | None:
    """Return the tiles of a coarser level where they show what another source shows."""
    (full_w, full_h), (width, height) = other.sizes[0], other.sizes[level]
    if full_w % width or full_h % height or full_w // width != full_h // height:
        return None  # OpenSlide interpolates there
    try:
        tiles = JpegTiles(path, (width, height))
    except NotDirect:
        return None
    if agrees(tiles, other, level):
        return tiles
    tiles.close()
    return None


def agrees(tiles: JpegTiles, other: Source, level: int = 0) -> bool:
    """Tell whether some tiles equal what another source shows of a level, bit for bit.

    Damaged tiles say nothing and are passed over.
    """
    if other.sizes[level] != (tiles.layout.width, tiles.layout.height):
        return False
    for index in tiles.some():
        box = tiles.box(index)
        mine = tiles.decode(index)
        theirs = np.full((box.height, box.width, 3), 255, np.uint8)
        if other.read_into(level, box, theirs) or mine is None:
            continue
        if not np.array_equal(mine[: box.height, : box.width], theirs):
            return False
    return True


def _page(tiff: tifffile.TiffFile, size: tuple[int, int] | None) -> tifffile.TiffPage:
    """Return the one tiled page of a size; the first page where none is asked for."""
    if size is None:
        return tiff.pages[0]
    found = [p for p in tiff.pages if p.is_tiled and (p.imagewidth, p.imagelength) == size]
    if len(found) != 1:
        raise NotDirect("no directory, or several, have the level's size")
    return found[0]


def _read_layout(path: str, size: tuple[int, int] | None) -> _Layout:
    try:
        with tifffile.TiffFile(path) as tiff:
            page = _page(tiff, size)
            reason = _why_not(page)
            if reason:
                raise NotDirect(reason)
            offsets = np.asarray(page.dataoffsets, np.int64)
            counts = np.asarray(page.databytecounts, np.int64)
            width, height = int(page.imagewidth), int(page.imagelength)
            tile_w, tile_h = int(page.tilewidth), int(page.tilelength)
            tables = page.jpegtables
            colour = "YCBCR" if int(page.photometric) == YCBCR else "RGB"
    except NotDirect:
        raise
    except Exception as exc:
        raise NotDirect(f"its directory cannot be read ({exc})") from exc
    if min(tile_w, tile_h, width, height) < 1 or tile_w * tile_h > MAX_TILE_PX:
        raise NotDirect("its tile size is absurd")
    if not offsets.size == counts.size == -(-width // tile_w) * -(-height // tile_h):
        raise NotDirect("its number of tiles does not fit its size")
    if (counts < 0).any() or (counts > 16 * tile_w * tile_h + 65536).any():
        raise NotDirect("its tile lengths are absurd")
    return _Layout(width, height, tile_w, tile_h, offsets, counts, tables, colour)


def _why_not(page: tifffile.TiffPage) -> str:
    """Return why a page cannot be read directly, or an empty string."""
    orientation = page.tags.get(274)
    wanted = {
        "it is not tiled": page.is_tiled,
        "its tiles are not JPEG": int(page.compression) == JPEG,
        "it is neither RGB nor YCbCr": int(page.photometric) in (RGB, YCBCR),
        "its planes are separate": int(page.planarconfig) == 1,
        "it has other than 3 samples": page.samplesperpixel == 3,
        "it is not 8-bit": page.bitspersample == 8,
        "it is a volume": page.imagedepth == 1 and page.tiledepth == 1,
        "its bits are reversed": int(page.fillorder) == 1,
        "it is turned": orientation is None or int(orientation.value) == 1,
    }
    return next((reason for reason, met in wanted.items() if not met), "")

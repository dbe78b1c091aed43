"""What names a slide (`SlideRef`) and what is known of it (`SlideInfo`): plain values."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from her2path.core.geometry import Box, Planes
from her2path.core.results import QcFlag

__all__ = ["Icc", "Reader", "SlideInfo", "SlideRef"]

Reader = Literal["auto", "openslide", "direct"]
Icc = Literal["off", "apply"]


@dataclass(frozen=True)
class SlideRef:
    """A slide by its path and by how it is to be read; what workers are given instead of a handle.

    Parameters
    ----------
    path : str
        The file; for DICOM also the folder that holds the instances.
    mpp : float or None
        Pixel size in µm per pixel, used where the file states none (or an absurd one).
    force_mpp : bool
        Let ``mpp`` win over the file's own.
    reader : {"auto", "openslide", "direct"}
        ``auto`` decodes raw JPEG tiles where that equals OpenSlide's pixels.
    icc : {"off", "apply"}
        ``apply`` converts to sRGB by the file's ICC profile.
    cache_mb : int
        Bound of the tile cache, MiB per open slide.
    """

    path: str
    mpp: float | None = None
    force_mpp: bool = False
    reader: Reader = "auto"
    icc: Icc = "off"
    cache_mb: int = 64


@dataclass(frozen=True)
class SlideInfo:
    """What is known of an open slide.

    All pixel figures belong to the level-0 plane of *square* pixels of side ``mpp``, whose origin
    is level 0's as OpenSlide shows it. For all but anisotropic files that is the file's own plane.
    """

    path: str
    vendor: str
    #: side of a square pixel, µm
    mpp: float
    #: the file's own pixel size, µm
    mpp_x: float
    mpp_y: float
    width_px: int
    height_px: int
    #: the scanned part where the file states one (MRXS and others), else None
    bounds: Box | None
    #: the same in the file's own pixels
    file_bounds: Box | None
    #: downsample of every level, the first is 1.0
    levels: tuple[float, ...]
    #: (width, height) of every level
    level_sizes: tuple[tuple[int, int], ...]
    objective_power: float | None
    #: what decodes level 0: ``direct``, ``openslide`` or ``image``
    reader: str
    #: grey levels (R, G, B) of what was not scanned
    background: tuple[int, int, int]
    sha256_quick: str
    file_width_px: int
    file_height_px: int
    icc_profile: str | None = None
    icc_applied: bool = False
    #: what a reader should know of the file and of how it was read
    flags: tuple[QcFlag, ...] = ()
    #: technical properties only; nothing that may hold a name
    properties_safe: dict[str, str] = field(default_factory=dict)

    @property
    def tissue_bounds(self) -> Box | None:
        """The scanned part (`bounds`), or None where the file states none."""
        return self.bounds

    @property
    def notes(self) -> tuple[str, ...]:
        """The sentences of `flags`."""
        return tuple(f.message for f in self.flags)

    @property
    def anisotropic(self) -> bool:
        """Whether reads are resampled from the file's oblong pixels."""
        return (self.width_px, self.height_px) != (self.file_width_px, self.file_height_px)

    @property
    def planes(self) -> Planes:
        """The slide's named planes: the file's own pixels, the square ones, QuPath's crop."""
        corner = (0, 0) if self.file_bounds is None else (self.file_bounds.x0, self.file_bounds.y0)
        size = (self.file_width_px, self.file_height_px)
        return Planes.of((self.mpp_x, self.mpp_y), size, corner)

    def to_file_px(self, x: float, y: float) -> tuple[float, float]:
        """Map a position on the square plane to the file's own level-0 pixels."""
        planes = self.planes
        at: tuple[float, float] = planes.square.move(x, y, planes.file)
        return at

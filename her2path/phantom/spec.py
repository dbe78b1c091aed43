"""What a phantom is made of: one frozen, validated description with units."""

from __future__ import annotations

import math
from typing import Annotated, Literal, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from her2path.core.schema import INTENSITY, PATTERNS
from her2path.io.annotations import control_of

INTENSITY_OF_CODE: tuple[int, ...] = tuple(INTENSITY[name] for name in PATTERNS)
"""Intensity (none 0, faint 1, moderate 2, intense 3) of each pattern code, a
code being the pattern's place in PATTERNS."""

Share = Annotated[float, Field(ge=0.0, le=1.0)]
Triple = tuple[float, float, float]
Range = tuple[float, float]
Layout = Literal["homogeneous", "clustered", "mosaic", "scattered"]
Subsampling = Literal["4:4:4", "4:2:2", "4:2:0"]

MAX_PIXELS = 800_000_000


class PhantomSpec(BaseModel):
    """Everything that decides a phantom's pixels and truth.

    Stain amounts are optical densities (base 10) along unit-length stain
    vectors, lengths are in micrometres. Widths of membranes follow Scheel
    et al. 2018 (faint 0.64, moderate 1.0, intense 2.14 um at half maximum).
    The ranges of a cell's own crest follow lines measured on tissue (see
    docs/phantom.md): a line between two cells shows the sum of both.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    seed: int = Field(default=0, ge=0, description="Seed of every random number.")
    width_um: float = Field(default=500.0, ge=40, le=50_000, description="Width (um).")
    height_um: float = Field(default=500.0, ge=40, le=50_000, description="Height (um).")
    mpp: float = Field(default=0.25, ge=0.1, le=1.0, description="Pixel size (um/px).")
    margin_um: float = Field(default=20.0, ge=0, description="Bare glass around the tissue (um).")

    layout: Layout = Field(default="homogeneous", description="How the second population lies.")
    mixture: dict[str, float] = Field(
        default_factory=lambda: {"intense_complete": 1.0},
        description="Weights of the patterns in the main population.",
    )
    second: dict[str, float] = Field(
        default_factory=dict, description="Weights of the patterns in the second population."
    )
    second_fraction: Share = Field(
        default=0.0, description="Share of the tumour cells in the second."
    )
    clone_um: float = Field(
        default=160.0, ge=20, description="Size of the clones of a clustered one (um)."
    )
    clones_by_nest: bool = Field(
        default=False, description="Clones are whole nests, not smooth areas."
    )

    strength: float = Field(default=1.0, ge=0.1, le=3.0, description="Gain on every membrane OD.")
    receptors_per_od: float = Field(
        default=1_000_000.0, ge=1e3, le=1e9,
        description="Receptors a cell per OD of its own line at strength 1 (an assumption).",
    )  # fmt: skip
    controls: tuple[str, ...] = Field(
        default=(),
        description="Control areas on the slide: `0`, `1+`, `2+`, `3+` or `NUMBER receptors`.",
    )
    control_um: float = Field(default=260.0, ge=120, le=2000, description="Side of each (um).")
    od_faint: Range = Field(
        default=(0.03, 0.08), description="Crest OD before blur, faint (range)."
    )
    od_moderate: Range = Field(
        default=(0.095, 0.23), description="Crest OD before blur, moderate (range)."
    )
    od_intense: Range = Field(
        default=(0.28, 0.70), description="Crest OD before blur, intense (range)."
    )
    width_faint_um: Range = Field(default=(0.64, 0.10), description="FWHM, faint (mean, SD; um).")
    width_moderate_um: Range = Field(
        default=(1.0, 0.23), description="FWHM, moderate (mean, SD; um)."
    )
    width_intense_um: Range = Field(
        default=(2.14, 0.40), description="FWHM, intense (mean, SD; um)."
    )
    knife_edge: bool = Field(
        default=False, description="Completeness may lie anywhere, also just beside 0.80."
    )

    hematoxylin: Triple = Field(
        default=(0.65, 0.70, 0.29), description="Hematoxylin OD vector (RGB)."
    )
    dab: Triple = Field(default=(0.27, 0.57, 0.78), description="DAB OD vector (RGB).")
    white: Triple = Field(default=(243.0, 243.0, 242.0), description="White point (RGB, 0-255).")
    nucleus_od: float = Field(
        default=0.30, ge=0.05, le=1.2, description="Median nuclear OD of tumour."
    )
    cytoplasm_h: float = Field(
        default=0.09, ge=0, le=0.4, description="Hematoxylin OD of cytoplasm."
    )
    blur_um: float = Field(
        default=0.22, ge=0, le=2.0, description="Scanner point spread, sigma (um)."
    )
    sharpen: float = Field(
        default=0.0, ge=0, le=1.0, description="Amount of the scanner's sharpening."
    )
    noise: float = Field(default=1.2, ge=0, le=12, description="Noise at white, SD (grey levels).")
    jpeg_quality: int = Field(
        default=80, ge=20, le=100, description="JPEG quality of the slide file."
    )
    subsampling: Subsampling = Field(default="4:2:0", description="JPEG chroma subsampling.")

    cell_um: float = Field(
        default=12.5, ge=7, le=25, description="Mean pitch of polygonal cells (um)."
    )
    crowding: Share = Field(default=0.4, description="How much of the cell its nucleus fills.")
    irregularity: Share = Field(
        default=0.6, description="Waviness of borders, unevenness of sizes."
    )
    columnar_share: Share = Field(
        default=0.15, description="Share of tumour area in columnar glands."
    )
    vesicular_share: Share = Field(
        default=0.45, description="Share of nuclei pale inside, dark rim."
    )
    missing_nucleus_share: Share = Field(
        default=0.08, description="Share of cells cut beside the nucleus."
    )
    overlap: Share = Field(
        default=0.15, description="Share of nuclei that reach over their neighbour."
    )
    gap_share: Share = Field(
        default=0.12, description="Share of cells parted from their neighbours."
    )

    blush: float = Field(
        default=0.03, ge=0, le=0.4, description="Cytoplasmic DAB OD, whatever the class."
    )
    nuclear_dab: float = Field(default=0.01, ge=0, le=0.4, description="DAB OD in nuclei.")
    background_dab: float = Field(default=0.004, ge=0, le=0.2, description="DAB OD in stroma.")
    granularity: Share = Field(default=0.5, description="Grain along the stained lines.")
    broken: Share = Field(default=0.35, description="Short dips (under 1 um) along the lines.")
    tangential: Share = Field(default=0.3, description="Stretches cut slantwise: broad and pale.")
    precipitate: Share = Field(default=0.1, description="Loose DAB grains, in cells and outside.")

    tumour_share: Share = Field(default=0.6, description="Share of the tissue in tumour nests.")
    nest_um: float = Field(default=150.0, ge=30, description="Size of the nests (um).")
    lumens: Share = Field(default=0.2, description="Small lumens inside the nests.")
    lymphocytes: Share = Field(default=0.4, description="Density of lymphocytes, in clusters.")
    stroma_cells: Share = Field(default=0.5, description="Density of spindle stromal nuclei.")
    red_cells: Share = Field(default=0.3, description="Vessels with red blood cells.")
    refractile: Share = Field(default=0.3, description="Refractile edges at lumens and gaps.")

    folds: int = Field(default=0, ge=0, le=20, description="Number of tissue folds.")
    out_of_focus: int = Field(default=0, ge=0, le=20, description="Number of blurred patches.")
    pen: int = Field(default=0, ge=0, le=10, description="Number of pen strokes.")
    dust: int = Field(default=0, ge=0, le=2000, description="Number of dust specks and lint.")
    bubbles: int = Field(default=0, ge=0, le=20, description="Number of air bubbles.")
    smudges: int = Field(default=0, ge=0, le=50, description="Number of smudges and precipitates.")
    tears: int = Field(default=0, ge=0, le=20, description="Number of tears.")
    necrosis: int = Field(default=0, ge=0, le=20, description="Number of necrotic patches.")
    blush_patches: int = Field(default=0, ge=0, le=20, description="Patches of DAB background.")
    pale_patches: int = Field(default=0, ge=0, le=20, description="Patches hardly counterstained.")
    overexposed: int = Field(default=0, ge=0, le=20, description="Patches clipped at white.")
    jpeg_damage: int = Field(default=0, ge=0, le=20, description="Patches damaged by JPEG.")

    @field_validator("mixture", "second")
    @classmethod
    def _known_patterns(cls, value: dict[str, float]) -> dict[str, float]:
        unknown = sorted(set(value) - set(PATTERNS))
        if unknown:
            raise ValueError(f"unknown pattern {', '.join(unknown)}; valid: {', '.join(PATTERNS)}")
        if any(weight < 0 for weight in value.values()):
            raise ValueError("weights must not be negative")
        if value and sum(value.values()) <= 0:
            raise ValueError("the weights must not all be zero")
        return value

    @field_validator("controls")
    @classmethod
    def _known_controls(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for word in value:
            if control_of(f"control {word}") is None:
                raise ValueError(f"{word!r} is no control; valid: 0, 1+, 2+, 3+, NUMBER receptors")
        return value

    @field_validator("hematoxylin", "dab")
    @classmethod
    def _stain_vector(cls, value: Triple) -> Triple:
        if min(value) < 0 or math.hypot(*value) < 0.1:
            raise ValueError("a stain vector has three parts >= 0 and is not zero")
        return value

    @field_validator("white")
    @classmethod
    def _white(cls, value: Triple) -> Triple:
        if min(value) < 120 or max(value) > 255:
            raise ValueError("the white point lies within 120-255")
        return value

    @field_validator("od_faint", "od_moderate", "od_intense")
    @classmethod
    def _od_range(cls, value: Range) -> Range:
        if not 0 < value[0] <= value[1] <= 4:
            raise ValueError("an OD range is (low, high) with 0 < low <= high <= 4")
        return value

    @field_validator("width_faint_um", "width_moderate_um", "width_intense_um")
    @classmethod
    def _width(cls, value: Range) -> Range:
        if not 0.2 <= value[0] <= 6 or not 0 <= value[1] <= value[0]:
            raise ValueError("a width is (mean, SD) with a mean of 0.2-6 um and an SD below it")
        return value

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if not self.mixture:
            raise ValueError("mixture: give at least one pattern")
        if 2 * self.margin_um > 0.6 * min(self.width_um, self.height_um):
            raise ValueError("margin_um leaves too little tissue; at most 30 % of the shorter side")
        if self.width_um * self.height_um / self.mpp**2 > MAX_PIXELS:
            raise ValueError("too many pixels; make it smaller and use tile_repeat in write_slide")
        self._check_layout()
        return self

    def _check_layout(self) -> None:
        """Raise ValueError where the second population does not suit the layout."""
        limits = {
            "homogeneous": (0.0, 0.0),
            "clustered": (0.001, 0.999),
            "mosaic": (0.15, 0.70),
            "scattered": (0.001, 0.10),
        }
        low, high = limits[self.layout]
        if not low <= self.second_fraction <= high:
            raise ValueError(f"second_fraction of a {self.layout} layout lies within {low}-{high}")
        if self.layout != "homogeneous" and not self.second:
            raise ValueError(f"second: a {self.layout} layout needs a second population")

    @property
    def width_px(self) -> int:
        """Width of the image in pixels."""
        return max(1, round(self.width_um / self.mpp))

    @property
    def height_px(self) -> int:
        """Height of the image in pixels."""
        return max(1, round(self.height_um / self.mpp))

    @property
    def supersampling(self) -> int:
        """Number of rendered pixels along one pixel of the image."""
        return max(1, math.ceil(self.mpp / 0.3 - 1e-9))

    def rng(self, part: str) -> np.random.Generator:
        """Return the generator of one named part, independent of the others'."""
        return np.random.default_rng([self.seed, *part.encode()])

"""The sections of the settings: every key with its unit and default."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator

from her2path.core.settings.base import Section

__all__ = [
    "PATTERNS",
    "CnnSettings",
    "HeterogeneitySettings",
    "IshSettings",
    "MembraneSettings",
    "NucleiSettings",
    "Pattern",
    "QcSettings",
    "RegionSettings",
    "ScoreSettings",
    "SensitivitySettings",
    "SlideSettings",
    "StainSettings",
    "StreamSettings",
    "TissueSettings",
    "TumourSettings",
]

Pattern = Literal[
    "none",
    "faint_incomplete",
    "faint_complete",
    "moderate_incomplete",
    "moderate_complete",
    "intense_incomplete",
    "intense_complete",
]
#: the seven staining patterns of a cell, in rising order
PATTERNS: tuple[str, ...] = Pattern.__args__  # type: ignore[attr-defined]

Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Vector = tuple[float, float, float]


class SlideSettings(Section):
    """How a slide is read."""

    mpp: float | None = Field(
        None, ge=0.1, le=2.0, description="µm per pixel, when the file has none"
    )
    force_mpp: bool = Field(False, description="let slide.mpp win over the file's own")
    icc: Literal["off", "apply"] = Field("off", description="convert to sRGB by the ICC profile")
    reader: Literal["auto", "direct", "openslide"] = Field("auto", description="decoder to use")
    cache_mb: int = Field(64, ge=1, le=16384, description="tile cache per slide and process, MiB")
    max_bad_tissue: Fraction = Field(
        0.01, description="share of the tissue that may be unreadable before the slide fails"
    )


class TissueSettings(Section):
    """Where tissue is."""

    mpp: Positive = Field(8.0, description="µm per pixel of the tissue mask")
    min_od: Positive = Field(0.010, description="OD above the white point, lower limit of tissue")
    min_area_um2: Positive = Field(20_000.0, description="smaller pieces are dust, µm²")
    exclude_pen: bool = Field(True, description="leave out pen marks")


class StainSettings(Section):
    """White point and stain vectors."""

    method: Literal["estimate", "fixed"] = Field(
        "estimate", description="estimated per slide, or fixed"
    )
    hematoxylin: Vector = Field((0.65, 0.70, 0.29), description="OD vector (R, G, B)")
    dab: Vector = Field((0.27, 0.57, 0.78), description="OD vector (R, G, B)")
    white_point: Vector | None = Field(None, description="grey levels (R, G, B) of empty glass")
    sample_tiles: int = Field(96, ge=4, le=4096, description="tiles sampled for the estimate")
    seed: int = Field(0, ge=0, description="seed of the sample")

    @field_validator("hematoxylin", "dab")
    @classmethod
    def _unit(cls, v: Vector) -> Vector:
        norm = float(sum(x * x for x in v)) ** 0.5
        if norm <= 0 or min(v) < 0:
            raise ValueError("a stain vector has three numbers >= 0, not all 0")
        return v

    @field_validator("white_point")
    @classmethod
    def _white(cls, v: Vector | None) -> Vector | None:
        if v is not None and not all(50 <= x <= 255 for x in v):
            raise ValueError("a white point has three grey levels from 50 to 255")
        return v


class NucleiSettings(Section):
    """Where nuclei are found."""

    sensitivity: float = Field(1.0, gt=0.1, lt=10, description="above 1 finds more, paler nuclei")


class MembraneSettings(Section):
    """The membrane and its classes."""

    measure: Literal["membrane_od", "membrane_mass"] = Field(
        "membrane_od", description="the column that decides the intensity"
    )
    cutoffs: tuple[float, float, float] = Field(
        (0.02, 0.075, 0.235),
        description="lower limits of `measure` for faint, moderate, intense (OD, or OD·µm); "
        "the shipped ones are uncalibrated",
    )
    complete_at: float = Field(
        0.80, gt=0, le=1, description="own stained share of a complete membrane"
    )
    stained_at: Fraction = Field(0.10, description="own stained share from which a cell is stained")
    calibration: Literal["control", "reads", "calibrators", "uncalibrated"] = Field(
        "uncalibrated", description="where the cut-offs come from"
    )
    cutoffs_relative_error: Fraction = Field(
        0.60, description="half-width of the cut-offs' 95 % interval, relative"
    )

    @field_validator("cutoffs")
    @classmethod
    def _rising(cls, v: tuple[float, float, float]) -> tuple[float, float, float]:
        if not 0 < v[0] < v[1] < v[2]:
            raise ValueError("membrane.cutoffs are three rising numbers above 0")
        return v


class TumourSettings(Section):
    """Which cells are tumour."""

    method: Literal["auto", "annotation", "morphology", "all"] = Field(
        "auto", description="auto: annotations when given, otherwise morphology"
    )
    classes: tuple[str, ...] = Field(
        (
            "tumor",
            "tumour",
            "invasive",
            "invasive carcinoma",
            "carcinoma",
            "invasive tumor",
            "invasive tumour",
            "tumor cells",
            "tumour cells",
            "tumor area",
            "tumour area",
            "tumor region",
            "tumour region",
            "invasive cancer",
            "cancer",
            "idc",
            "ilc",
            "invasive ductal carcinoma",
            "invasive lobular carcinoma",
        ),
        description="annotation classes that are tumour (case-insensitive)",
    )
    exclude: tuple[str, ...] = Field(
        (
            "dcis",
            "lcis",
            "in situ",
            "carcinoma in situ",
            "ductal carcinoma in situ",
            "lobular carcinoma in situ",
            "necrosis",
            "control",
            "control tissue",
            "normal",
            "artefact",
            "artifact",
            "exclude",
            "exclusion",
            "ignore*",
            "stroma",
        ),
        description="annotation classes that are left out (case-insensitive)",
    )


class ScoreSettings(Section):
    """The rule set."""

    guideline: str = Field(
        "asco_cap_2018", description="rule set, or the path of one's own in YAML"
    )
    noise_floor: Fraction = Field(0.01, description="fractions up to this count as none")
    min_cells: int = Field(100, ge=1, description="fewer tumour cells are not evaluable")
    cluster_link_um: Positive = Field(25.0, description="cells within this are one cluster, µm")
    cluster_cells: int = Field(5, ge=1, description="stained tumour cells of a biopsy cluster")
    bootstrap_draws: int = Field(
        400, ge=20, le=20_000, description="draws of the spatial bootstrap"
    )
    bootstrap_block_um: Positive = Field(400.0, description="side of a bootstrap block, µm")
    second_look_at: Fraction = Field(
        0.90, description="second look when the score's probability is below"
    )


class RegionSettings(Section):
    """Regions."""

    kind: Literal["grid", "hexagon", "annotation", "core", "nest"] = Field(
        "grid", description="kind"
    )
    size_um: Positive = Field(500.0, description="side of a square, or width of a hexagon, µm")
    min_cells: int = Field(50, ge=1, description="fewer tumour cells: indeterminate")
    nest_link_um: Positive = Field(30.0, description="tumour cells within this are one nest, µm")


class HeterogeneitySettings(Section):
    """Definitions and their limits."""

    positive: tuple[Pattern, ...] | None = Field(
        None, description="patterns that are positive; default follows the guideline"
    )
    area_low: Fraction = Field(0.05, description="negative at or below this positive fraction")
    area_high: Fraction = Field(0.50, description="positive at or above this positive fraction")
    permutations: int = Field(999, ge=19, le=99_999, description="random labellings")
    neighbours: int = Field(8, ge=2, le=64, description="nearest neighbours in spatial weights")
    fdr: Fraction = Field(0.05, description="false discovery rate of local statistics")
    patch_neighbours: int = Field(24, ge=4, le=256, description="neighbours that show a patch")
    patch_share: Fraction = Field(0.50, description="clustered: patches hold this share of a class")
    patch_positive_below: Fraction = Field(
        0.90, description="clustered by positive patches below this positive fraction"
    )
    patch_negative_from: Fraction = Field(
        0.10, description="clustered by negative patches from this negative fraction"
    )
    homogeneous_at: Fraction = Field(0.75, description="homogeneous (positive) from this fraction")
    scattered_at: Fraction = Field(0.10, description="scattered up to this positive fraction")
    error_rate: Fraction = Field(
        0.01, description="share of tumour cells called positive, or negative, in error"
    )
    pattern_min_cells: int = Field(50, ge=3, description="fewer tumour cells have no pattern type")
    cluster_area: Fraction = Field(
        0.10, description="cluster heterogeneity above this share of the tumour in positive patches"
    )
    variogram_um: Positive = Field(400.0, description="longest lag of variogram and pairs, µm")
    variogram_lag_um: Positive = Field(10.0, description="width of a lag, µm")
    interval_block_um: Positive = Field(400.0, description="block of the spatial bootstrap, µm")
    interval_draws: int = Field(400, ge=20, le=20_000, description="draws of the spatial bootstrap")
    biopsy_cores: int = Field(3, ge=1, le=100, description="cores of the virtual biopsy")
    biopsy_width_um: Positive = Field(1000.0, description="core width, µm")
    biopsy_length_um: Positive = Field(10_000.0, description="core length, µm")
    biopsy_draws: int = Field(500, ge=10, le=100_000, description="virtual biopsies drawn")
    biopsy_areas: int = Field(3, ge=1, le=100, description="areas read in each core")
    proximity_um: Positive = Field(30.0, description="reach of the proximity score, µm")


class IshSettings(Section):
    """ISH counts."""

    cell_ratio: Positive = Field(2.0, description="a cell is amplified at or above this HER2/CEP17")
    min_cells: int = Field(20, ge=1, description="fewer evaluable cells: indeterminate")
    cap_ratio: Positive = Field(2.2, description="CAP 2009: a cell counts above this ratio")
    cap_low: Fraction = Field(0.05, description="CAP 2009: more than this share of such cells")
    cap_high: Fraction = Field(0.50, description="CAP 2009: fewer than this share of such cells")
    cap_inclusive: bool = Field(False, description="CAP 2009: the lower limit itself counts")
    separate_population: Fraction = Field(
        0.10, description="ASCO/CAP: separate population above this"
    )
    high_copies: Positive = Field(
        6.0, description="cluster and mosaic: a cell is high from so many HER2 signals"
    )
    low_copies: Positive = Field(
        4.0, description="cluster and mosaic: a cell is low below so many HER2 signals"
    )


class StreamSettings(Section):
    """Motion; nothing here changes a result."""

    block_px: int = Field(4096, ge=256, le=65_536, description="side of a block, level-0 pixels")
    workers: int = Field(0, ge=0, le=1024, description="threads; 0 = as many as cores")
    memory_mb: int = Field(0, ge=0, description="budget, MiB; 0 = half of the free memory")
    timeout_s: Positive = Field(
        3600.0, description="a batch ends a slide that takes longer, seconds"
    )


class QcSettings(Section):
    """Quality control."""

    min_focus: Fraction = Field(0.5, description="share of the tissue that must be in focus")
    certain_from: Fraction = Field(
        0.70, description="a tumour cell's kind is certain from this probability"
    )
    certain_share: Fraction = Field(
        0.60, description="tumour not recognised (warning) below this share of certain cells"
    )
    least_certain_share: Fraction = Field(
        0.20, description="not evaluable below this share of certain cells"
    )
    max_coarse_mpp: float = Field(
        0.505, gt=0, le=2, description="coarser slides are not evaluable, µm/px"
    )
    # artefacts: whether what they touch is left out of every figure (always marked on the map)
    blurry: bool = Field(True, description="leave out what is out of focus")
    pen_markings: bool = Field(True, description="leave out pen (with tissue.exclude_pen)")
    folds: bool = Field(True, description="leave out folds")
    bubbles: bool = Field(True, description="leave out air bubbles")
    dust: bool = Field(True, description="leave out dust, smudges and precipitate")
    edges: bool = Field(True, description="leave out tears and edge artefact")
    necrosis: bool = Field(True, description="leave out necrosis, fibrin, debris, blood")
    background: bool = Field(True, description="leave out blush and DAB background")
    saturation: bool = Field(True, description="leave out clipped white or black")
    compression: bool = Field(True, description="leave out JPEG damage")
    pale: bool = Field(True, description="leave out what is hardly counterstained")
    # their limits, with reasons in docs/qc.md
    min_sharpness: Fraction = Field(
        0.17, description="in focus: contrast at 1 µm over contrast at 4 µm"
    )
    min_visibility: Fraction = Field(
        0.13, description="in focus: contrast at 1 µm over the stain's square"
    )
    max_floor_od: Positive = Field(0.10, description="smudge: 90 % of the pixels exceed this OD")
    max_blue: Fraction = Field(0.10, description="precipitate: share of pixels too blue")
    max_grey: Fraction = Field(0.006, description="dust: share of pixels of neither stain")
    max_background_od: Positive = Field(
        0.12, description="blush: 90 % of the pixels exceed this DAB OD"
    )
    max_edge_od: Positive = Field(0.08, description="edge artefact: as blush, within 50 µm")
    max_clipped: Fraction = Field(0.10, description="saturation: share of clipped pixels")
    max_blocks: Positive = Field(1.9, description="JPEG damage: steps across blocks over inside")
    min_hematoxylin_od: Positive = Field(
        0.07, description="weak counterstain: OD that the darkest 5 % do not reach"
    )
    min_nuclei: float = Field(
        0.33, ge=0, description="necrosis: fewer finds than this in 256 µm² of 80 µm around"
    )
    fold_density: float = Field(1.35, ge=1, description="fold: hematoxylin over the usual")
    max_left_out: Fraction = Field(
        0.80, description="not evaluable when more of the tissue is left out"
    )
    max_blur_um: Positive = Field(0.5, description="soft above this blur (sigma), µm")
    max_hidden: Fraction = Field(0.15, description="share of nuclei under brown, at most")
    max_staining_ratio: float = Field(
        1.5, gt=1, description="controls over the batch's controls (or the inverse), at most"
    )
    check_mpp: bool = Field(True, description="refuse a pixel size that nuclei contradict")


class SensitivitySettings(Section):
    """The detection limit, by lines laid over unstained cells."""

    cells: int = Field(
        300,
        ge=0,
        le=100_000,
        description="unstained cells to look at, a line over half of them; 0: off",
    )


class CnnSettings(Section):
    """The optional CNN scorer."""

    model: str | None = Field(None, description="path of a model, or `builtin`")
    batch: int | None = Field(
        None, ge=1, le=4096, description="patches a batch; not given: as memory allows"
    )
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="where it runs")
    runtime: Literal["auto", "torch", "onnxruntime"] = Field(
        "auto", description="what runs it on a CPU; auto: ONNX Runtime where it is installed"
    )
    precision: Literal["fp32", "bf16", "auto"] = Field(
        "fp32", description="of its arithmetic; auto: bf16 where it is timed to be faster"
    )
    cells: int = Field(
        20_000,
        ge=0,
        description="up to so many tumour cells get a patch each; with more, "
        "a cell carries its region's probabilities",
    )
    features: bool = Field(False, description="also write the network's features of every region")

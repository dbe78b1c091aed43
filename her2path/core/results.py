"""What a run concludes: ``result.json`` as a frozen tree of named values.

Units as in the contract: fractions 0..1, areas in mm², lengths in µm, optical density base 10.
A value that cannot be given is ``None``, with a reason beside it where one is known; NaN and
infinity never appear.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from her2path.core.geometry import Planes

__all__ = [
    "Areas",
    "AssayFacts",
    "Bystander",
    "CalibrationFacts",
    "CnnRegions",
    "CnnResult",
    "ControlFacts",
    "Counts",
    "Diversity",
    "Heterogeneity",
    "LowVsNull",
    "PatternType",
    "Provenance",
    "Qc",
    "QcFlag",
    "Receptors",
    "Recovered",
    "Result",
    "Score",
    "Sensitivity",
    "SlideCalibration",
    "SlideFacts",
    "StainFacts",
]

SCHEMA_VERSION = 1


class Part(BaseModel):
    """Base of every part: frozen, and no NaN or infinity gets in."""

    model_config = ConfigDict(frozen=True, extra="allow", allow_inf_nan=False)


class SlideFacts(Part):
    """The slide that was read."""

    path: str | None
    id: str
    vendor: str | None
    mpp: float | None
    width_px: int | None
    height_px: int | None
    sha256_quick: str | None
    bounds_px: tuple[int, int, int, int] | None = None
    #: sides of the file's own pixels where they are not square; ``mpp`` is the shorter one
    mpp_x: float | None = None
    mpp_y: float | None = None
    case_id: str | None = None

    @property
    def planes(self) -> Planes:
        """The slide's named planes, by what the result says of it."""
        side = self.mpp or 1.0
        corner = (0, 0) if self.bounds_px is None else (self.bounds_px[0], self.bounds_px[1])
        mpp = (self.mpp_x or side, self.mpp_y or side)
        return Planes.of(mpp, (self.width_px or 1, self.height_px or 1), corner)


class StainFacts(Part):
    """White point and stain vectors that were used."""

    white_point: tuple[float, float, float]
    hematoxylin: tuple[float, float, float]
    dab: tuple[float, float, float]
    method: Literal["estimated", "fixed", "fallback"]
    calibration: Literal["control", "reads", "calibrators", "uncalibrated"]


class AssayFacts(Part):
    """Clone, staining platform and scanner, as manifest or settings name them."""

    clone: str | None = None
    stainer: str | None = None
    scanner: str | None = None


class ControlFacts(Part):
    """One control area on the slide: what it states, and what was measured."""

    name: str
    level: str | None = None
    receptors: float | None = None
    cells: int = 0
    median: float | None = None
    stained: float | None = None


class CalibrationFacts(Part):
    """The cut-offs and the curve that this slide was read with, and where they come from.

    ``source``: ``slide`` (control areas on the slide itself) or ``settings``. ``controls``: of
    this slide, whether they were used or not; ``median`` is of ``measure`` over the area's stained
    cells (0 where most are unstained), ``stained`` the share of stained cells.
    """

    source: Literal["settings", "slide"] = "settings"
    measure: str
    cutoffs: tuple[float, float, float]
    cutoffs_intervals: tuple[tuple[float, float], ...] | None = None
    cutoffs_relative_error: float
    curve: dict[str, Any] | None = None
    assay: AssayFacts = AssayFacts()
    date: str | None = None
    controls: tuple[ControlFacts, ...] = ()


class Receptors(Part):
    """Receptors a tumour cell: median with its 95 % interval, or the reason why there is none.

    ``below`` and ``above``: shares of the tumour cells outside the curve's ``range``; the median
    counts them on their side. A limit of the interval that lies outside the range is null.
    """

    median: float | None = None
    low: float | None = None
    high: float | None = None
    range: tuple[float, float] | None = None
    below: float | None = None
    above: float | None = None
    reason: str | None = None


class QcFlag(Part):
    """One thing a reader should know."""

    code: str
    severity: Literal["info", "warning", "fail"]
    message: str


class Qc(Part):
    """Quality control."""

    flags: tuple[QcFlag, ...] = ()
    tissue_area_mm2: float = 0.0
    analysed_area_mm2: float = 0.0
    #: fine over coarse contrast, pooled over the tissue; median hematoxylin OD of the nuclei less
    #: that of the tissue
    focus: float | None = None
    nuclear_contrast: float | None = None
    #: tissue left out for artefacts, and the area of each of them (they overlap), mm²
    left_out_mm2: float = 0.0
    artefacts_mm2: dict[str, float] = Field(default_factory=dict)
    #: blur of the scan, sigma of a Gaussian, µm
    blur_um: float | None = None


class Counts(Part):
    """Cells found."""

    tumour: int = 0
    other: int = 0


class Score(Part):
    """The HER2 score by one rule set, and how sure it is."""

    guideline: str
    ihc: str
    substate: Literal["null", "ultralow"] | None
    rule: str
    trace: tuple[str, ...]
    flags: tuple[str, ...]
    probability: dict[str, float] | None = None
    substate_probability: dict[str, float] | None = None
    reflex_ish: bool | None = None
    category: str
    #: the printed one: `0`, `0+`, `1+`, `2+`, `3+` where the rule set has five, else as `ihc`
    stratum: str | None = None
    fractions: dict[str, float] = Field(default_factory=dict)


class Areas(Part):
    """Areas of the primary kind, and the case verdict that rests on them."""

    n: int
    positive: int
    heterogeneous: int
    negative: int
    indeterminate: int
    uncertain: int
    rule: str
    heterogeneous_case: bool | None
    reason: str | None
    false_alarm_probability: float | None


class LowVsNull(Part):
    """Shares of cells and of area that are null, low, positive, ..."""

    cell_fraction: dict[str, float]
    area_fraction: dict[str, float] | None


class PatternType(Part):
    """How positive cells lie among the tumour cells."""

    type: Literal["homogeneous", "clustered", "mosaic", "scattered", "not_evaluable"]
    p_value: float | None
    moran_i: float | None
    cluster_area_fraction: float | None


class Diversity(Part):
    """Diversity of the cells' intensities."""

    shannon: float | None
    simpson: float | None
    rao_q: float | None
    gini: float | None


class Bystander(Part):
    """Share of tumour cells that are positive or within a radius of a positive one."""

    radius_um: tuple[float, ...]
    coverage: tuple[float, ...] | None


class Heterogeneity(Part):
    """Heterogeneity in the clinic's definitions and in space."""

    basis: Literal["ihc", "ish"]
    positive_definition: tuple[str, ...]
    areas: Areas | None
    positive_cell_fraction: float | None
    positive_area_fraction: float | None
    area_fraction_5_50: float | None
    low_vs_null: LowVsNull | None
    pattern: PatternType
    diversity: Diversity
    bystander: Bystander


#: why there is no detection limit where none was asked for
SWITCHED_OFF = "it was switched off (sensitivity.cells is 0)"


class Recovered(Part):
    """Cells that got a line of one strength, and how many of them read stained."""

    membrane_od: float
    found: float
    low: float
    high: float
    n: int


class Sensitivity(Part):
    """What the slide shows of faint membranes, measured by spiking; null where it cannot be."""

    method: Literal["spike_in"] = "spike_in"
    cells: int = 0
    blanks: int = 0
    blank_rate: float | None = None
    recovery: tuple[Recovered, ...] = ()
    od_50: float | None = None
    od_95: float | None = None
    faint_found: float | None = None
    faint_found_low: float | None = None
    faint_found_high: float | None = None
    blur_um: float | None = None
    reason: str | None = None

    @property
    def tried(self) -> bool:
        """Whether it was asked for: what could not be measured then is unknown, not absent."""
        return self.reason != SWITCHED_OFF

    @classmethod
    def without(cls, reason: str, cells: int = 0, blur_um: float | None = None) -> Sensitivity:
        """Return that it could not be measured, and why."""
        return cls(reason=reason, cells=cells, blur_um=blur_um)


class SlideCalibration(Part):
    """What was found on the slide itself and everything is measured with; settings never hold it.

    White point (grey levels) and unit stain vectors, pooled contrast 1 over 4 µm (``focus``), the
    scan's blur (sigma, µm), the nuclei's median hematoxylin OD and how far it lies above the
    tissue's, and the OD at which half and 95 % of spiked lines are found. Null: not measured.
    """

    mpp: float
    white_point: tuple[float, float, float]
    hematoxylin: tuple[float, float, float]
    dab: tuple[float, float, float]
    method: Literal["estimated", "fixed", "fallback"]
    focus: float | None = None
    blur_um: float | None = None
    nuclear_od: float | None = None
    nuclear_contrast: float | None = None
    blank_rate: float | None = None
    od_50: float | None = None
    od_95: float | None = None


class CnnRegions(Part):
    """Regions that have a score by the rules and one by the CNN: how often both are the same."""

    compared: int
    same: int
    within_one: int


class CnnResult(Part):
    """The CNN scorer's second look."""

    model: str
    score: str | None
    probability: dict[str, float] | None
    agrees: bool | None
    flag: str | None
    guideline: str | None = None
    note: str | None = None
    share: float = 0.5
    regions: CnnRegions | None = None
    patches: int | None = None
    cells: Literal["own", "region"] | None = None
    device: str | None = None
    runtime: str | None = None
    precision: str | None = None


class Provenance(Part):
    """How the result came about."""

    started: str
    seconds: float
    tiles: int
    workers: int
    packages: dict[str, str]
    #: of the weights that read cells, and of the CNN where one took part
    reading_sha256: str | None = None
    model_sha256: str | None = None
    reader: str | None = None
    icc: str = "off"
    rescored: str | None = None


class Result(Part):
    """One slide's ``result.json``."""

    schema_version: int = SCHEMA_VERSION
    her2path_version: str
    status: Literal["complete", "not_evaluable"]
    slide: SlideFacts
    settings_sha256: str
    fingerprint: str | None = None
    measured_sha256: str | None = None
    corrections_sha256: str | None = None
    stain: StainFacts | None
    qc: Qc
    counts: Counts
    tumour_selection: Literal["annotation", "morphology", "all"] | None
    fractions: dict[str, float] | None
    score: Score | None
    h_score: float | None
    heterogeneity: Heterogeneity | None
    assay: AssayFacts = AssayFacts()
    calibration: CalibrationFacts | None = None
    receptors: Receptors | None = None
    cnn: CnnResult | None = None
    sensitivity: Sensitivity | None = None
    slide_calibration: SlideCalibration | None = None
    provenance: Provenance

    def json_text(self) -> str:
        """Return the JSON text, keys in the order of the contract."""
        return self.model_dump_json(indent=2)

    @classmethod
    def from_json(cls, text: str | bytes) -> Result:
        """Read a result back."""
        return cls.model_validate_json(text)

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return self.model_dump(mode="json")

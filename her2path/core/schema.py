"""Every table's columns, with type, unit and meaning, in one place."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa

from her2path.core.settings import PATTERNS

__all__ = [
    "AREA_CLASSES",
    "CATEGORIES",
    "CELLS",
    "CELL_TYPES",
    "CNN_CELLS",
    "CNN_REGIONS",
    "INTENSITY",
    "OUTLINE_RAYS",
    "PATTERNS",
    "REGIONS",
    "SCORES",
    "Column",
    "arrow_schema",
    "csv_category",
]

SCORES = ("0", "1+", "2+", "3+")
CATEGORIES = ("positive", "equivocal", "low", "ultralow", "null", "negative")
CELL_TYPES = ("tumour", "other")
AREA_CLASSES = ("positive", "heterogeneous", "negative", "indeterminate")
#: intensity of a pattern, whatever its completeness
INTENSITY = {p: ("none", "faint", "moderate", "intense").index(p.split("_")[0]) for p in PATTERNS}
#: rays of a cell's outline, counter-clockwise in the image's y-down plane from +x
OUTLINE_RAYS = 48
#: outline unit: radii are stored as int16 in 1/100 µm
OUTLINE_PER_UM = 100


@dataclass(frozen=True)
class Column:
    """One column of a table."""

    name: str
    type: pa.DataType
    unit: str
    meaning: str


def arrow_schema(columns: tuple[Column, ...]) -> pa.Schema:
    """Return the Arrow schema, with unit and meaning as field metadata."""
    return pa.schema(
        [pa.field(c.name, c.type, metadata={"unit": c.unit, "meaning": c.meaning}) for c in columns]
    )


def csv_category(category: str | None) -> str:
    """Return a category as CSV files write it, so that nothing reads "null" as missing."""
    return "" if category is None else f"HER2-{category}"


_f = pa.float32()
_dict = pa.dictionary(pa.int8(), pa.string())

CELLS: tuple[Column, ...] = (
    Column("cell_id", pa.int64(), "", "stable identity, from the nucleus' position"),
    Column("x_um", _f, "µm", "nucleus centre"),
    Column("y_um", _f, "µm", "nucleus centre"),
    Column("x_px", _f, "level-0 px", "nucleus centre"),
    Column("y_px", _f, "level-0 px", "nucleus centre"),
    Column("cell_type", _dict, "", "tumour or other"),
    Column("tumour_probability", _f, "0..1", "how tumour-like the cell reads"),
    Column("kind_certainty", _f, "0..1", "how certain the kind of cell is"),
    Column("nucleus_area_um2", _f, "µm²", "area of the nucleus"),
    Column("nucleus_hematoxylin_od", _f, "OD", "mean hematoxylin OD in the nucleus"),
    Column("nucleus_dab_od", _f, "OD", "mean DAB OD in the nucleus"),
    Column("nucleus_elongation", _f, "", "long over short axis of the nucleus"),
    Column("cell_area_um2", _f, "µm²", "area inside the cell's border"),
    Column("membrane_od", _f, "OD", "DAB OD along the crest, mean over the stained part"),
    Column("membrane_od_ring", _f, "OD", "DAB OD along the crest, mean over the whole membrane"),
    Column(
        "membrane_mass",
        _f,
        "OD·µm",
        "DAB OD integrated across the line, mean over the stained part",
    ),
    Column("completeness", _f, "0..1", "own stained share of the perimeter"),
    Column("membrane_width_um", _f, "µm", "full width at half maximum of the stained line"),
    Column("cytoplasm_od", _f, "OD", "median DAB OD between nucleus and membrane"),
    Column("shared_fraction", _f, "0..1", "share of the perimeter that borders another cell"),
    Column("receptors", _f, "1/cell", "HER2 receptors; null without a curve, or outside its range"),
    Column("pattern", _dict, "", "one of the seven staining patterns"),
    Column("intensity", pa.int8(), "", "none 0, faint 1, moderate 2, intense 3"),
    Column("score", pa.int8(), "", "0..3"),
    Column("uncertain", pa.bool_(), "", "a faint line beside a strong one cannot be told"),
    Column("region_id", pa.int32(), "", "region of the primary kind; -1 where none"),
    Column(
        "outline",
        pa.list_(pa.int16(), OUTLINE_RAYS),
        "1/100 µm",
        "border radius on 48 rays around the nucleus centre, clockwise on screen from +x",
    ),
    Column(
        "nucleus_outline",
        pa.list_(pa.int16(), OUTLINE_RAYS),
        "1/100 µm",
        "nuclear radius on the same rays",
    ),
)

CNN_CELLS: tuple[Column, ...] = tuple(
    Column(f"cnn_p{k}", _f, "0..1", f"CNN probability of {SCORES[k]}") for k in range(4)
)

REGIONS: tuple[Column, ...] = (
    Column("region_id", pa.int32(), "", "number, from 0"),
    Column("kind", pa.string(), "", "grid, hexagon, annotation, core or nest"),
    Column("name", pa.string(), "", "name for people"),
    Column("polygon", pa.binary(), "WKB, µm", "outline"),
    Column("tissue_area_mm2", pa.float64(), "mm²", "tissue inside"),
    Column("tumour_area_mm2", pa.float64(), "mm²", "tumour inside"),
    Column("tumour_cells", pa.int64(), "", "tumour cells inside"),
    *(
        Column(f"fraction_{p}", pa.float64(), "0..1", f"share of tumour cells that are {p}")
        for p in PATTERNS
    ),
    Column("score", pa.string(), "", "0, 1+, 2+, 3+; null where too few cells"),
    Column("substate", pa.string(), "", "null or ultralow under a score of 0"),
    Column("category", pa.string(), "", "category by the guideline"),
    Column("h_score", pa.float64(), "0..300", "100 x mean intensity"),
    Column("receptors_median", pa.float64(), "1/cell", "median receptors of the tumour cells"),
    Column("positive_cells", pa.int64(), "", "HER2-positive tumour cells"),
    Column("positive_fraction", pa.float64(), "0..1", "share of tumour cells that are positive"),
    Column("positive_low", pa.float64(), "0..1", "Wilson 95 % interval"),
    Column("positive_high", pa.float64(), "0..1", "Wilson 95 % interval"),
    Column("area_class", pa.string(), "", "positive, heterogeneous, negative or indeterminate"),
    Column("area_class_certain", pa.bool_(), "", "the interval straddles no limit"),
    Column(
        "gi_z", pa.float64(), "z", "Getis-Ord Gi* of the positive fraction; null where undefined"
    ),
    Column("gi_q", pa.float64(), "0..1", "two-sided p of gi_z, false discovery rate over areas"),
)

CNN_REGIONS: tuple[Column, ...] = (
    Column("cnn_score", pa.string(), "", "the CNN's score"),
    *(
        Column(f"cnn_p{k}", pa.float64(), "0..1", f"CNN probability of {SCORES[k]}")
        for k in range(4)
    ),
)

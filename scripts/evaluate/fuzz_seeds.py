"""One sound input of every kind that the program reads, for `fuzz.py` to spoil."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from PIL import Image

from her2path.core.settings import Settings
from her2path.phantom import PhantomSpec, make_files


def seeds(folder: Path) -> dict[str, Path]:
    """Write one sound input of every kind; return them."""
    spec = PhantomSpec(seed=3, width_um=150, height_um=150, margin_um=10, tumour_share=0.7,
                       nest_um=70)  # fmt: skip
    slide = make_files(spec, folder / "slide")["slide"]
    found = {"svs": slide}
    rgb = tifffile.imread(slide)
    found["tiff"] = folder / "seed.tiff"
    tifffile.imwrite(found["tiff"], np.asarray(rgb)[:512, :512], photometric="rgb",
                     resolution=(40000, 40000), resolutionunit="CENTIMETER", tile=(128, 128),
                     compression="deflate")  # fmt: skip
    found |= _told_wrong(folder, np.asarray(rgb)[:384, :384])
    ring = [[0, 0], [400, 0], [400, 400], [0, 400], [0, 0]]
    features = [
        {"type": "Feature", "geometry": {"type": "Polygon", "coordinates": [ring]},
         "properties": {"name": f"a{i}", "classification": {"name": "Tumor"}}}
        for i in range(4)
    ]  # fmt: skip
    texts = {
        "geojson": json.dumps({"type": "FeatureCollection", "features": features}),
        "xml": '<ASAP_Annotations><Annotations><Annotation Name="a" Type="Polygon" '
        'PartOfGroup="tumor"><Coordinates>'
        + "".join(f'<Coordinate Order="{i}" X="{x}" Y="{y}"/>' for i, (x, y) in enumerate(ring))
        + "</Coordinates></Annotation></Annotations></ASAP_Annotations>",
        "csv": "slide,case_id,mpp,guideline,timepoint,note\n"
        + "".join(f"slide/phantom.svs,c{i},0.25,heracles,2020,x\n" for i in range(1)),
        "counts": "case_id,area_id,cell_id,her2,cep17,ihc\n"
        + "".join(f"k,{i // 9},{i},{2 + i % 7},2,2+\n" for i in range(40)),
        "tma": "row,col,case_id\n1,1,a\nB,2,b\n",
        "yaml": Settings().to_yaml(),
        "reads": "case_id;reader;score;percent_3;ish;site\n"
        + "".join(f"k{i};r{i % 3};{i % 4}+;{i},5;positive;B\n" for i in range(20)),
    }
    for name, text in texts.items():
        found[name] = folder / f"seed.{name}"
        found[name].write_text(text)
    for name, data in dialects().items():
        found[name] = folder / f"seed.{name}"
        found[name].write_bytes(data)
    return found


def _told_wrong(folder: Path, rgb: Any) -> dict[str, Path]:
    """Write slides whose colour tags or orders of directories `retold` then changes."""
    plain = {"photometric": "rgb", "metadata": None, "tile": (128, 128), "compression": "deflate",
             "resolution": (40000, 40000), "resolutionunit": "CENTIMETER"}  # fmt: skip
    tags, orders = folder / "tags.tif", folder / "orders.tif"
    tifffile.imwrite(tags, np.array(Image.fromarray(rgb).convert("YCbCr")), **plain)
    with tifffile.TiffWriter(orders) as tiff:
        for title, pixels in (("macro", rgb[::3, ::2]), ("", rgb[::4, ::4]), ("", rgb),
                              ("", rgb[::2, ::2]), ("label", rgb[:200, :300])):  # fmt: skip
            tiff.write(np.ascontiguousarray(pixels), description=title or None, **plain)
    return {"tags": tags, "orders": orders}


def dialects() -> dict[str, bytes]:
    """Return one sound file of every annotation dialect that the other seeds leave out."""
    ring = [(0, 0), (400, 0), (400, 400), (0, 400)]
    closed = [*ring, ring[0]]

    def feature(kind: str, rings: Any, properties: dict[str, Any], **more: Any) -> dict[str, Any]:
        return {"type": "Feature", "geometry": {"type": kind, "coordinates": rings},
                "properties": properties, **more}  # fmt: skip

    tumour = {"classification": {"names": ["Tumor", "Positive"], "colorRGB": -3670016}}
    qupath = [
        feature("Polygon", [closed], tumour, id="PathAnnotationObject"),
        feature("MultiPolygon", [[closed], []], {"object_type": "annotation", "label": "Necrosis"}),
        feature("Polygon", [closed], {"objectType": "cell"}, nucleusGeometry={"type": "Polygon"}),
        feature("Polygon", [closed], {"isLocked": True}, id="PathRootObject"),
        feature("Point", [7, 7], {"name": "control 2+"}),
    ]
    qupath[0]["geometry"]["isEllipse"] = True
    layers = "".join(
        f'<Region Type="{kind}" NegativeROA="{int(kind == "2")}" Text="r"><Vertices>'
        + "".join(f'<Vertex X="{x}" Y="{y}" Z="0"/>' for x, y in points)
        + "</Vertices></Region>"
        for kind, points in (("0", ring), ("1", ring), ("2", ring[::2]), ("4", ring[:2]))
    )
    xml = (f'<Annotations MicronsPerPixel="0.25"><Annotation Name="Tumor"><Attributes><Attribute '
           f'Name="Description" Value="x"/></Attributes><Regions>{layers}</Regions></Annotation>'
           "</Annotations>")  # fmt: skip
    halo = xml.replace("<Vertex ", "<V ").replace('Type="2"', 'Type="Ellipse"')
    declared = f'<?xml version="1.0" encoding="UTF-16"?>{xml}'
    return {
        "qupath": json.dumps(qupath).encode(),
        "imagescope": b"\xef\xbb\xbf" + xml.encode(),
        "halo": halo.encode(),
        "utf16": declared.encode("utf-16"),
        "ndpa": _ndpa(ring),
    }


def _ndpa(ring: list[tuple[int, int]]) -> bytes:
    """Return NDP.view's XML: an outline, a disc, and a ruler."""
    at = "".join(f"<point><x>{12_000_000 + 250 * x}</x><y>{250 * y}</y></point>" for x, y in ring)
    disc = "<x>12000000</x><y>-100000</y><radius>20000</radius>"
    kinds = {"freehand": f"<closed>1</closed><pointlist>{at}</pointlist>", "circle": disc,
             "linearmeasure": "<x1>0</x1>"}  # fmt: skip
    return ("<annotations>" + "".join(
        f"<ndpviewstate id='1'><title>Tumor</title><coordformat>nanometers</coordformat>"
        f"<annotation type='{kind}'>{body}</annotation></ndpviewstate>"
        for kind, body in kinds.items()) + "</annotations>").encode()  # fmt: skip

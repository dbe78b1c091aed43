"""Mutated inputs by the thousand: slides, annotations, tables, settings. Nothing may break through.

Every input is a sound one with bytes flipped, cut, doubled, or text swapped for something worse;
seeded, so that a finding can be made again with its number. They are read by child processes, as
a batch does. What counts as a finding: a child that dies, hangs or grows; an exception that is not
one of the program's own; an error of more than one line; a file anywhere but in the child's folder.

    python -m scripts.evaluate.fuzz --count 2000 --seed 1 --out /tmp/fuzz
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import re
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from her2path.core.errors import Her2PathError
from her2path.runs.cohort.child import Job
from her2path.runs.cohort.pool import Budget, Pool

#: the most that one input may take, processor seconds: what else the machine does is not counted
INPUT_S = 15.0
#: the longest that a bundle may take (it hangs), seconds, and the most memory, MiB
LIMIT_S, LIMIT_MB = 300.0, 3000.0
#: inputs that one task reads, so that a process' start is paid once
BUNDLE = 20
WORSE = [b"", b"\0", b"-1", b"1e999", b"NaN", b"null", b"[]", b"{}", b"\xff\xfe", b"9" * 5000,
         b"[" * 3000, b'"' * 7, b"../../x", b"=cmd()", b"<script>", b"!!python/object:os.system",
         b"&a;", b"\n\n", b",,,,", b"2147483648", b"0"]  # fmt: skip
_WORD = re.compile(rb"[A-Za-z_]+|-?[0-9.]+")
#: formats read as slides; their bytes are spoilt, not their words
SLIDES = ("svs", "tiff", "tags", "orders")
KINDS = (*SLIDES, "geojson", "xml", "csv", "counts", "tma", "yaml", "qupath", "imagescope", "halo",
         "utf16", "ndpa", "reads")  # fmt: skip


def seeds(folder: Path) -> dict[str, Path]:
    """Write one sound input of every kind; return them."""
    import numpy as np
    import tifffile

    from her2path.core.settings import Settings
    from her2path.phantom import PhantomSpec, make_files

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
    import numpy as np
    import tifffile
    from PIL import Image

    plain = {"photometric": "rgb", "metadata": None, "tile": (128, 128), "compression": "deflate",
             "resolution": (40000, 40000), "resolutionunit": "CENTIMETER"}  # fmt: skip
    tags, orders = folder / "tags.tif", folder / "orders.tif"
    tifffile.imwrite(tags, np.array(Image.fromarray(rgb).convert("YCbCr")), **plain)
    with tifffile.TiffWriter(orders) as tiff:
        for title, pixels in (("macro", rgb[::3, ::2]), ("", rgb[::4, ::4]), ("", rgb),
                              ("", rgb[::2, ::2]), ("label", rgb[:200, :300])):  # fmt: skip
            tiff.write(np.ascontiguousarray(pixels), description=title or None, **plain)
    return {"tags": tags, "orders": orders}


def retold(path: Path, draw: random.Random) -> None:
    """Give the directories of a TIFF other tags: colour, kind, samples, size, orientation, name."""
    import tifffile

    #: photometric, compression, kind of image, extra samples, subsampling, orientation, planes
    worse = {262: (0, 1, 2, 3, 5, 6, 8, 32803), 259: (1, 5, 7, 8, 33003, 34712, 50000, 50001),
             254: (0, 1, 2, 3, 9), 277: (1, 3, 4), 274: (0, 1, 3, 6, 9), 284: (1, 2),
             256: (1, 128, 384, 40000), 257: (1, 128, 384, 40000), 296: (1, 2, 3)}  # fmt: skip
    with tifffile.TiffFile(path, mode="r+b") as tiff:
        for page in tiff.pages:
            for code in draw.sample(sorted(worse), 2):
                if code in page.tags and draw.random() < 0.6:
                    page.tags[code].overwrite(draw.choice(worse[code]))


def mutate(data: bytes, draw: random.Random, text: bool = False) -> bytes:
    """Return the bytes spoilt in one to four ways; of text, half the time only whole words are."""
    if text and draw.random() < 0.5:
        return _reworded(data, draw)
    out = bytearray(data)
    for _ in range(draw.choice((1, 1, 1, 2, 4))):
        # the head of a file says most
        reach = len(out) if draw.random() < 0.5 else min(len(out), 2048)
        at = draw.randrange(reach) if reach else 0
        way = draw.randrange(7)
        if way == 0 and out:
            out[at] ^= 1 << draw.randrange(8)
        elif way == 1 and out:
            out[at : at + draw.randint(1, 8)] = draw.randbytes(draw.randint(0, 8))
        elif way == 2:
            del out[at : at + draw.choice([1, 16, 512, len(out)])]
        elif way == 3:
            out[at:at] = out[at : at + draw.choice([4, 64, 4096])]
        elif way == 4:
            out[at:at] = draw.choice(WORSE)
        elif way == 5:
            out[at : at + 4] = draw.choice([b"\xff" * 4, b"\0" * 4, b"\x7f\xff\xff\xff"])
        else:
            end = at + draw.choice([8, 256, 8192])
            out[at:end] = draw.randbytes(len(out[at:end]))
    return bytes(out)


def _reworded(data: bytes, draw: random.Random) -> bytes:
    """Swap, drop or double words and lines: the form stays, the sense does not."""
    for _ in range(draw.choice((1, 1, 2, 3))):
        words = list(_WORD.finditer(data))
        if not words:
            break
        one, other = draw.choice(words), draw.choice(words)
        new = draw.choice([draw.choice(WORSE), other.group(), one.group() * 2, b"",
                           b"%.3g" % draw.uniform(-1e6, 1e6)])  # fmt: skip
        data = data[: one.start()] + new + data[one.end() :]
        if draw.random() < 0.3:
            lines = data.splitlines(keepends=True)
            lines.insert(draw.randrange(len(lines) + 1), draw.choice(lines))
            data = b"".join(lines)
    return data


@dataclass(frozen=True)
class Read:
    """Reads a bundle of mutated inputs; see `her2path.runs.cohort.child.Task`."""

    kind: str
    seed: str
    first: int
    count: int
    salt: int
    folder: str

    def with_threads(self, threads: int) -> Read:
        """Return the same task."""
        del threads
        return self

    def run(self, tick: Callable[[str, int, int, float], None]) -> dict[str, Any]:
        """Return how many inputs were taken, how many refused, and what broke through."""
        out: dict[str, Any] = {"taken": 0, "refused": 0, "found": []}
        data = Path(self.seed).read_bytes()
        home = Path(self.folder)
        home.mkdir(parents=True, exist_ok=True)
        os.chdir(home)
        for number in range(self.first, self.first + self.count):
            key = f"{self.kind}-{number}"
            tick(key, number - self.first, self.count, 0.0)
            draw = random.Random(f"{self.salt}-{key}")
            path = home / f"input.{self.kind}"
            if self.kind in ("tags", "orders") and draw.random() < 0.7:
                path.write_bytes(data)
                retold(path, draw)
            else:
                path.write_bytes(mutate(data, draw, self.kind not in SLIDES))
            begun = time.process_time()
            try:
                READERS[self.kind](path, Path(self.seed), home)
                out["taken"] += 1
            except Her2PathError as exc:
                out["refused"] += 1
                if "\n" in str(exc) or not str(exc).strip():
                    out["found"].append((key, f"not one line: {exc!r}"))
                if exc.exit_code == 5:
                    out["found"].append((key, f"taken for a fault of the program: {exc}"))
            except Exception as exc:  # noqa: BLE001 - what we look for
                out["found"].append((key, f"{type(exc).__name__}: {exc}"[:300]))
            path.unlink(missing_ok=True)
            if time.process_time() - begun > INPUT_S:
                out["found"].append((key, f"took {time.process_time() - begun:.0f} s"))
        left = [p.name for p in home.iterdir()]
        if left:
            out["found"].append((f"{self.kind}-{self.first}", f"left behind: {left}"))
        return out


def _slide(path: Path, _: Path, __: Path) -> None:
    from her2path.core.geometry import Box
    from her2path.io.slide import SlideRef, open_slide

    with open_slide(SlideRef(str(path))) as slide:
        info = slide.info
        slide.overview(512)
        side = min(600, info.width_px, info.height_px)
        slide.read(Box(-10, -10, side, side))
        slide.read(Box(info.width_px - side, info.height_px - side, info.width_px, info.height_px))


def _read_annotations(path: Path) -> Any:
    from her2path.core.settings import Settings
    from her2path.io.annotations import SlideCentre, read_annotations

    centre = SlideCentre((0.25, 0.25), (600, 600), (12_000_000.0, -100_000.0))
    return read_annotations(path, Settings().tumour, centre=centre)


def _annotations(path: Path, _: Path, __: Path) -> None:
    found = _read_annotations(path)
    found.share_outside(lambda x, y: x >= y, 1000, 1000)
    assert found.geojson()


def _manifest(path: Path, seed: Path, _: Path) -> None:
    from her2path.core.settings import Settings
    from her2path.runs.cohort.inputs import check_inputs, settings_for
    from her2path.runs.cohort.manifest import read_manifest

    beside = seed.with_name(f"m{os.getpid()}.csv")  # slides are found from the manifest's folder
    beside.write_bytes(path.read_bytes())
    try:
        entries = read_manifest(beside)
        check_inputs(path, entries, Settings())
        for entry in entries:
            settings_for(entry, Settings())
            assert not {"/", "\\", "\0"} & set(entry.folder)
    finally:
        beside.unlink()


def _counts(path: Path, _: Path, home: Path) -> None:
    from her2path.scoring import ish

    result = ish.interpret(ish.read_counts(path))
    ish.write(result, home / "ish")
    for file in (home / "ish").iterdir():
        file.unlink()
    (home / "ish").rmdir()


def _tma(path: Path, _: Path, __: Path) -> None:
    from her2path.runs.cohort.inputs import read_tma_map

    read_tma_map(path)


def _reads(path: Path, _: Path, __: Path) -> None:
    from her2path.io.reads import read_reads

    for read in read_reads(path):
        assert read.case
        assert read.reader


def _yaml(path: Path, _: Path, __: Path) -> None:
    from her2path.core.settings import load_settings

    load_settings(path).sha256()


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


def _dialect(path: Path, seed: Path, home: Path) -> None:
    """Read annotations, hide their names, and read what a result keeps of them."""
    from her2path.core.settings import Settings
    from her2path.io.annotations import read_annotations
    from her2path.runs.case.drawn import annotation_flags

    _annotations(path, seed, home)
    found = _read_annotations(path)
    kept = home / "kept.geojson"
    try:
        for one in (found, found.hidden()):
            kept.write_text(one.geojson(), encoding="utf-8")
            again = read_annotations(kept, Settings().tumour, stored=True)
            assert [a.role for a in again.items] == [a.role for a in found.items]
            assert all("\n" not in f.message for f in annotation_flags(one, "annotation"))
    finally:
        kept.unlink(missing_ok=True)


READERS: dict[str, Callable[[Path, Path, Path], None]] = {
    **dict.fromkeys(SLIDES, _slide), "geojson": _annotations, "xml": _annotations, "csv": _manifest,
    "counts": _counts, "tma": _tma, "yaml": _yaml,
    **dict.fromkeys(("qupath", "imagescope", "halo", "utf16", "ndpa"), _dialect),
    "reads": _reads,
}  # fmt: skip


def tree(folder: Path) -> str:
    """Return a fingerprint of the names below a folder."""
    names = sorted(str(p.relative_to(folder)) for p in folder.rglob("*"))
    return hashlib.sha256("\n".join(names).encode("utf-8", "surrogateescape")).hexdigest()


def fuzz(
    count: int, seed: int, folder: Path, limit_s: float = 1800.0, workers: int = 2
) -> dict[str, Any]:
    """Read ``count`` mutated inputs, kinds in turn; return counts and findings.

    Parameters
    ----------
    count : int
        Inputs in all.
    seed : int
        Of every mutation.
    folder : Path
        For seeds and inputs; what is left there at the end are the seeds alone.
    limit_s : float
        When to stop, finished or not.
    workers : int
        Processes.
    """
    sound = seeds(folder / "seeds")
    before = tree(folder / "seeds")
    each = -(-count // len(KINDS))
    jobs: list[Job] = []
    for kind in KINDS:
        for first in range(0, each, BUNDLE):
            home = folder / "work" / f"{kind}-{first}"
            bundle = min(BUNDLE, each - first)
            task = Read(kind, str(sound[kind]), first, bundle, seed, str(home))
            jobs.append(Job(len(jobs), task))
    budget = Budget(workers, LIMIT_MB, LIMIT_S)
    last: dict[int, str] = {}
    totals: Counter[str] = Counter()
    found: list[tuple[str, str]] = []
    begun = time.monotonic()
    with Pool(budget, lambda i, stage, *_: last.__setitem__(i, stage)) as pool:
        for outcome in pool.run(jobs):
            done = jobs[outcome.index].task
            assert isinstance(done, Read)
            if outcome.fall is not None:
                found.append((last.get(outcome.index, done.kind), outcome.fall.error))
            else:
                totals[f"{done.kind} taken"] += outcome.facts["taken"]
                totals[f"{done.kind} refused"] += outcome.facts["refused"]
                found += outcome.facts["found"]
                totals["run"] += done.count
            if time.monotonic() - begun > limit_s:
                break
    if tree(folder / "seeds") != before:
        found.append(("all", "files appeared beside the seeds"))
    return {"run": totals.pop("run", 0), "seed": seed, "counts": dict(sorted(totals.items())),
            "seconds": round(time.monotonic() - begun, 1), "peak_mb": round(pool.peak_mb),
            "found": found}  # fmt: skip


def main() -> int:
    """Run from the command line; 1 where something was found."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--limit", type=float, default=1800.0, help="seconds in all")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--out", type=Path, default=None)
    given = parser.parse_args()
    folder = given.out or Path(tempfile.mkdtemp(prefix="her2path-fuzz-"))
    result = fuzz(given.count, given.seed, folder, given.limit, given.workers)
    print(json.dumps(result, indent=2))
    return 1 if result["found"] or result["run"] < given.count else 0


if __name__ == "__main__":
    sys.exit(main())

"""Reports: the numbers of result.json, nothing from outside, every section there or explained."""

import json
import re
from collections import Counter
from dataclasses import replace
from html import unescape
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from fake_run import MIXES, make_run
from PIL import Image
from skimage.color import deltaE_ciede2000, rgb2lab

from her2path import palette, report
from her2path.errors import OutputError
from her2path.report import pages as pages_module
from her2path.report import pictures, sections
from her2path.report.context import Context, SlideContext
from her2path.report.words import bind, heterogeneity_sentence, percent
from her2path.store import RunStore


def _pango_missing() -> bool:
    try:
        __import__("weasyprint")
    except (ImportError, OSError):
        return True
    return False


needs_pango = pytest.mark.skipif(_pango_missing(), reason="needs weasyprint with Pango")


class Page(HTMLParser):
    """What a test wants to know of a page."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.text = path.read_text(encoding="utf-8")
        self.tags: Counter[str] = Counter()
        self.ids: list[str] = []
        self.headings: list[int] = []
        self.fields: dict[str, str] = {}
        self.images: list[dict[str, str | None]] = []
        self.links: list[str] = []
        self.feed(self.text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        values = dict(attrs)
        if values.get("id"):
            self.ids.append(str(values["id"]))
        if re.fullmatch("h[1-6]", tag):
            self.headings.append(int(tag[1]))
        if tag == "data":
            self.fields[str(values["data-field"])] = str(values["value"])
        if tag == "img":
            self.images.append(values)
        for name in ("href", "src", "xlink:href"):
            if values.get(name):
                self.links.append(str(values[name]))


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Page]:
    folder = tmp_path_factory.mktemp("report")
    return {k: Page(report.build(make_run(folder / k, k).out)) for k in MIXES}


@pytest.fixture(scope="module")
def stores(pages: dict[str, Page], tmp_path_factory: pytest.TempPathFactory) -> dict[str, RunStore]:
    folder = max(tmp_path_factory.getbasetemp().glob("report*"))
    return {k: RunStore(folder / k) for k in MIXES}


@pytest.mark.parametrize("kind", MIXES)
def test_every_number_is_the_stored_one(kind, pages, stores) -> None:
    stored = json.loads(stores[kind].result_path.read_text())
    fields = pages[kind].fields
    assert len(fields) > (10 if kind == "not_evaluable" else 55)
    for path, shown in fields.items():
        node = stored
        for name in path.split("."):
            node = node[name]
        if isinstance(node, bool):
            assert shown == str(node).lower(), path
        elif isinstance(node, (int, float)):
            assert float(shown) == node, path
        else:
            assert shown == str(node), path


def test_the_first_screen_says_what_a_pathologist_needs(pages) -> None:
    fields = pages["clustered"].fields
    for path in (
        "score.ihc",
        "score.rule",
        "score.guideline",
        "score.category",
        "h_score",
        "score.probability.3+",
        "counts.tumour",
        "heterogeneity.areas.n",
        "heterogeneity.positive_cell_fraction",
    ):
        assert path in fields, path
    first = pages["clustered"].text.split("<nav")[0]
    assert "IN_SITU_NOT_EXCLUDED" in first
    assert "<strong>Heterogeneous</strong>" in first
    assert "on IHC areas, a surrogate" in first
    assert "research use only" in first


@pytest.mark.parametrize("kind", MIXES)
def test_every_section_is_there_or_says_why(kind, pages) -> None:
    page = pages[kind]
    for section in sections.SLIDE_SECTIONS:
        assert section.id in page.ids
    missing = page.text.count("<strong>Not shown.</strong>")
    assert missing == (10 if kind == "not_evaluable" else 2)
    assert "A fault of the program" not in page.text
    assert "&lt;svg" not in page.text


def test_not_evaluable_says_so_and_why(pages) -> None:
    text = pages["not_evaluable"].text
    assert "Not evaluable" in text
    assert "There are too few tumour cells" in text
    assert "score.ihc" not in text


@pytest.mark.parametrize("kind", MIXES)
def test_nothing_comes_from_outside(kind, pages) -> None:
    page = pages[kind]
    for link in page.links:
        assert link.startswith(("#", "data:image/")), link
    assert page.tags["script"] == page.tags["link"] == page.tags["iframe"] == 0
    assert not re.search(r"url\(\s*['\"]?(?!#)", page.text)
    assert "default-src 'none'" in unescape(page.text)


@pytest.mark.parametrize("kind", MIXES)
def test_pages_can_be_read_without_eyes(kind, pages) -> None:
    page = pages[kind]
    assert page.headings.count(1) == 1
    assert all(b - a <= 1 for a, b in zip(page.headings, page.headings[1:], strict=False))
    assert len(page.ids) == len(set(page.ids))
    assert all("alt" in image for image in page.images)
    assert page.text.count('role="img"') == page.text.count("aria-label=") - page.text.count("<nav")
    assert '<html lang="en">' in page.text


def test_pages_are_small_and_the_same_every_time(stores) -> None:
    path = stores["clustered"].report_path
    before = path.read_bytes()
    report.build(stores["clustered"].out)
    assert path.read_bytes() == before
    assert len(before) < 5_000_000


def test_texts_are_escaped(tmp_path: Path) -> None:
    store = make_run(tmp_path / "run", "zero")
    tree = json.loads(store.result_path.read_text())
    evil = '"><script>alert(1)</script>'
    tree["slide"]["id"] = tree["slide"]["path"] = tree["score"]["rule"] = evil
    tree["qc"]["flags"][0]["message"] = evil
    tree["score"]["trace"] = [evil]
    tree["provenance"]["packages"][evil] = evil
    store.result_path.write_text(json.dumps(tree))
    page = Page(report.build(store.out))
    assert page.tags["script"] == 0
    assert "<script>alert" not in page.text
    assert page.text.count("&lt;script&gt;") >= 5


def test_a_section_that_breaks_says_so(stores, monkeypatch: pytest.MonkeyPatch) -> None:
    def breaks(context: Context) -> dict:
        raise ZeroDivisionError("by <zero>")

    broken = tuple(
        replace(s, make=breaks) if s.id == "trace" else s for s in sections.SLIDE_SECTIONS
    )
    monkeypatch.setattr(pages_module, "SLIDE_SECTIONS", broken)
    text = report.build(stores["zero"].out).read_text()
    assert "A fault of the program" in text
    assert "ZeroDivisionError: by &lt;zero&gt;" in text
    assert "Staining patterns" in text


@pytest.mark.parametrize(
    ("missing", "said"),
    [("gallery.zarr", "No cell patches were stored"), ("thumbnail.jpg", "No overview was stored"),
     ("regions.parquet", "The region table is missing"), ("cells.parquet", "cell table is missing"),
     ("settings.yaml", "settings were not stored")],
)  # fmt: skip
def test_a_missing_part_is_named(missing: str, said: str, tmp_path: Path) -> None:
    store = make_run(tmp_path / "run", "low")
    (store.out / missing).rename(tmp_path / "gone")
    text = report.build(store.out).read_text()
    assert said in text
    assert "A fault of the program" not in text


def test_nulls_are_words_and_never_none(tmp_path: Path) -> None:
    store = make_run(tmp_path / "run", "clustered")
    tree = json.loads(store.result_path.read_text())
    spread = tree["heterogeneity"]
    spread["bystander"]["coverage"] = spread["low_vs_null"] = spread["areas"] = None
    spread["pattern"] = {
        "type": "not_evaluable",
        "p_value": None,
        "moran_i": None,
        "cluster_area_fraction": None,
    }
    tree["score"]["probability"] = tree["score"]["reflex_ish"] = tree["stain"] = None
    tree["cnn"] = {
        "model": "builtin",
        "score": None,
        "probability": None,
        "agrees": None,
        "flag": "few patches",
    }
    store.result_path.write_text(json.dumps(tree))
    text = report.build(store.out).read_text()
    assert "A fault of the program" not in text
    assert ">None<" not in text
    assert "few patches" in text
    assert "no positive tumour cell to start from" in text


def test_no_result_no_report(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="no complete result"):
        report.build(tmp_path)


def test_the_overlay_lies_on_the_cells(stores) -> None:
    context = SlideContext(stores["clustered"])
    codes = pictures.score_layer(context, (768, 1024), (0.25, 0.25))
    cells = context.tumour
    x = (cells["x_px"].to_numpy() * 0.25).astype(int)
    y = (cells["y_px"].to_numpy() * 0.25).astype(int)
    assert (codes[y, x] == cells["score"].to_numpy() + 1).mean() > 0.99
    far = np.ones(codes.shape, bool)
    for dy in range(-8, 9):
        for dx in range(-8, 9):
            far[np.clip(y + dy, 0, 767), np.clip(x + dx, 0, 1023)] = False
    assert not codes[far].any()


def test_a_crowded_overlay_shows_the_majority(stores) -> None:
    context = SlideContext(stores["clustered"])
    codes = pictures.score_layer(context, (3, 4), (1 / 1024, 1 / 1024))
    assert (codes[:, 0] == 4).all()
    assert (codes[:, 3] == 1).all()


def test_figures_for_papers(stores, tmp_path: Path) -> None:
    made = report.figures(stores["clustered"].out, tmp_path / "figures")
    assert len(made) == 22
    assert {p.suffix for p in made} == {".svg", ".png"}
    for path in made:
        if path.suffix == ".png":
            with Image.open(path) as image:
                assert image.width >= 1000
                assert image.convert("RGB").getpixel((0, 0)) == (255, 255, 255)
        else:
            assert "currentColor" not in path.read_text()


@needs_pango
def test_pdf_has_pages(stores, tmp_path: Path) -> None:
    for kind, sheets in (("clustered", range(4, 12)), ("not_evaluable", range(2, 7))):
        path = tmp_path / f"{kind}.pdf"
        page = stores[kind].report_path.read_text()
        assert pages_module.write_pdf(page, path) in sheets
        assert path.read_bytes().startswith(b"%PDF-")


@needs_pango
def test_pdf_lies_beside_the_page(stores) -> None:
    report.build(stores["zero"].out, pdf=True)
    assert stores["zero"].report_path.with_suffix(".pdf").stat().st_size > 20_000


def test_percent_never_rounds_something_to_nothing() -> None:
    assert [percent(v) for v in (0, 0.0001, 0.3149, 0.99999, 1)] == [
        "0.0 %",
        "< 0.1 %",
        "31.5 %",
        "> 99.9 %",
        "100.0 %",
    ]


def test_heterogeneity_without_a_verdict_gives_the_reason() -> None:
    tree = {
        "status": "complete",
        "heterogeneity": {
            "basis": "ihc",
            "areas": {
                "n": 1,
                "positive": 0,
                "heterogeneous": 0,
                "negative": 1,
                "indeterminate": 0,
                "heterogeneous_case": None,
                "reason": "given for 3+ only.",
                "rule": "filho_2021",
            },
            "positive_cell_fraction": 0.0,
            "pattern": {"type": "homogeneous"},
        },
    }
    text = str(heterogeneity_sentence(Context(tree)))
    assert "<strong>No verdict</strong> (given for 3+ only): of" in text
    assert bind(Context(tree))("nothing.here", "pct", "unknown").endswith("unknown</span>")


# -- colours ---------------------------------------------------------------------------------------

#: Machado, Oliveira, Fernandes (2009), IEEE TVCG 15:1291, severity 1
_SEEN = {
    "normal": np.eye(3),
    "protan": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deutan": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "tritan": [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ],
}


def _closest(colours: list[str], seen: list) -> float:
    srgb = np.array([palette.rgb(c) for c in colours]) / 255
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    other = np.clip(linear @ np.array(seen).T, 0, 1)
    back = np.where(other <= 0.0031308, other * 12.92, 1.055 * other ** (1 / 2.4) - 0.055)
    lab = rgb2lab(back[None])[0]
    return min(deltaE_ciede2000(a, b) for i, a in enumerate(lab) for b in lab[:i])


@pytest.mark.parametrize("kind", _SEEN)
def test_scores_stay_apart_for_every_eye(kind: str) -> None:
    assert _closest(list(palette.SCORE_COLOURS.values()), _SEEN[kind]) >= 15
    assert _closest(list(palette.PATTERN_COLOURS.values()), _SEEN[kind]) >= 8

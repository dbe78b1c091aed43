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

from her2path.core.errors import OutputError
from her2path.io.store import RunStore
from her2path.outputs import palette, report
from her2path.outputs.report import cards, first, pictures, sections
from her2path.outputs.report import pages as pages_module
from her2path.outputs.report.context import Context, SlideContext
from her2path.outputs.report.words import (
    basis_sentence,
    bind,
    definition_words,
    heterogeneity_sentence,
    percent,
)


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
    assert "are positive (intense and complete)" in first
    assert "in patches" in first
    assert "Moran" not in first  # statistics stand in the appendix
    assert "What to check" in first
    assert "research use only" in first


@pytest.mark.parametrize("kind", MIXES)
def test_every_section_is_there_or_says_why(kind, pages) -> None:
    page = pages[kind]
    for section in sections.SLIDE_SECTIONS:
        assert section.id in page.ids
    listed = page.text.split('<p class="absent">')[1].split("</p>")[0]
    assert "No ISH counts were given." in listed
    if kind == "not_evaluable":
        assert listed.count("<span id=") == 12
        # one reason for many is said once
        assert listed.count("The slide is not evaluable.") == 1
        assert "There are too few tumour cells" not in listed
    assert "not given ×" not in page.text
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
        # a link into the viewer, on this machine, is followed by hand only
        assert link.startswith(("#", "data:image/", "http://127.0.0.1:8870/#x=")), link
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
    assert len(re.findall('role="img"[^>]*aria-label="[^"]', page.text)) == page.text.count(
        'role="img"'
    )
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
    for kind, sheets in (("clustered", range(2, 7)), ("not_evaluable", range(1, 4))):
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
    assert "<strong>No verdict on heterogeneity</strong> (given for 3+ only): " in text
    assert bind(Context(tree))("nothing.here", "pct", "unknown").endswith("unknown</span>")


def test_uneven_staining_is_told_where_few_cells_are_positive() -> None:
    """Glands that differ are not called even because few cells are intense."""
    tree = {"status": "complete", "heterogeneity": {
        "positive_definition": ["intense_complete", "intense_incomplete"],
        "areas": {"heterogeneous_case": None, "reason": "IHC 2+: for 3+ only, since below it few"},
        "positive_cell_fraction": 0.01, "pattern": {"type": "homogeneous"},
        "staining": {"from_intensity": "moderate", "fraction": 0.4, "type": "clustered",
                     "uneven": True},
    }}  # fmt: skip
    text = str(heterogeneity_sentence(Context(tree)))
    assert "too few to have a layout" in text
    assert "Staining differs from place to place" in text
    assert "moderate</data> or stronger" in text
    assert "spread evenly" not in text
    assert definition_words(Context(tree)) == "intense, complete or not"
    tree["heterogeneity"]["staining"] |= {"uneven": False, "type": "mosaic"}
    assert "alike in all parts" in str(heterogeneity_sentence(Context(tree)))
    # nothing is stronger than intense
    tree["heterogeneity"]["staining"]["from_intensity"] = "intense"
    assert "or stronger" not in str(heterogeneity_sentence(Context(tree)))


def test_a_verdict_by_the_share_alone_says_so() -> None:
    areas = {"n": 9, "positive": 0, "heterogeneous": 9, "negative": 0, "indeterminate": 0,
             "rule": "filho_2021", "heterogeneous_case": True, "by_share_alone": True,
             "difference_p_value": 0.4, "basis": "ihc"}  # fmt: skip
    tree = {"status": "complete", "heterogeneity": {"areas": areas, "basis": "ihc"}}
    text = str(basis_sentence(Context(tree)))
    assert "evenly mixed would be called heterogeneous too" in text
    assert "no more than chance lets them" in text
    areas |= {"by_share_alone": False, "difference_p_value": 0.001}
    text = str(basis_sentence(Context(tree)))
    assert "evenly mixed" not in text
    assert "Areas differ more than chance lets them" in text


def test_what_every_slide_carries_is_one_line_behind_what_matters() -> None:
    flags = [{"code": c, "severity": s, "message": c.title()} for c, s in (
        ("UNCALIBRATED_CUTOFFS", "warning"), ("MPP_OVERRIDDEN", "info"), ("FOLDS", "warning"),
        ("IN_SITU_NOT_EXCLUDED", "warning"), ("COARSE_MPP", "fail"))]  # fmt: skip
    told = first.checks(Context({"qc": {"flags": flags}, "score": {"flags": ["SECOND_LOOK"]}}))
    assert [f["code"] for f in told["grave"]] == ["COARSE_MPP", "SECOND_LOOK", "FOLDS"]
    assert {code for _, code in told["usual"]} == set(first.USUAL)
    assert [f["code"] for f in told["notes"]] == ["MPP_OVERRIDDEN"]


def test_the_clean_picture_stands_beside_the_overlay_with_outlines(pages) -> None:
    text = pages["clustered"].text.split('<nav class="wide"')[0]
    assert text.count('class="stack') == 2
    assert text.count('class="layer"') == 1
    assert '<svg class="lines"' in text
    assert "Cells by score</label>" in text
    assert "Regions</label>" in text
    assert 'href="http://127.0.0.1:8870/#x=2048&amp;y=1536&amp;step=' in text


def test_the_outline_of_a_card_is_the_cells_own(stores) -> None:
    context = SlideContext(stores["clustered"])
    made = cards.gallery(context)
    card = next(c for _, group in made["groups"] for c in group)
    row = next(r for r in context.gallery.table.to_pylist() if f"Cell {r['cell_id']}," in
               card["alt"])  # fmt: skip
    radii = context.cells_by_id([row["cell_id"]], ["outline"])[row["cell_id"]]["outline"]
    at = [tuple(map(float, p.split())) for p in card["outline"][1:-1].split("L")]
    assert len(at) == len(radii) == 48
    assert at[0] == (pytest.approx(32 + radii[0] / 100 / row["mpp"], abs=0.06), 32.0)
    assert at[12] == (32.0, pytest.approx(32 + radii[12] / 100 / row["mpp"], abs=0.06))
    assert "OD in OD" not in pages_module.plain_page("missing.html.j2", reason=made["measure"])


def test_maps_lie_on_the_tissue_and_take_no_colour_of_a_score(stores) -> None:
    context = SlideContext(stores["clustered"])
    made = sections.parts.region_maps(context)
    assert [m["title"] for m in made["maps"]] == [
        "Score of each region",
        "Positive cells in each region",
        "Patches of positive and of negative cells",
    ]
    assert all("data:image/png" in m["svg"] for m in made["maps"])
    text = "".join(m["svg"] for m in made["maps"][1:]) + (made["histogram"] or "")
    assert not any(c in text for c in palette.SCORE_COLOURS.values())
    assert not set(palette.AREA_COLOURS.values()) & set(palette.SCORE_COLOURS.values())


def test_every_page_is_headed_and_numbered(tmp_path: Path) -> None:
    store = make_run(tmp_path / "run", "low")
    tree = json.loads(store.result_path.read_text())
    tree["slide"]["id"], tree["slide"]["case_id"] = 'a"}</style>', "Case 7"
    store.result_path.write_text(json.dumps(tree))
    text = report.build(store.out).read_text()
    assert text.split("</head>")[0].count("</style>") == 1
    assert "Slide a\\22 \\7d \\3c \\2f style\\3e , case Case 7" in text
    assert 'counter(page) " of " counter(pages)' in text


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

"""Every shipped rule set, as data: thresholds, source and year in one place.

The order of decisions completes the published definitions, which leave gaps, so that every mix of
patterns gets exactly one score; docs/guidelines.md says where. ``floor`` is ``score.noise_floor``,
``cluster_cells`` is ``score.cluster_cells``. "moderate" stands for the guidelines' "weak to
moderate".
"""

from __future__ import annotations

from typing import Any

__all__ = ["CATALOGUE"]

_BREAST = {
    "p3c": ["intense_complete"],
    "p2c": ["moderate_complete"],
    "p1c": ["faint_complete"],
    "p23i": ["moderate_incomplete", "intense_incomplete"],
}

_COMMENT_2018 = {
    "2+": "Equivocal: ISH is due on the same specimen, or a new test on another one.",
}

_COMMENT_2023 = _COMMENT_2018 | {
    "0": "The score itself is reported; HER2-low and HER2-ultralow are no result categories of "
    "the guideline. Telling 0 from 1+ can matter for the choice of an antibody-drug conjugate: "
    "look again at high power, with controls in the low range and a second reader.",
    "1+": "The score itself is reported; HER2-low is no result category of the guideline. "
    "Telling 0 from 1+ can matter for the choice of an antibody-drug conjugate: look again at "
    "high power, with controls in the low range and a second reader.",
    "ultralow": "IHC 0 with membrane staining (faint, incomplete, up to 10 % of the tumour cells).",
    "null": "IHC 0 without membrane staining.",
}

_ASCO_2018: dict[str, Any] = {
    "name": "asco_cap_2018",
    "title": "ASCO/CAP 2018, breast",
    "year": 2018,
    "source": "Wolff AC et al., Arch Pathol Lab Med 2018;142:1364-1382 (Figure 1 and its notes)",
    "groups": _BREAST,
    "substates": True,
    "ish": "asco_cap_2018",
    "ish_positive_suffices": True,
    "comments": _COMMENT_2018,
    "rules": [
        {"score": "3+", "when": "p3c > 10 %", "says": "intense complete in > 10 %"},
        {
            "score": "2+",
            "when": "p3c > floor",
            "says": "intense complete in <= 10 %, above the noise floor ({floor})",
            "flags": ["FOCAL_3P"],
        },
        {"score": "2+", "when": "p3c + p2c > 10 %", "says": "moderate complete in > 10 %"},
        {
            "score": "2+",
            "when": "p3c + p2c + p23i > 10 %",
            "says": "moderate to intense, in part incomplete, in > 10 %",
            "flags": ["BASOLATERAL"],
        },
        {"score": "1+", "when": "any > 10 %", "says": "faint incomplete staining in > 10 %"},
        {
            "score": "0",
            "when": "any > floor",
            "says": "staining in <= 10 %, above the noise floor ({floor})",
            "substate": "ultralow",
        },
        {
            "score": "0",
            "says": "no staining above the noise floor ({floor})",
            "substate": "null",
        },
    ],
    "flags": [
        {"code": "FAINT_COMPLETE", "when": "p1c > 10 %", "at": ["1+"]},
        {"code": "OUTSIDE_DEFINITION", "when": "p2c + p23i > floor", "at": ["1+"]},
        {"code": "OUTSIDE_DEFINITION", "when": "p3c + p2c + p23i > floor", "at": ["0"]},
    ],
}

_ASCO_2023 = _ASCO_2018 | {
    "name": "asco_cap_2023",
    "title": "ASCO/CAP 2023 update, breast (the rules of 2018)",
    "year": 2023,
    "source": "Wolff AC et al., J Clin Oncol 2023, doi:10.1200/JCO.22.02864: 2018 affirmed",
    "comments": _COMMENT_2023,
}

_INTERNATIONAL_2026 = _ASCO_2018 | {
    "name": "international_2026",
    "title": "International consensus 2026, breast (the rules of 2018, five strata)",
    "year": 2026,
    "source": "Rakha EA et al., Mod Pathol 2026;39(1):100925, doi:10.1016/j.modpat.2025.100925",
    "strata": {"null": "0", "ultralow": "0+"},
    "comments": _COMMENT_2018
    | {
        "null": "IHC score 0 / absent membrane staining (HER2-null).",
        "ultralow": "IHC score 0+ / with membrane staining: faint or barely perceptible, "
        "incomplete, in > 0 % to <= 10 % of the tumour cells (HER2-ultralow).",
        "1+": "HER2-low: IHC 1+, or 2+ without amplification.",
    },
}

_ASCO_2013: dict[str, Any] = {
    "name": "asco_cap_2013",
    "title": "ASCO/CAP 2013, breast",
    "year": 2013,
    "source": "Wolff AC et al., J Clin Oncol 2013;31:3997-4013; side by side in "
    "doi:10.1186/s13058-023-01739-9, table 1",
    "groups": _BREAST,
    "ish": "asco_cap_2013",
    "ish_positive_suffices": True,
    "comments": {"2+": "Equivocal: reflex test by ISH or on another specimen."},
    "rules": [
        {"score": "3+", "when": "p3c > 10 %"},
        {"score": "2+", "when": "p3c > floor or p1c + p2c + p3c + p23i > 10 %"},
        {"score": "1+", "when": "any > 10 %", "says": "faint incomplete in > 10 %"},
        {"score": "0", "says": "no staining, or faint incomplete in <= 10 %"},
    ],
    "flags": [
        {"code": "FOCAL_3P", "when": "p3c > floor and p3c <= 10 %", "at": ["2+"]},
        {"code": "FAINT_COMPLETE", "when": "p1c > 10 %", "at": ["2+"]},
        {"code": "BASOLATERAL", "when": "p23i > 10 %", "at": ["2+"]},
    ],
}

_ASCO_2007: dict[str, Any] = {
    "name": "asco_cap_2007",
    "title": "ASCO/CAP 2007, breast",
    "year": 2007,
    "source": "Wolff AC et al., J Clin Oncol 2007;25:118-145; PMC2793708, table 2",
    "groups": _BREAST,
    "ish": "asco_cap_2007",
    "ish_positive_suffices": True,
    "comments": {"2+": "Equivocal: test by ISH."},
    "rules": [
        {"score": "3+", "when": "p3c > 30 %"},
        {"score": "2+", "when": "p3c > floor or p1c + p2c + p3c >= 10 %"},
        {
            "score": "1+",
            "when": "any > floor",
            "says": "weak or incomplete staining in any share above the noise floor ({floor})",
        },
        {"score": "0", "says": "no staining above the noise floor ({floor})"},
    ],
    "flags": [
        {"code": "FOCAL_3P", "when": "p3c > floor and p3c <= 10 %", "at": ["2+"]},
        {"code": "OUTSIDE_DEFINITION", "when": "p23i > 10 %", "at": ["1+"]},
    ],
}

_GASTRIC: dict[str, Any] = {
    "year": 2016,
    "source": "CAP/ASCP/ASCO 2016 for gastro-oesophageal adenocarcinoma (Hofmann, Ruschoff)",
    "intense_incomplete_score": 3,
    "positive": ["intense_incomplete", "intense_complete"],
    "ish": "gastric",
    "comments": {"2+": "Equivocal: ISH is due on the same specimen."},
}

_GASTRIC_RESECTION = _GASTRIC | {
    "name": "gastric_resection",
    "title": "Gastro-oesophageal, resection (2016)",
    "rules": [
        {"score": "3+", "when": "intense >= 10 %"},
        {"score": "2+", "when": "moderate + intense >= 10 %"},
        {"score": "1+", "when": "any >= 10 %"},
        {"score": "0", "says": "no staining, or staining in < 10 %"},
    ],
    "flags": [{"code": "FOCAL_3P", "when": "intense > floor", "at": ["0", "1+", "2+"]}],
}

_GASTRIC_BIOPSY = _GASTRIC | {
    "name": "gastric_biopsy",
    "title": "Gastro-oesophageal, biopsy (2016)",
    "rules": [
        {"score": "3+", "when": "cluster(intense) >= cluster_cells"},
        {"score": "2+", "when": "cluster(moderate) >= cluster_cells"},
        {"score": "1+", "when": "cluster(any) >= cluster_cells"},
        {"score": "0", "says": "no cluster of stained tumour cells"},
    ],
    "flags": [{"code": "STAINED_WITHOUT_CLUSTER", "when": "any > floor", "at": ["0"]}],
}

_HERACLES: dict[str, Any] = {
    "name": "heracles",
    "title": "HERACLES, colorectal (2015)",
    "year": 2015,
    "source": "Valtorta E et al., Mod Pathol 2015, doi:10.1038/modpathol.2015.98, table 3",
    "intense_incomplete_score": 3,
    "positive": ["intense_incomplete", "intense_complete"],
    "ish": "heracles",
    "comments": {
        "equivocal": "Retest, and ISH: positive with a ratio >= 2 in >= 50 % of the cells."
    },
    "rules": [
        {"score": "3+", "when": "intense >= 50 %", "category": "positive"},
        {
            "score": "3+",
            "when": "intense > 10 %",
            "says": "intense in > 10 % and < 50 %",
            "category": "equivocal",
        },
        {"score": "2+", "when": "moderate + intense >= 50 %", "category": "equivocal"},
        {"score": "1+", "when": "any > floor", "says": "weaker or less staining than 2+ asks for"},
        {"score": "0", "says": "no staining above the noise floor ({floor})"},
    ],
    "flags": [{"code": "FOCAL_3P", "when": "intense > floor", "at": ["0", "1+", "2+"]}],
}

_ENDOMETRIAL: dict[str, Any] = {
    "name": "endometrial_serous",
    "title": "Endometrial serous carcinoma (trial of 2018)",
    "year": 2018,
    "source": "Fader AN et al. 2018 (criteria in PMC11062402, table 2); 2+ after Buza N 2021",
    "intense_incomplete_score": 3,
    "positive": ["intense_incomplete", "intense_complete"],
    "ish": "endometrial",
    "ish_positive_suffices": True,
    "comments": {"2+": "Equivocal: ISH is due; a ratio >= 2.0 is positive."},
    "rules": [
        {"score": "3+", "when": "intense > 30 %"},
        # intense cells count with the moderate ones, or a cell that turns intense could lower a 2+
        {"score": "2+", "when": "intense > floor or moderate + intense >= 10 %"},
        {
            "score": "1+",
            "when": "any > floor",
            "says": "weaker staining above the noise floor ({floor})",
        },
        {"score": "0", "says": "no staining above the noise floor ({floor})"},
    ],
    "flags": [{"code": "FOCAL_3P", "when": "intense > floor and intense <= 30 %", "at": ["2+"]}],
}

#: every shipped rule set, in the order in which they are listed
CATALOGUE: tuple[dict[str, Any], ...] = (
    _ASCO_2018,
    _ASCO_2023,
    _INTERNATIONAL_2026,
    _ASCO_2013,
    _ASCO_2007,
    _GASTRIC_RESECTION,
    _GASTRIC_BIOPSY,
    _HERACLES,
    _ENDOMETRIAL,
)

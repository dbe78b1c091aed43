"""Weights of the two logistic models, by feature.

Fitted on 40 random phantoms (17 500 cells found in them, two-fold by slide), with a ridge penalty;
the marks on real cores took no part, they are the independent check. Missing tumour cells cost
more than taking in a few others, hence `TUMOUR_SHIFT`; pale nuclei of real slides must not fall to
the second model, hence `NUCLEUS_SHIFT`.
"""

from __future__ import annotations

__all__ = ["NUCLEUS", "NUCLEUS_SHIFT", "TUMOUR", "TUMOUR_SHIFT"]

#: added to the log odds of being tumour, and of being a nucleus
TUMOUR_SHIFT, NUCLEUS_SHIFT = 0.8, 2.5

#: tumour against lymphocytes and stroma
TUMOUR: dict[str, float] = {
    "bias": -2.8335,
    "log_area": 0.5343,
    "log_elongation": -1.7207,
    "contrast": 2.1950,
    "irregularity": -1.7603,
    "texture": -3.0702,
    "confidence": 0.9699,
    "ring_h_low": 1.2576,
    "ring_h": -1.8233,
    "ring_dab": 1.1154,
    "near_log_area": 1.0819,
    "near_log_elongation": 2.4794,
    "near_contrast": 19.7622,
    "near_irregularity": -2.0144,
    "near_texture": -14.3083,
    "near_confidence": 7.5096,
    "near_ring_h_low": 2.0441,
    "near_ring_h": 4.2128,
    "near_ring_dab": 5.0476,
    "against_h": -4.2912,
    "against_ring_h": 3.1371,
    "against_dab": 76.0805,
    "against_area": 1.9773,
    "closeness": 1.8033,
    "crowding": 0.8613,
    "density": -0.4201,
}

#: a nucleus against stains and structures that look like one
NUCLEUS: dict[str, float] = {
    "bias": -3.9322,
    "contrast": 6.8861,
    "irregularity": -7.0200,
    "texture": -7.0244,
    "confidence": 8.4546,
    "ring_h_low": 1.2444,
    "ring_h": -0.4743,
    "against_h": 2.8369,
}

"""A picture through a JPEG, as scanners store it; one place for all drawings."""

from __future__ import annotations

import cv2
import numpy as np


def through_jpeg(rgb: np.ndarray, quality: int, *, halved: bool = False) -> np.ndarray:
    """Return uint8 (H, W, 3) as a JPEG of a quality from 0 to 100 gives it back.

    With ``halved`` the colour is stored at half the resolution whatever the coder's default is.

    Raises
    ------
    ValueError
        Where OpenCV cannot read what it wrote.
    """
    options = [cv2.IMWRITE_JPEG_QUALITY, quality]
    if halved:
        options += [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420]
    coded = cv2.imencode(".jpg", rgb[..., ::-1], options)[1]
    found = cv2.imdecode(coded, cv2.IMREAD_COLOR)
    if found is None:
        raise ValueError("the JPEG cannot be read back")
    return np.ascontiguousarray(found[..., ::-1])

"""The real images by name, found through `HER2PATH_REAL_DATA`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

__all__ = ["FOLDERS", "real_image"]

#: folders of images, and their µm per pixel
FOLDERS = {"her2_tma_cores": 0.25, "membrane_dab": 0.23}
Image.MAX_IMAGE_PIXELS = None


def real_image(folder: Path, image: str) -> tuple[np.ndarray, float]:
    """Return a real image's pixels, uint8 (H, W, 3), and its µm per pixel."""
    if image == "skimage_ihc":
        from skimage.data import immunohistochemistry

        return np.asarray(immunohistochemistry()), 0.25
    for part, mpp in FOLDERS.items():
        found = sorted((folder / part).glob(f"{image}*"))
        if found:
            return np.asarray(Image.open(found[0]).convert("RGB")), mpp
    raise FileNotFoundError(f"{image} is not below {folder}")

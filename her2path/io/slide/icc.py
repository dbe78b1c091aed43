"""Colour by the slide's ICC profile: pixel by pixel, hence the same for every block."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image, ImageCms

from her2path.io.slide.cache import Pixels

__all__ = ["BadProfile", "ToSrgb", "profile_name"]


class BadProfile(Exception):
    """A profile that cannot be used for RGB pixels."""


class ToSrgb:
    """Converts RGB to sRGB, relative colorimetric, with Little CMS. Thread-safe.

    Raises
    ------
    BadProfile
        When the profile is damaged or is not one for RGB.
    """

    def __init__(self, profile: bytes) -> None:
        try:
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            self._transform = ImageCms.buildTransform(
                source,
                ImageCms.createProfile("sRGB"),
                "RGB",
                "RGB",
                renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
            )
        except (ImageCms.PyCMSError, OSError, ValueError, TypeError) as exc:
            raise BadProfile(str(exc)) from exc

    def __call__(self, pixels: Pixels) -> Pixels:
        """Return the converted pixels, uint8 (h, w, 3)."""
        height, width = pixels.shape[:2]
        image = Image.frombytes("RGB", (width, height), np.ascontiguousarray(pixels).tobytes())
        return np.array(self._transform.apply(image), np.uint8)


def profile_name(profile: bytes) -> str:
    """Return the description of a profile, printable and short; ``unnamed`` where it has none."""
    try:
        text = ImageCms.getProfileDescription(ImageCms.ImageCmsProfile(io.BytesIO(profile)))
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return "unreadable"
    clean = "".join(c for c in " ".join(text.split()) if c.isprintable())
    return clean[:60] or "unnamed"

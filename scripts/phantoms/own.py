"""The program's own phantoms as a generator like the others."""

from __future__ import annotations

from collections.abc import Mapping

from her2path.phantom import PhantomSpec, encode_decode, make_phantom, random_spec
from scripts.phantoms.drawn import Drawn

STYLES: tuple[str, ...] = ("homogeneous", "mosaic", "clustered", "scattered")


def of_spec(spec: PhantomSpec) -> Drawn:
    """Return a phantom as its file would hold it, JPEG included, with the whole truth."""
    phantom = make_phantom(spec)
    rgb = encode_decode(phantom.rgb, spec.jpeg_quality, spec.subsampling)
    return Drawn(rgb, spec.mpp, phantom.truth)


def draw(seed: int, style: str, weights: Mapping[str, float], size_um: float = 240.0) -> Drawn:
    """Draw a random laboratory's slide of a layout and a mixture; see `drawn.Generator`."""
    return of_spec(random_spec(
        seed, layout=style, mixture=dict(weights), width_um=size_um, height_um=size_um,
    ))  # fmt: skip

"""From geometry to pixels: tile by tile in OD, then light, optics, camera."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from her2path.phantom import _kernels
from her2path.phantom.cells import Stain
from her2path.phantom.layout import GRID_UM, PAD_UM, Ground
from her2path.phantom.noise import Field, smooth_noise
from her2path.phantom.outline import Bodies
from her2path.phantom.spec import PhantomSpec
from her2path.phantom.stroma import Stroma

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
RGB = NDArray[np.uint8]

TILE_PX = 1024
TEXTURE_PX = 512
BORDER_SIGMA_UM = 0.3
HAEMOGLOBIN = (0.22, 0.36, 0.46)


@dataclass(frozen=True)
class Scene:
    """All that is seen: ground, cells with their stain, nuclei, stroma."""

    ground: Ground
    bodies: Bodies
    stain: Stain
    nuclei: F64
    stroma: Stroma


class Painter:
    """Renders a scene; every part of it is the same whatever the tiles are."""

    def __init__(self, spec: PhantomSpec, scene: Scene) -> None:
        self.spec, self.scene = spec, scene
        self.zoom = spec.supersampling
        self.px_um = spec.mpp / self.zoom
        self.margin = self.zoom * int(np.ceil(4 * spec.blur_um / spec.mpp + 4))
        rng = spec.rng("textures")
        self.fine = smooth_noise(rng, TEXTURE_PX, max(0.35 / self.px_um, 0.6))
        self.middle = smooth_noise(rng, TEXTURE_PX, 1.1 / self.px_um)
        self.chromatin = smooth_noise(rng, TEXTURE_PX, max(0.45 / self.px_um, 0.6))
        self.cytoplasm = self._cytoplasm(rng)
        self.border = self._borders(rng)
        bodies = scene.bodies
        self.boxes = _boxes(bodies)
        self.all_nuclei = np.concatenate([scene.nuclei, scene.stroma.nuclei])
        vectors = [_unit(spec.hematoxylin), _unit(spec.dab), HAEMOGLOBIN, (1.0, 1.0, 1.0)]
        self.vectors = np.array(vectors, np.float32)
        self.white = np.array(spec.white, np.float32)

    def paint(self) -> RGB:
        """Return the image (H, W, 3) before artefacts and camera noise."""
        spec = self.spec
        image = np.empty((spec.height_px, spec.width_px, 3), np.uint8)
        step = TILE_PX // self.zoom
        for top in range(0, spec.height_px, step):
            for left in range(0, spec.width_px, step):
                rows, cols = image[top : top + step, left : left + step].shape[:2]
                image[top : top + rows, left : left + cols] = self._tile(left, top, cols, rows)
        return image

    def _cytoplasm(self, rng: np.random.Generator) -> F32:
        """Hematoxylin and DAB OD of the cytoplasm of each cell (n, 2)."""
        spec, bodies = self.spec, self.scene.bodies
        n = bodies.count
        area = Field(rng, 140.0, max(spec.width_um, spec.height_um) + 2 * PAD_UM)
        region = area.at(bodies.centre[:, 0], bodies.centre[:, 1])
        h = spec.cytoplasm_h * np.exp(0.18 * rng.standard_normal(n) + 0.12 * region)
        d = spec.blush * np.exp(0.45 * rng.standard_normal(n) + 0.3 * region)
        return np.stack([h, d], axis=1).astype(np.float32)

    def _borders(self, rng: np.random.Generator) -> F64:
        """Hematoxylin OD along the outlines: unstained borders show a little."""
        n = self.scene.bodies.count
        od = np.maximum(rng.normal(0.25, 0.2, n), 0.0) * self.spec.cytoplasm_h
        return np.repeat(od, np.diff(self.scene.bodies.start))

    def _tile(self, left: int, top: int, cols: int, rows: int) -> RGB:
        """Return one tile of the final grid: rendered with a margin, blurred, cropped."""
        zoom, margin = self.zoom, self.margin
        corner = (left * zoom - margin, top * zoom - margin)
        shape = (rows * zoom + 2 * margin, cols * zoom + 2 * margin)
        planes = self._densities(corner, shape)
        seen = np.empty((*shape, 3), np.float32)
        _kernels.light(planes, self.vectors, self.white, seen)
        seen = self._optics(seen)[margin:-margin, margin:-margin]
        if zoom > 1:
            seen = cv2.resize(seen, (cols, rows), interpolation=cv2.INTER_AREA)
        tile: RGB = np.clip(seen + 0.5, 0, 255).astype(np.uint8)
        return tile

    def _densities(
        self, corner: tuple[int, int], shape: tuple[int, int]
    ) -> tuple[F32, F32, F32, F32]:
        """Return hematoxylin, DAB, haemoglobin and grey OD of one tile."""
        scene, bodies, stain = self.scene, self.scene.bodies, self.scene.stain
        px = self.px_um
        frame = (corner[0] * px, corner[1] * px, px)
        h, d, body, grey = (np.zeros(shape, np.float32) for _ in range(4))
        cells = _touching(self.boxes, frame, shape)
        label = np.full(shape, -1, np.int32)
        _kernels.bodies(label, frame, cells, bodies.start, bodies.x, bodies.y)
        coarse = (
            scene.ground.stroma,
            (frame[0] + PAD_UM) / GRID_UM - 0.5,
            (frame[1] + PAD_UM) / GRID_UM - 0.5,
            px / GRID_UM,
        )
        texture = (self.fine, self.middle, corner[0], corner[1])
        levels = (0.6 * self.spec.cytoplasm_h, self.spec.background_dab)
        _kernels.ground((h, d), label, coarse, self.cytoplasm, texture, levels)
        outline = (bodies.x, bodies.y, bodies.piece_um)
        sigma = np.full(1, BORDER_SIGMA_UM)
        narrow = np.broadcast_to(sigma, bodies.x.shape).copy()
        _kernels.lines(h, frame, cells, bodies.start, (*outline, self.border, narrow))
        _kernels.dots(h, frame, _near(scene.stroma.fibres.values, frame, shape, 3.0))
        _kernels.dots(d, frame, _near(scene.stroma.grains.values, frame, shape, 2.0))
        near = _near(self.all_nuclei, frame, shape, 12.0)
        _kernels.nuclei((h, d), frame, near, self.chromatin, corner)
        lines = np.zeros(shape, np.float32)
        _kernels.lines(lines, frame, cells, bodies.start, (*outline, stain.od, stain.sigma_um))
        _kernels.grainy(d, lines, self.chromatin, corner, 0.4 * self.spec.granularity)
        _kernels.red_cells((body, grey), frame, _near(scene.stroma.red_cells, frame, shape, 8.0))
        _kernels.dots(grey, frame, _near(scene.stroma.edges.values, frame, shape, 3.0))
        return h, d, body, grey

    def _optics(self, seen: F32) -> F32:
        """Blur transmitted light by the point spread; sharpen as scanners do."""
        sigma = self.spec.blur_um / self.px_um
        if sigma > 0.05:
            seen = cv2.GaussianBlur(seen, (0, 0), sigma)
        if self.spec.sharpen > 0:
            soft = cv2.GaussianBlur(seen, (0, 0), max(0.5, 0.35 / self.px_um))
            seen = seen + self.spec.sharpen * (seen - soft)
        return seen


def add_camera_noise(spec: PhantomSpec, image: RGB) -> None:
    """Add the camera's noise to an image in place."""
    if spec.noise <= 0:
        return
    rng = spec.rng("camera")
    noise = smooth_noise(rng, 512, 0.45)
    # another place of the texture every 37 rows, so that nothing repeats visibly
    shift = np.repeat(rng.integers(0, 512, (image.shape[0] // 37 + 1, 2)), 37, axis=0)
    _kernels.add_noise(image, noise, shift[: image.shape[0]], spec.noise)


def _unit(vector: tuple[float, float, float]) -> tuple[float, float, float]:
    norm = float(np.linalg.norm(vector))
    return (vector[0] / norm, vector[1] / norm, vector[2] / norm)


def _boxes(bodies: Bodies) -> F64:
    """Return x0, y0, x1, y1 (n, 4) of the bodies."""
    if bodies.count == 0:
        return np.empty((0, 4))
    first = np.minimum(bodies.start[:-1], max(bodies.x.size - 1, 0))
    low_x, high_x = np.minimum.reduceat(bodies.x, first), np.maximum.reduceat(bodies.x, first)
    low_y, high_y = np.minimum.reduceat(bodies.y, first), np.maximum.reduceat(bodies.y, first)
    return np.stack([low_x, low_y, high_x, high_y], axis=1)


def _touching(
    boxes: F64, frame: tuple[float, float, float], shape: tuple[int, int], reach_um: float = 6.0
) -> NDArray[np.int64]:
    """Return the cells whose box, grown by the reach of a line, meets the tile."""
    x1, y1 = frame[0] + shape[1] * frame[2], frame[1] + shape[0] * frame[2]
    meets = (boxes[:, 0] < x1 + reach_um) & (boxes[:, 2] > frame[0] - reach_um)
    meets &= (boxes[:, 1] < y1 + reach_um) & (boxes[:, 3] > frame[1] - reach_um)
    return np.nonzero(meets)[0]


def _near(
    values: F64, frame: tuple[float, float, float], shape: tuple[int, int], reach_um: float
) -> F64:
    """Return the rows whose x, y lie in the tile or within the reach of it."""
    x, y = values[:, 0], values[:, 1]
    near = (x > frame[0] - reach_um) & (x < frame[0] + shape[1] * frame[2] + reach_um)
    near &= (y > frame[1] - reach_um) & (y < frame[1] + shape[0] * frame[2] + reach_um)
    return values[near]

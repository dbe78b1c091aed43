"""The classic detector: blobs over scales, a star-convex contour each, the best of rivals kept."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from her2path.nuclei import _kernels as kernels
from her2path.settings import NucleiSettings

F32 = npt.NDArray[np.float32]
RAYS = 48
P = dict(s0=1.1, ratio=2**0.5, nlev=6, floor=0.06, base=0.03, ridge_leak=0.3, ring=0.15,
         fine=0.5, side=2, earlier=0.5, barrier=0.5, bend=0.04, step=0.5, limit=0.35, rounds=3,
         min_score=0.12, fill=0.15, tau=0.3)


def taps(sigma: float) -> F32:
    reach = max(int(np.ceil(3 * sigma)), 1)
    g = np.exp(-0.5 * (np.arange(reach + 1) / sigma) ** 2)
    g /= g[0] + 2 * g[1:].sum()
    return g.astype(np.float32)


@lru_cache(8)
def tables(rays, steps, step_px):
    a = 2 * np.pi * np.arange(rays) / rays
    r = (np.arange(steps) ) * step_px
    return np.stack([np.sin(a)[:, None] * r, np.cos(a)[:, None] * r]).astype(np.float32)


@lru_cache(8)
def angles(reach_px, rays):
    half = int(np.ceil(reach_px * 2)) + 2
    y, x = np.mgrid[-half:half + 1, -half:half + 1]
    return (np.rint(np.arctan2(y, x) / (2 * np.pi) * rays).astype(np.int64) % rays).astype(np.int16)


def candidates(h, d, mpp, settings, origin):
    p = P
    q = max(int(round(1.0 / mpp)), 1)
    top, left = (-origin[0]) % q, (-origin[1]) % q
    hh, ww = (h.shape[0] - top) // q, (h.shape[1] - left) // q
    ch = np.empty((hh, ww), np.float32)
    cd = np.empty((hh, ww), np.float32)
    kernels.reduce_mean(h, q, top, left, np.float32(-0.05), np.float32(2.5), ch)
    kernels.reduce_mean(d, q, top, left, np.float32(-0.05), np.float32(3), cd)
    mc = mpp * q
    # ridge
    wide = np.empty_like(cd)
    kernels.blur(cd, taps(2.5 / mc), wide)
    rid = np.maximum(cd - wide, 0)
    src = ch - np.float32(p["ridge_leak"]) * rid
    lev, dl = [], []
    prev, pd, s_prev = src, cd, 0.0
    for k in range(p["nlev"]):
        s = p["s0"] * p["ratio"] ** k / mc
        t = taps((s * s - s_prev * s_prev) ** 0.5)
        o = np.empty_like(src); kernels.blur(prev, t, o); lev.append(o); prev = o
        o2 = np.empty_like(src); kernels.blur(pd, t, o2); dl.append(o2); pd = o2
        s_prev = s
    R = np.stack([lev[k] - lev[k + 1] - np.float32(p["ring"]) * np.clip(dl[k] - dl[k + 1], -0.1, 0)
                  for k in range(p["nlev"] - 1)])
    floor = np.float32(p["floor"] / settings.sensitivity) * (np.maximum(lev[4], 0) + np.float32(p["base"]))
    out = np.empty((hh * ww // 8 + 16, 3), np.int32)
    n = kernels.scale_maxima(R, floor, (origin[0] + top) // q, (origin[1] + left) // q, out)
    out = out[:n]
    seeds = np.stack([out[:, 1] * q + top + q // 2, out[:, 2] * q + left + q // 2], 1)
    up = np.zeros_like(h)
    up[top:top + hh * q, left:left + ww * q] = np.kron(rid, np.ones((q, q), np.float32))
    sm = np.empty_like(h)
    kernels.blur(h, taps(p["fine"] / mpp), sm)
    lv = lev[5][out[:, 1], out[:, 2]]; ln = lev[2][out[:, 1], out[:, 2]]
    return seeds, sm, up, out, lv, ln


def contours(sm, up, level, h, d, seeds, frac, mpp, settings, rays):
    p = P
    step = p["step"] / mpp
    last = int(round(settings.max_radius_um / p["step"]))
    first = int(round(1.5 / p["step"]))
    steps = last + p["side"] + 1
    tab = tables(rays, steps, step)
    shape = np.array([first, last, p["side"], p["earlier"], p["barrier"], p["bend"] * (rays / 24) ** 2, p["fill"]], np.float32)
    work = np.empty((4, rays, steps), np.float32)
    n = len(seeds)
    radii = np.empty((n, rays), np.float32); edges = np.empty((n, rays), np.float32); gain = np.empty(n, np.float32)
    for i in range(n):
        gain[i] = kernels.trace(sm, up, seeds[i, 0], seeds[i, 1], frac[i, 0], frac[i, 1], level[i], tab, shape, work, radii[i], edges[i])
    return (radii + np.float32(0.5)) * np.float32(step), edges, gain


def run(h, d, mpp, settings, origin=(0, 0), full=False):
    p = P
    seeds, sm, up, raw, lv, ln = candidates(h, d, mpp, settings, origin)
    rays = 24
    zero = np.zeros((len(seeds), 2), np.float32)
    level = lv + np.float32(p['tau']) * (ln - lv)
    radii, edges, gain = contours(sm, up, level, h, d, seeds, zero, mpp, settings, rays)
    a = 2 * np.pi * np.arange(rays) / rays
    c, s = np.cos(a).astype(np.float32), np.sin(a).astype(np.float32)
    for _ in range(p.get('recentre', 0)):
        for i in range(len(seeds)):
            cy, cx, _a = kernels.centroid(radii[i], c, s)
            seeds[i, 0] += int(np.rint(cy)); seeds[i, 1] += int(np.rint(cx))
        radii, edges, gain = contours(sm, up, level, h, d, seeds, zero, mpp, settings, rays)
    ang = angles(settings.max_radius_um / mpp + 1 + 1.5/mpp, rays)
    m = np.empty((len(seeds), 10), np.float32)
    cen = np.empty((len(seeds), 3), np.float32)
    for i in range(len(seeds)):
        kernels.measure(sm, d, seeds[i, 0], seeds[i, 1], zero[i, 0], zero[i, 1], radii[i], ang, np.float32(1.5 / mpp), m[i])
        cen[i] = kernels.centroid(radii[i], c, s)
    return dict(level=level, lv=lv, ln=ln, seeds=seeds, radii=radii, edges=edges, gain=gain, m=m, cen=cen, scale=raw[:, 0], c=c, s=s, ang=ang)


def nms(r, score, mpp, mins):
    p = P
    ok = np.flatnonzero(score > mins)
    off = np.rint(r["cen"][:, :2] * 16).astype(np.int64)
    yx = r["seeds"].astype(np.int64) * 16
    order = ok[np.lexsort((yx[ok, 1], yx[ok, 0]))]
    pairs = np.empty((len(order) * 40 + 10, 2), np.int32)
    n = kernels.neighbours(yx[order], score[order], score[order], r["radii"][order], int(8 / mpp * 16), np.float32(p["limit"]), r["c"], r["s"], r["ang"], pairs)
    state = np.zeros(len(order), np.int8)
    kernels.suppress(pairs[:n], score[order].astype(np.float32), np.arange(len(order)), p["rounds"], state)
    und = (state == 0).sum()
    return order[state == 1], und

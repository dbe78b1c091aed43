"""The membrane attribution once more for torch: what it sees of a slide, the model, the loss.

The package evaluates the same model in `her2path.membrane._network` without torch.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from membrane_nests import PROFILE_OD
from membrane_slides import TRUTH
from torch import nn

from her2path.cells._limits import COS, SIN
from her2path.membrane import _inputs, _joint, _looks, _network, attribution
from her2path.membrane.columns import pack, unpack

#: what a matched cell that is no tumour cell weighs: all of these are unstained
STROMA_WEIGHT = 0.3
#: a false membrane weighs so much more than a missed one
FALSE_WEIGHT = 2.0
#: so many cells of a kind on a slide count half
FEW_CELLS = 10.0
LOGIT = nn.functional.binary_cross_entropy_with_logits


def lose_cells(raw: dict[str, Any], rng: np.random.Generator) -> dict[str, Any]:
    """Return a table without some of its cells: on real tissue many nuclei are missed.

    Their lines stay in their neighbours' readings with nobody there to own them, and where they
    are stained, a second line mostly follows behind the first.
    """
    keep = rng.random(len(raw["use"])) >= rng.uniform(0.0, 0.65)
    keep[rng.integers(keep.size)] = True
    radius = attribution.read_rings(raw).radius
    other = attribution.link(raw, float(raw["mpp_a"]), radius)[0] // _inputs.PLACES
    open_now = (other >= 0) & ~keep[other] & (raw["t_intensity"][other] > 0)
    more = np.repeat(open_now & (rng.random(other.shape) < 0.8), 2, axis=1)
    kind = np.where(more, raw["line_kind"] | 4, raw["line_kind"]).astype(np.uint8)
    out = raw | {"line_kind": kind}
    many = {k: np.ndim(v) > 0 for k, v in out.items()}
    return {k: v[keep] if many[k] else v for k, v in out.items()}


def roughen(raw: dict[str, Any], rng: np.random.Generator) -> dict[str, Any]:
    """Return a table of another staining strength, its lines broken by grain and gaps; same truth.

    The grain is a field over the slide, so two cells read the same grain on a shared line. Grain
    reads as texture too, so the noise column says more than there is.
    """
    r, um = unpack("line_r", raw["line_r"]), float(raw["mpp_a"]) / 16
    x, y = raw["x_fx"][:, None] * um + r * COS, raw["y_fx"][:, None] * um + r * SIN
    grain, gaps = (_field(x, y, rng.uniform(1.2, 5.0), rng) for _ in range(2))
    depth = rng.uniform(0.0, 1.2)
    factor = np.exp(depth * grain - 0.3 * depth * depth)
    factor *= np.where(gaps < rng.uniform(-3.5, -0.9), rng.uniform(0.0, 0.4), 1.0)
    factor *= np.exp(rng.normal(0, 0.25))
    noise = np.asarray(raw["line_noise"], np.float64)
    more = rng.uniform(0.0, 0.7)
    mass, crest = (unpack(n, raw[n]) for n in ("line_mass", "line_crest"))
    width = unpack("line_width", raw["line_width"])
    new = mass * factor + more * noise[:, None] * rng.normal(size=mass.shape)
    crest = np.maximum(crest * factor + (new - mass * factor) / np.maximum(width, 0.5), 0.0)
    width = width * np.exp(rng.uniform(0, 0.2) * rng.normal(size=mass.shape) + rng.normal(0, 0.15))
    line = {"line_mass": new, "line_crest": crest, "line_width": width}
    out = raw | {n: pack(n, v.astype(np.float32)) for n, v in line.items()}
    said = np.hypot(1.0, more) + rng.uniform(0, 0.12) * depth * np.median(mass, 1) / noise.clip(
        0.01
    )
    out["line_noise"] = (noise * np.minimum(said, 4.0)).astype(np.float32)
    at_places = _thin(factor), _thin(new - mass * factor)
    out["profiles"] = roughen_profiles(raw, at_places, more, rng)
    # what is left of the cells' own OD is what the strength should be
    out["scale"] = float(np.median(factor))
    return out


def _thin(rays: Any) -> Any:
    """Return the means over three rays round every second one, as `_inputs.thin` does."""
    return 0.5 * rays[:, ::2] + 0.25 * (np.roll(rays, 1, axis=1)[:, ::2] + rays[:, 1::2])


def roughen_profiles(raw: Any, change: tuple[Any, Any], more: float, rng: Any) -> Any:
    """Return profiles that go with roughened readings; hematoxylin stays as it is.

    What rises above a straight line between the lowest points of both sides is scaled, the mass
    that noise added lies at the crest, and the samples get noise of their own. `change` = (factor,
    mass added), (N, PLACES) each.
    """
    factor, added = change
    seen = raw["profiles"] * np.float32(PROFILE_OD)
    p, taps = seen[:, 1], np.arange(_network.LOOK_TAPS)
    inner, outer = p[..., :5].min(-1, keepdims=True), p[..., -5:].min(-1, keepdims=True)
    base = inner + (outer - inner) * np.clip((taps - 2) / 8, 0, 1)
    crest = 3 + p[..., 3:10].argmax(-1)
    bump = np.exp(-0.5 * ((taps - crest[..., None]) / 0.8) ** 2) / (0.4 * 2.5066)
    grain = more * 0.6 * raw["line_noise"][:, None, None] * rng.normal(size=p.shape)
    seen[:, 1] = base + (p - base) * factor[..., None] + added[..., None] * bump + grain
    return np.clip(np.rint(seen / PROFILE_OD), -32768, 32767).astype(np.int16)


def looks(raw: dict[str, Any]) -> Any:
    """Return what the network sees of the profiles, (N, PLACES, LOOK_INPUTS)."""
    seen = raw["profiles"] * np.float32(PROFILE_OD)
    x = np.empty((len(seen), _network.LOOK_INPUTS, _inputs.PLACES), np.float32)
    for profile, noise, row in zip(seen, raw["line_noise"], x, strict=True):
        _looks.look_inputs(profile, float(noise), row)
    return x.transpose(0, 2, 1)


def _field(x: Any, y: Any, wave_um: float, rng: np.random.Generator) -> Any:
    total = np.zeros(x.shape, np.float32)
    x, y = x.astype(np.float32), y.astype(np.float32)
    for _ in range(16):
        turn, size = rng.uniform(0, 2 * np.pi), 2 * np.pi / (wave_um * rng.uniform(0.7, 2.0))
        a, b, c = (
            np.float32(v)
            for v in (size * np.cos(turn), size * np.sin(turn), rng.uniform(0, 6.2832))
        )
        total += np.cos(a * x + b * y + c)
    return total / np.sqrt(8.0)


def prepare(raw: dict[str, Any]) -> dict[str, torch.Tensor]:
    """Return what the model sees of one slide, and its truth."""
    read = attribution.read_rings(raw)
    links = attribution.link(raw, float(raw["mpp_a"]), read.radius)
    m, place, cell = attribution.describe(raw, read, links)
    length = _joint.ring_lengths(read.radius)
    noise = np.asarray(raw["line_noise"], np.float64)
    own = np.asarray(raw["t_ray"], np.float32)[:, ::2]
    floats = {
        "m": np.maximum(m, 0),
        "place": place,
        "look": looks(raw),
        "cell": cell,
        "overlap": np.where(links[0] >= 0, links[2], 0),
        "length": length / length.sum(1, keepdims=True),
        "sd": np.sqrt(noise**2 + _inputs.FLOOR**2),
        "crest": np.maximum(read.crest, 0),
        "width": read.width,
        "use": raw["use"],
        "weight": np.where(raw["use"], 1.0, STROMA_WEIGHT * raw["stroma"]),
        "known": own >= 0,
        "on": own > 0,
        "scale": np.full(len(m), raw.get("scale", 1.0)),
        **{name: raw[name] for name in TRUTH.values()},
    }
    out = {k: torch.from_numpy(np.asarray(v, np.float32)) for k, v in floats.items()}
    return {**out, "partner": torch.from_numpy(links[0].astype(np.int64))}


def squash(x: torch.Tensor) -> torch.Tensor:
    """See `_network.squash`."""
    return x * torch.rsqrt(1 + x * x)


class Model(nn.Module):
    """The rounds and the verdict of `her2path.membrane._network`."""

    def __init__(self) -> None:
        super().__init__()
        scale = {"place": 0.16, "cell": 0.08, "moving": 0.3, "talk": 0.2, "last": 0.11}
        scale |= {"look": 0.14, "near": 0.12, "far": 0.14, "look_place": 0.02, "look_cell": 0.02}
        scale |= {"verdict": 0.12, "says": 0.12}
        for name, shape in _network.SHAPES.items():
            self.register_parameter(name, nn.Parameter(torch.randn(shape) * scale.get(name, 0.0)))

    def forward(self, d: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Return completeness, probability of any stain, mass, OD, doubt and place states."""
        m, link = d["m"], d["partner"].clamp(min=0)
        j, has, tiny = link // _inputs.PLACES, (d["partner"] >= 0).float(), _network.TRACE
        sd, length = d["sd"][:, None].expand_as(m), d["length"]
        fixed = d["place"] @ self.place + (d["cell"] @ self.cell)[:, None]
        fixed = fixed + self._look(d["look"], 1 - has)
        h = torch.zeros(*m.shape, _network.STATES)
        a = m.mean(1) + 0.01
        ps = []
        for number in range(_network.ROUNDS):
            p = 0.5 + 0.5 * h[..., 0]
            own, other = a[:, None].expand_as(m), a[j] * has
            part = d["overlap"] * p.reshape(-1)[link] * other
            x = self._moving(m, sd, (own, other, part))
            z = fixed + self.bias[number] + x @ self.moving[number]
            mean = h.mean(1)
            if number > 0:
                z = z + self._talk(number, h, mean, (j, link, has))
            old_p, old_mean, alike = p, 0.5 + 0.5 * mean[:, 0], x[..., 2]
            h = squash(torch.relu(z) @ self.last[number] + self.last_bias[number])
            p = 0.5 + 0.5 * h[..., 0]
            ps.append(p)
            share = (own + tiny) / (own + part + tiny)
            v = length * (0.52 + 0.5 * h[..., 1]) * p
            a = (v * m * share).sum(1) / (v.sum(1) + 1e-4)
        free = (1 - has)[..., None]
        seen = part / (part + a[:, None] + 0.03)
        company = [old_p.reshape(-1)[link] * has, alike * has, seen, old_mean[j] * has]
        said = torch.cat(
            [
                h.mean(1),
                (h * free).mean(1),
                torch.stack([(length * p * p).sum(1), (length * p * free[..., 0]).sum(1)], 1),
                d["cell"],
                torch.stack([torch.log1p(a / 0.03), a / (a + 3 * d["sd"])], 1),
                torch.stack([(length * c).sum(1) for c in company], 1),
            ],
            1,
        )
        o = torch.relu(said @ self.verdict + self.verdict_bias) @ self.says + self.says_bias
        shape = self._shape(d, v * share * share + 1e-6)
        mass = a * torch.exp(0.5 * squash(o[:, 1]))
        share = (length * p).sum(1)
        c = (share + 0.3 * squash(o[:, 4])).clamp(0, 1)
        return {
            "p": p,
            "ps": ps,
            "c": c,
            "gate": 0.5 + 0.5 * squash(o[:, 0]),
            "mass": mass,
            "od": mass * shape * torch.exp(0.7 * squash(o[:, 2])),
            "bad": o[:, 3],
        }

    def _look(self, x: torch.Tensor, free: torch.Tensor) -> torch.Tensor:
        """See `her2path.membrane._looks`."""
        z = squash(x @ self.look + self.look_bias)
        for w, bias in ((self.near, self.near_bias), (self.far, self.far_bias)):
            z = squash(torch.cat([torch.roll(z, 1, 1), z, torch.roll(z, -1, 1)], -1) @ w + bias)
        free = free[..., None]
        means = torch.cat([z.mean(1), (z * free).sum(1) / (free.sum(1) + 1)], 1)
        return z @ self.look_place + (means @ self.look_cell)[:, None]

    @staticmethod
    def _moving(m: torch.Tensor, sd: torch.Tensor, lines: tuple[Any, ...]) -> torch.Tensor:
        own, other, part = lines
        tiny = _network.TRACE
        rest = m - part
        x = [(m + tiny) / (m + own + 2 * tiny), (m + tiny) / (m + part + 2 * tiny)]
        x += [(own + tiny) / (own + other + 2 * tiny)]
        x += [(m + tiny) / (m + own + part + 2 * tiny), own / (own + 3 * sd)]
        x += [rest / (rest.abs() + own + sd)]
        x += [(m + tiny) / (m + other + 2 * tiny), (m + tiny) / (m + own + other + 2 * tiny)]
        return torch.stack(x, -1)

    def _talk(self, number: int, h: Any, mean: Any, links: tuple[Any, ...]) -> torch.Tensor:
        j, link, has = links
        near = (torch.roll(h, 1, 1) + torch.roll(h, -1, 1)) / 2
        far = sum(torch.roll(h, s, 1) + torch.roll(h, -s, 1) for s in (2, 3)) / 4
        partner = h.reshape(-1, h.shape[-1])[link] * has[..., None]
        ring = mean[j] * has[..., None]
        heard = torch.cat([h, near, far, partner, ring], -1)
        w = torch.cat([self.talk[number, s] for s in (0, 1, 2, 3, 5)])
        return heard @ w + (mean @ self.talk[number, 4])[:, None]

    @staticmethod
    def _shape(d: dict[str, torch.Tensor], v: torch.Tensor) -> torch.Tensor:
        total = v.sum(1)
        crest, m, wide = ((v * d[n]).sum(1) / total for n in ("crest", "m", "width"))
        blur = attribution.BLUR_UM**2
        sharp = torch.sqrt(torch.maximum(wide * wide - blur, 0.16 * wide * wide) + 1e-6)
        shape = (crest / (m + _network.TRACE) * wide).clamp(0.4, 1.2 / attribution.GAUSS)
        return shape / sharp.clamp(min=0.2)


def balanced(weight: torch.Tensor, stained: torch.Tensor) -> torch.Tensor:
    """Return weights (N,) that make stained and unstained cells of a slide count alike.

    Whatever the mixture, so that few unstained cells among many stained ones are judged by what
    they show; a kind with fewer than `FEW_CELLS` counts less. Mean about 1.
    """
    yes, no = (weight * stained).sum(), (weight * (1 - stained)).sum()
    total = yes + no + 1e-6
    w_yes, w_no = (0.5 * total / (n + FEW_CELLS) for n in (yes, no))
    return weight * (w_yes * stained + w_no * (1 - stained)) / total


def loss_of(d: dict[str, torch.Tensor], r: dict[str, Any], help_rays: float) -> torch.Tensor:
    """Return the loss: completeness, stained or not, complete or not, strength, doubt, places."""
    w, c = d["weight"], d["t_completeness"]
    stained = (d["t_intensity"] > 0).float()
    even = balanced(w, stained)
    ws = w * stained
    every, some = w.sum() + 1, ws.sum() + 10
    gate = r["gate"].clamp(1e-4, 1 - 1e-4)
    surprise = -(stained * gate.log() + (1 - stained) * (1 - gate).log())
    off = (r["gate"] * r["c"] - c).abs()
    total = (w * off).sum() / every + (even * off).sum()
    total = total + 0.6 * (ws * (r["c"] - c).abs()).sum() / some
    heavy = stained + FALSE_WEIGHT * (1 - stained)
    total = total + 0.4 * (even * heavy * surprise).sum()
    complete = LOGIT((r["c"] - 0.79) / 0.06, (c >= 0.8).float(), reduction="none")
    total = total + 0.12 * (ws * complete).sum() / some
    total = total + _strength_loss(d, r, ws / some)
    bad = ((r["c"] * (r["gate"] > 0.5) - c).abs() > 0.25).float().detach()
    total = total + 0.05 * (w * LOGIT(r["bad"], bad, reduction="none")).sum() / every
    rough = (r["p"] - torch.roll(r["p"], 1, 1)).abs().mean(1)
    total = total + 0.02 * (rough * w).sum() / every
    places = sum(_place_loss(d, p, even) for p in r["ps"][2:]) / len(r["ps"][2:])
    return total + help_rays * places


def _strength_loss(d: dict[str, torch.Tensor], r: dict[str, Any], w: torch.Tensor) -> torch.Tensor:
    crest = d["t_od_crest"] * d["scale"]
    total = torch.zeros(())
    for name, truth, weight in (
        ("od", crest, 0.3),
        ("mass", crest * d["t_width_um"] * attribution.GAUSS, 0.2),
    ):
        off = torch.log(r[name] + 0.01) - torch.log(truth + 0.01)
        total = total + weight * (w * torch.sqrt(off * off + 0.01)).sum()
    return total


def _place_loss(d: dict[str, torch.Tensor], p: torch.Tensor, even: torch.Tensor) -> torch.Tensor:
    """Return how far the places are from knowing whether the own membrane is stained there."""
    p = p.clamp(1e-3, 1 - 1e-3)
    surprise = -(d["on"] * p.log() + (1 - d["on"]) * (1 - p).log()) * d["known"]
    return (even * (d["length"] * surprise).sum(1)).sum()

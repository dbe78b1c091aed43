"""Fit the weights of the joint attribution of shared membranes.

    python scripts/fit_membrane.py --slides 200 --minutes 20 -o her2path/membrane/weights.npz

Phantoms of random protocols and layouts are painted, their nuclei found by the program itself,
their rays measured, and cells matched to the truth within 4 µm; the same slides are measured a
second time with true nuclei. Only the truth table is used: own completeness, crest OD and width of
each cell. The model of `her2path.membrane._network` is written here once more for torch, which the
package itself does not need. `--tables` adds measured tables of other generators, npz files with
the raw columns, `mpp_a`, `use` and the truth as `t_intensity`, `t_completeness`, `t_od_crest` and
`t_width_um`, so that nothing is tuned to one of them. Every slide is also shown with its lines
broken up by grain and with more noise, as real staining has it. `--start` goes on from weights
already fitted; the weights kept are those that did best on slides left out of the fit.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from scipy.spatial import cKDTree
from torch import nn

from her2path import analysis, cells, membrane, nuclei, stain
from her2path.cells._kernels import COS, SIN
from her2path.geometry import Box, analysis_factor
from her2path.membrane import _inputs, _joint, _network, attribution
from her2path.membrane.columns import pack, unpack
from her2path.phantom import PhantomSpec, encode_decode, make_phantom
from her2path.settings import Settings

MATCH_UM, EDGE_UM = 4.0, 12.0
NAMES = ("ray", "cell", "bias", "moving", "talk", "last", "last_bias")
ENDS = ("verdict", "verdict_bias", "says", "says_bias")
TRUTH = {"intensity": "t_intensity", "completeness": "t_completeness"}
TRUTH |= {"od_crest": "t_od_crest", "width_um": "t_width_um"}
N, INTENSE = {"none": 1.0}, {"intense_complete": 0.7, "intense_incomplete": 0.3}
M, F = (
    {"moderate_complete": 0.6, "moderate_incomplete": 0.4},
    {"faint_complete": 0.4, "faint_incomplete": 0.6},
)
ONE = {"none": 0.45, "faint_incomplete": 0.42, "faint_complete": 0.08, "moderate_incomplete": 0.05}
TWO = {"none": 0.12, **{k: 0.3 * v for k, v in F.items()}, **{k: 0.58 * v for k, v in M.items()}}
THREE = {
    "none": 0.03,
    **{k: 0.17 * v for k, v in M.items()},
    **{k: 0.8 * v for k, v in INTENSE.items()},
}
PLAN: tuple[tuple[str, dict[str, float], dict[str, float]], ...] = (
    ("homogeneous", N, {}),
    ("homogeneous", TWO, {}),
    ("mosaic", N, INTENSE),
    ("homogeneous", ONE, {}),
    ("mosaic", {"none": 0.4, **{k: 0.6 * v for k, v in F.items()}}, INTENSE),
    ("homogeneous", THREE, {}),
    ("mosaic", N, M),
    ("scattered", N, INTENSE),
    ("homogeneous", {"none": 0.94, "faint_incomplete": 0.06}, {}),
    ("clustered", ONE, INTENSE),
    ("mosaic", F, M),
    ("homogeneous", F, {}),
    ("homogeneous", M, {}),
    ("homogeneous", INTENSE, {}),
)
#: a slide with fewer stained cells than this share counts as unstained; their false membranes
#: weigh so much more
QUIET, QUIET_WEIGHT = 0.01, 3.0
#: what a matched cell that is no tumour cell weighs: all of these are unstained
STROMA_WEIGHT = 0.3
#: every so many slides one is left out of the fit
LEFT_OUT = 9


def draw_spec(number: int) -> PhantomSpec:
    """Return one small slide of a random protocol; the layouts come in turn."""
    layout, main, second = PLAN[number % len(PLAN)]
    rng = np.random.default_rng([number, 99])
    if number % 5 == 4:  # chroma at half of 0.5 µm/px paints nuclear edges brown
        fixed = {"mpp": float(rng.choice([0.46, 0.5])), "subsampling": "4:2:0"}
        layout, main, second = PLAN[0]
    else:
        fixed = {}
    share = {"homogeneous": 0.0, "scattered": 0.1}.get(layout, rng.uniform(0.3, 0.6))
    return PhantomSpec.random(
        7000 + number,
        layout=layout,
        mixture=main,
        second=second,
        second_fraction=float(share),
        width_um=240.0,
        height_um=240.0,
        margin_um=8.0,
        tumour_share=0.85,
        lymphocytes=0.2,
        stroma_cells=0.3,
        strength=float(np.exp(rng.normal(0, 0.22))),
        jpeg_quality=int(rng.integers(60, 91)),
        knife_edge=bool(rng.random() < 0.3),
        **fixed,
    )


def measure(spec: PhantomSpec) -> list[dict[str, Any]]:
    """Return raw tables with truth: found nuclei, and true nuclei."""
    phantom = make_phantom(spec)
    rgb = encode_decode(phantom.rgb, spec.jpeg_quality, spec.subsampling)
    truth = {c: np.array(phantom.truth[c].to_pylist()) for c in phantom.truth.column_names}
    step = analysis_factor(spec.mpp) * analysis.MAP_PX
    rgb = np.ascontiguousarray(rgb[: rgb.shape[0] // step * step, : rgb.shape[1] // step * step])
    base = Settings()
    optics = analysis.Optics(
        spec.mpp, analysis_factor(spec.mpp), stain.estimate([rgb], spec.mpp, base.stain)
    )
    planes = stain.reduce_unmix(rgb, optics.factor, optics.stain)
    contrast = nuclei.typical_contrast([planes], optics.mpp_a, base.nuclei)
    own = base.model_copy(
        update={"nuclei": base.nuclei.model_copy(update={"contrast_od": contrast})}
    )
    box = Box(0, 0, rgb.shape[1], rgb.shape[0])
    found = analysis.to_columns(analysis.measure(rgb, box, box, optics, own).raw)
    at = (np.column_stack([found["x_fx"], found["y_fx"]]) / 16 + 0.5) * optics.mpp_a
    real = _true_nuclei(truth, rgb, planes, optics, base)
    return [
        _with_truth(found, _match(at, truth), truth, rgb.shape, optics),
        _with_truth(real[0], real[1], truth, rgb.shape, optics),
    ]


def _true_nuclei(
    truth: dict[str, Any], rgb: Any, planes: Any, optics: analysis.Optics, base: Settings
) -> tuple[dict[str, Any], Any]:
    h, d = planes
    um = optics.mpp_a
    inside = (truth["x_um"] > 1) & (truth["x_um"] < rgb.shape[1] * optics.mpp - 1)
    inside &= (truth["y_um"] > 1) & (truth["y_um"] < rgb.shape[0] * optics.mpp - 1)
    rows = np.flatnonzero(truth["has_nucleus"] & inside)
    x, y = (np.round((truth[c][rows] / um - 0.5) * 16) / 16 for c in ("x_um", "y_um"))
    radii = np.repeat((truth["nucleus_radius_um"][rows] / um)[:, None], 48, 1)
    contours = SimpleNamespace(
        x=x.astype(np.float32), y=y.astype(np.float32), radii=radii.astype(np.float32)
    )
    borders = cells.grow_cells(contours, d, h, um, base.cells)
    tables = optics.stain.tables()[1]
    raw: dict[str, Any] = membrane.measure_rays(
        rgb, tables, optics.factor, optics.mpp, contours, borders, base.membrane
    )
    raw["x_fx"], raw["y_fx"] = (np.round(v * 16).astype(np.int64) for v in (x, y))
    raw["cell_id"] = raw["y_fx"] * analysis.ID_STRIDE + raw["x_fx"]
    return raw, rows


def _match(at: Any, truth: dict[str, Any]) -> Any:
    """Return the truth row of each found nucleus, nearest pairs first; -1 without one."""
    there = np.column_stack([truth["x_um"], truth["y_um"]])
    near = cKDTree(there).query_ball_point(at, MATCH_UM)
    pairs = sorted(
        (float(np.hypot(*(at[i] - there[j]))), i, j) for i, js in enumerate(near) for j in js
    )
    rows, taken = np.full(len(at), -1), set()
    for _, i, j in pairs:
        if rows[i] < 0 and j not in taken:
            rows[i] = j
            taken.add(j)
    return rows


def _with_truth(raw: Any, rows: Any, truth: Any, shape: Any, optics: analysis.Optics) -> Any:
    x, y = truth["x_um"], truth["y_um"]
    sound = (truth["cell_type"] == "tumour") & truth["has_nucleus"] & ~truth["touches_edge"]
    sound &= (x > EDGE_UM) & (x < shape[1] * optics.mpp - EDGE_UM)
    sound &= (y > EDGE_UM) & (y < shape[0] * optics.mpp - EDGE_UM)
    order = np.argsort(raw["cell_id"], kind="stable")
    out = {k: v[order] for k, v in raw.items()}
    rows = rows[order]
    out |= {name: np.where(rows >= 0, truth[c][rows], 0) for c, name in TRUTH.items()}
    out["use"] = (rows >= 0) & sound[rows]
    out["stroma"] = (rows >= 0) & (truth["cell_type"] != "tumour")[rows]
    out["mpp_a"] = optics.mpp_a
    return out


def roughen(raw: dict[str, Any], rng: np.random.Generator) -> dict[str, Any]:
    """Return a table whose lines are broken by grain and gaps, under more noise; same truth.

    The grain is a field over the slide, so two cells read the same grain on a shared line.
    """
    r, um = unpack("line_r", raw["line_r"]), float(raw["mpp_a"]) / 16
    x, y = raw["x_fx"][:, None] * um + r * COS, raw["y_fx"][:, None] * um + r * SIN
    grain, gaps = (_field(x, y, rng.uniform(1.2, 5.0), rng) for _ in range(2))
    depth = rng.uniform(0.2, 0.9)
    factor = np.exp(depth * grain - 0.3 * depth * depth)
    factor *= np.where(gaps < rng.uniform(-3.0, -0.9), rng.uniform(0.0, 0.4), 1.0)
    noise = np.asarray(raw["line_noise"], np.float64)
    more = rng.uniform(0.0, 0.9)
    mass, crest = (unpack(n, raw[n]) for n in ("line_mass", "line_crest"))
    width = unpack("line_width", raw["line_width"])
    new = mass * factor + more * noise[:, None] * rng.normal(size=mass.shape)
    crest = np.maximum(crest * factor + (new - mass * factor) / np.maximum(width, 0.5), 0.0)
    width = width * np.exp(rng.uniform(0, 0.25) * rng.normal(size=mass.shape))
    line = {"line_mass": new, "line_crest": crest, "line_width": width}
    out = raw | {n: pack(n, v.astype(np.float32)) for n, v in line.items()}
    out["line_noise"] = (noise * np.sqrt(1 + more * more)).astype(np.float32)
    return out


def _field(x: Any, y: Any, wave_um: float, rng: np.random.Generator) -> Any:
    total = np.zeros(x.shape)
    for _ in range(24):
        turn, size = rng.uniform(0, 2 * np.pi), 2 * np.pi / (wave_um * rng.uniform(0.7, 2.0))
        total += np.cos(size * (x * np.cos(turn) + y * np.sin(turn)) + rng.uniform(0, 2 * np.pi))
    return total / np.sqrt(12.0)


def prepare(raw: dict[str, Any]) -> dict[str, Any]:
    """Return what the model sees of one slide, and its truth, as arrays."""
    r = unpack("line_r", raw["line_r"])
    links = np.full(r.shape, -1, np.int32), np.zeros(r.shape), np.zeros(r.shape)
    at = raw["x_fx"].astype(np.int64), raw["y_fx"].astype(np.int64)
    um = float(raw["mpp_a"]) / 16
    _joint.link_rays(*at, um, r, attribution.LINK_UM, links)
    m, ray, cell = attribution.describe(raw, links)
    length = _joint.ring_lengths(r)
    noise = np.asarray(raw["line_noise"], np.float64)
    floats = {
        "m": np.maximum(m, 0),
        "ray": ray,
        "cell": cell,
        "overlap": np.where(links[0] >= 0, links[2], 0),
        "length": length / length.sum(1, keepdims=True),
        "sd": np.sqrt(noise**2 + _inputs.FLOOR**2),
        "crest": np.maximum(unpack("line_crest", raw["line_crest"]), 0),
        "width": unpack("line_width", raw["line_width"]),
        "use": raw["use"],
        "weight": np.where(raw["use"], 1.0, STROMA_WEIGHT * raw.get("stroma", 0.0)),
        **{name: raw[name] for name in TRUTH.values()},
    }
    out = {k: np.asarray(v, np.float32) for k, v in floats.items()}
    return {**out, "partner": links[0].astype(np.int64)}


def squash(x: torch.Tensor) -> torch.Tensor:
    """See `_network.squash`."""
    return x * torch.rsqrt(1 + x * x)


class Model(nn.Module):
    """The rounds and the verdict of `her2path.membrane._network`."""

    def __init__(self) -> None:
        super().__init__()
        scale = {"ray": 0.16, "cell": 0.08, "moving": 0.3, "talk": 0.2, "last": 0.11}
        scale |= {"verdict": 0.12, "says": 0.12}
        for name, shape in _network.SHAPES.items():
            self.register_parameter(name, nn.Parameter(torch.randn(shape) * scale.get(name, 0.0)))

    def forward(self, d: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Return completeness, probability of any stain, mass, OD, doubt and ray states."""
        m, link = d["m"], d["partner"].clamp(min=0)
        j, has, tiny = link // 48, (d["partner"] >= 0).float(), _network.TRACE
        sd, length = d["sd"][:, None].expand_as(m), d["length"]
        fixed = d["ray"] @ self.ray + (d["cell"] @ self.cell)[:, None]
        h = torch.zeros(*m.shape, _network.STATES)
        a = m.mean(1) + 0.01
        for number in range(_network.ROUNDS):
            p = 0.5 + 0.5 * h[..., 0]
            own, other = a[:, None].expand_as(m), a[j] * has
            part = d["overlap"] * p.reshape(-1)[link] * other
            rest = m - part
            x = [(m + tiny) / (m + own + 2 * tiny), (m + tiny) / (m + part + 2 * tiny)]
            x += [(own + tiny) / (own + other + 2 * tiny)]
            x += [(m + tiny) / (m + own + part + 2 * tiny), own / (own + 3 * sd)]
            x += [rest / (rest.abs() + own + sd)]
            z = fixed + self.bias[number] + torch.stack(x, -1) @ self.moving
            mean = h.mean(1)
            if number > 0:
                z = z + self._talk(h, mean, j, link, has)
            old_p, old_mean, alike = p, 0.5 + 0.5 * mean[:, 0], x[2]
            h = squash(torch.relu(z) @ self.last + self.last_bias)
            p = 0.5 + 0.5 * h[..., 0]
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
        od = mass * shape * torch.exp(0.7 * squash(o[:, 2]))
        gate = 0.5 + 0.5 * squash(o[:, 0])
        return {
            "p": p,
            "c": (length * p).sum(1),
            "gate": gate,
            "mass": mass,
            "od": od,
            "bad": o[:, 3],
        }

    def _talk(self, h: Any, mean: Any, j: Any, link: Any, has: Any) -> torch.Tensor:
        near = (torch.roll(h, 1, 1) + torch.roll(h, -1, 1)) / 2
        far = sum(torch.roll(h, s, 1) + torch.roll(h, -s, 1) for s in (2, 3, 4)) / 6
        partner = h.reshape(-1, h.shape[-1])[link] * has[..., None]
        ring = mean[j] * has[..., None]
        heard = torch.cat([h, near, far, partner, ring], -1)
        w = torch.cat([self.talk[s] for s in (0, 1, 2, 3, 5)])
        return heard @ w + (mean @ self.talk[4])[:, None]

    @staticmethod
    def _shape(d: dict[str, torch.Tensor], v: torch.Tensor) -> torch.Tensor:
        total = v.sum(1)
        crest, m, wide = ((v * d[n]).sum(1) / total for n in ("crest", "m", "width"))
        blur = attribution.BLUR_UM**2
        sharp = torch.sqrt(torch.maximum(wide * wide - blur, 0.16 * wide * wide) + 1e-6)
        shape = (crest / (m + _network.TRACE) * wide).clamp(0.4, 1.2 / attribution.GAUSS)
        return shape / sharp.clamp(min=0.2)


def loss_of(d: dict[str, torch.Tensor], r: dict[str, torch.Tensor]) -> torch.Tensor:
    """Return the loss: completeness, stained or not, complete or not, strength, doubt."""
    w, c = d["weight"], d["t_completeness"]
    stained = (d["t_intensity"] > 0).float()
    ws = w * stained
    quiet = QUIET_WEIGHT if ws.sum() < QUIET * w.sum() else 1.0
    every, some = w.sum() + 1, ws.sum() + 1
    logit = nn.functional.binary_cross_entropy_with_logits
    gate = r["gate"].clamp(1e-4, 1 - 1e-4)
    surprise = -(stained * gate.log() + (1 - stained) * (1 - gate).log())
    total = (w * (r["gate"] * r["c"] - c).abs()).sum() / every
    total = total + 0.6 * (ws * (r["c"] - c).abs()).sum() / some
    heavy = stained + 2.6 * quiet * (1 - stained)
    total = total + 0.35 * (w * heavy * surprise).sum() / every
    complete = logit((r["c"] - 0.79) / 0.06, (c >= 0.8).float(), reduction="none")
    total = total + 0.12 * (ws * complete).sum() / some
    true_mass = d["t_od_crest"] * d["t_width_um"] * attribution.GAUSS
    for name, truth, weight in (("od", d["t_od_crest"], 0.3), ("mass", true_mass, 0.2)):
        off = torch.log(r[name] + 0.01) - torch.log(truth + 0.01)
        total = total + weight * (ws * torch.sqrt(off * off + 0.01)).sum() / some
    bad = ((r["c"] * (r["gate"] > 0.5) - c).abs() > 0.25).float().detach()
    total = total + 0.05 * (w * logit(r["bad"], bad, reduction="none")).sum() / every
    rough = (r["p"] - torch.roll(r["p"], 1, 1)).abs().mean(1)
    return total + 0.03 * (rough * w).sum() / every


def score(model: Model, slides: list[dict[str, torch.Tensor]]) -> tuple[float, float, float]:
    """Return mean error of completeness and false stain: of unstained slides, and of others."""
    errors, false_quiet, false_mixed = [], [], []
    with torch.no_grad():
        for d in slides:
            r, use = model(d), d["use"] > 0
            sure = (r["gate"] >= _network.SURE) & (d["cell"][:, _network.DOUBTS] <= _network.BLIND)
            found, none = r["c"] * sure, use & (d["t_intensity"] == 0)
            errors.append((found - d["t_completeness"]).abs()[use].mean().item())
            false = (found >= 0.1)[none].float()
            (false_mixed if (use & ~none).any() else false_quiet).append(false)
    rates = [torch.cat(f).mean().item() if f else 0.0 for f in (false_quiet, false_mixed)]
    return float(np.mean(errors)), rates[0], rates[1]


def fit(
    families: list[list[dict[str, Any]]],
    left_out: list[dict[str, Any]],
    minutes: float,
    start: Path | None = None,
    rate: float = 6e-3,
    threads: int = 1,
) -> Model:
    """Return the model fitted for so many minutes, one slide a step.

    ``families`` holds, slide by slide, the tables that show the same cells; one of them is drawn
    in each pass. The mean of the weights over the last steps is what is tried on ``left_out``.
    """
    torch.manual_seed(0)
    torch.set_num_threads(threads)
    model, mean, rng, begin = Model(), Model(), np.random.default_rng(0), time.monotonic()
    if start:
        saved = np.load(start)
        model.load_state_dict({n: torch.from_numpy(saved[n]) for n in NAMES + ENDS})
    mean.load_state_dict(model.state_dict())
    ready = [[{k: torch.from_numpy(v) for k, v in s.items()} for s in f] for f in families]
    aside = [{k: torch.from_numpy(v) for k, v in s.items()} for s in left_out]
    optimiser = torch.optim.Adam(model.parameters(), lr=rate)
    done, step, best, kept = 0.0, 0, np.inf, mean.state_dict()
    while done < 1:
        total = 0.0
        for number in rng.permutation(len(ready)):
            done = min((time.monotonic() - begin) / (60 * minutes), 1.0)
            warm = min(1.0, (step + 1) / 30)
            optimiser.param_groups[0]["lr"] = (
                rate * warm * max(0.02, 0.5 + 0.5 * np.cos(np.pi * done))
            )
            d = ready[number][int(rng.integers(len(ready[number])))]
            loss = loss_of(d, model(d))
            optimiser.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimiser.step()
            total, step = total + loss.item(), step + 1
            with torch.no_grad():
                for a, b in zip(mean.parameters(), model.parameters(), strict=True):
                    a.lerp_(b, max(0.01, 1 / (step + 1)))
            if done >= 1:
                break
        error, quiet, mixed = score(mean, aside) if aside else (0.0, 0.0, 0.0)
        goal = error + 2 * quiet + 0.1 * mixed
        if goal <= best or not aside:
            best, kept = goal, {k: v.clone() for k, v in mean.state_dict().items()}
        print(
            f"{done:5.0%}  loss {total / len(ready):.4f}  left out: completeness {error:.4f}, "
            f"false {quiet:.4f} unstained {mixed:.4f} other",
            flush=True,
        )
    mean.load_state_dict(kept)
    return mean


def write(model: Model, path: Path) -> None:
    """Write the weights as the package reads them."""
    arrays = {n: getattr(model, n).detach().numpy() for n in NAMES + ENDS}
    np.savez_compressed(path, **arrays)


def main() -> None:
    """Paint, measure, fit, write."""
    ask = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    ask.add_argument("--slides", type=int, default=200)
    ask.add_argument("--minutes", type=float, default=20.0)
    ask.add_argument("--tables", type=Path, help="folder of npz tables of other generators")
    ask.add_argument("--start", type=Path, help="weights to go on from")
    ask.add_argument("--rate", type=float, default=6e-3, help="3e-3 is right with --start")
    ask.add_argument("--threads", type=int, default=1)
    ask.add_argument("-o", "--out", type=Path, required=True)
    args = ask.parse_args()
    slides = [measure(draw_spec(number)) for number in range(args.slides)]
    if args.tables:
        slides += [[dict(np.load(f))] for f in sorted(args.tables.glob("*.npz"))]
    rng = np.random.default_rng(1)
    aside = [prepare(s[0]) for s in slides[LEFT_OUT - 1 :: LEFT_OUT]]
    kept = [s for n, s in enumerate(slides) if n % LEFT_OUT != LEFT_OUT - 1]
    families = [[*map(prepare, s), prepare(roughen(s[0], rng))] for s in kept]
    write(fit(families, aside, args.minutes, args.start, args.rate, args.threads), args.out)


if __name__ == "__main__":
    main()

// Areas that a reader draws, accepts, changes and takes back; every step can be undone.
import { ask, byId, say } from "/files/talk.js";

const COLOURS = { tumour: "#0a7d3c", "in situ": "#c026d3", control: "#0b5cad", other: "#7a4b00" };
const colourOf = (name) => {
  const plain = name.toLowerCase();
  if (/^(tumou?r|invasive|carcinoma)/.test(plain)) return COLOURS.tumour;
  if (/in situ|dcis|lcis/.test(plain)) return COLOURS["in situ"];
  if (plain.startsWith("control")) return COLOURS.control;
  return plain === "other" ? COLOURS.other : "#39414d";
};
const className = (f) => (f.properties.classification || {}).name || "";
const NEAR = 8;

export class Shapes {
  constructor(view, changed) {
    this.view = view;
    this.changed = changed;
    this.features = [];
    this.corners = null;
    this.chosen = null;
    this.rings = null;
    this.proposals = [];
    this.past = [];
    this.future = [];
    this.drag = null;
    view.painters.push((pen) => this.paint(pen));
    view.tool = this;
  }
  get regions() { return this.features.filter((f) => f.properties.correction === "region"); }

  // -- reading and saving ---------------------------------------------------------------------
  async load() {
    this.features = await ask("/corrections");
    if (this.chosen && !this.features.some((f) => f.id === this.chosen)) this.choose(null);
    if (this.chosen && !this.drag) this.rings = this.copyOf(this.chosen);
    this.view.later();
    this.changed();
  }
  copyOf(id) { return this.features.find((f) => f.id === id).rings.map((r) => r.map((p) => [...p])); }
  /** Do something that can be undone: `undo` and `redo` are calls to the server. */
  async step(redo, words) {
    try {
      const undo = await redo();
      this.past.push({ undo, redo });
      this.future = [];
      say(words);
      await this.load();
      return true;
    } catch (error) {
      say(error.message);
      return false;
    }
  }
  async travel(from, to, way, words) {
    const last = from.pop();
    if (!last) return;
    try {
      const again = await last[way]();
      to.push(way === "redo" ? { undo: again, redo: last.redo } : last);
      say(words);
    } catch (error) { say(error.message); }
    await this.load();
  }
  undo() {
    if (this.corners) { this.corners.pop(); this.view.later(); return Promise.resolve(); }
    return this.travel(this.past, this.future, "undo", "Undone.");
  }
  redo() { return this.travel(this.future, this.past, "redo", "Done again."); }
  reader() { return byId("reader").value; }
  add(ring, kind, words) {
    let made = null;
    return this.step(async () => {
      if (made === null) made = await ask("/corrections", { action: "region", ring, class: kind, name: kind, reader: this.reader() });
      else await ask("/corrections", { action: "restore", feature: bare(made) });
      return () => ask("/corrections", { action: "remove", id: made.id });
    }, words);
  }
  change(id, what, words) {
    return this.step(async () => {
      const before = await ask("/corrections", { action: "change", id, reader: this.reader(), ...what });
      return () => ask("/corrections", { action: "restore", feature: before });
    }, words);
  }
  remove(id) {
    return this.step(async () => {
      const gone = await ask("/corrections", { action: "remove", id });
      return () => ask("/corrections", { action: "restore", feature: gone.feature });
    }, "Taken back.");
  }
  async correct(body) {
    let made = null;
    return this.step(async () => {
      if (made === null) made = await ask("/corrections", { action: "cell", reader: this.reader(), ...body });
      else await ask("/corrections", { action: "restore", feature: bare(made) });
      return () => ask("/corrections", { action: "remove", id: made.id });
    }, "Saved.");
  }

  // -- drawing --------------------------------------------------------------------------------
  mark(on) {
    this.corners = on ? [] : null;
    if (on) this.choose(null);
    say(on ? "Click the corners of the area, or drag around it; Enter saves, Esc lets go." : "");
    this.view.later();
    this.changed();
  }
  async save(kind) {
    if (!this.corners || this.corners.length < 3) return;
    if (await this.add(this.corners, kind, "Region saved.")) { this.corners = null; this.view.later(); this.changed(); }
  }
  choose(id) {
    this.chosen = id;
    this.rings = id === null ? null : this.copyOf(id);
    if (id !== null) say("Drag a corner, or the middle of a side; Alt and click takes a corner out.");
    this.view.later();
    this.changed();
  }
  async propose(on) {
    this.proposals = on ? await ask("/proposals") : [];
    if (on) say(this.proposals.length ? "Click a dashed area to accept it as tumour." : "The program sees no tumour area.");
    this.view.later();
    this.changed();
  }
  async accept(proposal) {
    if (await this.add(proposal.ring, "tumour", "Accepted as tumour.")) {
      this.proposals = this.proposals.filter((p) => p !== proposal);
      this.view.later();
      this.changed();
    }
  }
  async acceptAll() { for (const p of [...this.proposals]) { await this.accept(p); if (this.proposals.includes(p)) break; } }

  // -- pointer: told by the view, before it moves the slide -----------------------------------
  down(at, event) {
    if (this.corners) { this.drag = { free: true, last: at, event }; return true; }
    const handle = this.handleAt(at);
    if (!handle) return false;
    const ring = this.rings[handle.ring];
    if (event.altKey && !handle.between) {
      if (ring.length > 3) { ring.splice(handle.corner, 1); this.saveRings("Corner taken out."); }
      return true;
    }
    if (handle.between) ring.splice(++handle.corner, 0, at);
    this.drag = handle;
    return true;
  }
  move(at, moved) {
    if (!this.drag) return;
    if (this.drag.free) {
      const far = Math.hypot(at[0] - this.drag.last[0], at[1] - this.drag.last[1]) / this.view.step;
      if (moved > 6 && far > 6) {
        if (!this.drag.begun) { this.drag.begun = true; this.corners.push(this.drag.last); }
        this.corners.push(at);
        this.drag.last = at;
      }
    } else this.rings[this.drag.ring][this.drag.corner] = at;
    this.view.later();
  }
  up(at, moved) {
    const drag = this.drag;
    this.drag = null;
    if (!drag) return;
    if (drag.free) {
      if (!drag.begun) this.corners.push(at);
      this.view.later();
      this.changed();
    } else if (moved > 0 || drag.between) this.saveRings("Area changed.");
  }
  saveRings(words) { return this.change(this.chosen, { rings: this.rings }, words); }
  /** Handle what is an area's business; true where it was. */
  tap(at) {
    const proposal = this.proposals.find((p) => inside(p.ring, at));
    if (proposal) { this.accept(proposal); return true; }
    const hit = this.regions.find((f) => f.rings.some((r) => nearLine(r, at) < NEAR * this.view.step));
    if (hit) { this.choose(hit.id); return true; }
    return false;
  }
  handleAt(at) {
    if (!this.rings) return null;
    const reach = NEAR * this.view.step;
    for (const between of [false, true])
      for (let ring = 0; ring < this.rings.length; ring++)
        for (let corner = 0; corner < this.rings[ring].length; corner++) {
          const a = this.rings[ring][corner], b = this.rings[ring][(corner + 1) % this.rings[ring].length];
          const p = between ? [(a[0] + b[0]) / 2, (a[1] + b[1]) / 2] : a;
          if (Math.hypot(p[0] - at[0], p[1] - at[1]) < reach) return { ring, corner, between };
        }
    return null;
  }

  // -- painting -------------------------------------------------------------------------------
  line(pen, ring, colour, width, dash = [], close = true) {
    if (!ring.length) return;
    pen.beginPath();
    ring.forEach((p, i) => { const c = this.view.toCanvas(...p); if (i) pen.lineTo(...c); else pen.moveTo(...c); });
    if (close) pen.closePath();
    pen.setLineDash(dash);
    pen.strokeStyle = "#ffffffc0"; pen.lineWidth = width + 2.5; pen.stroke();
    pen.strokeStyle = colour; pen.lineWidth = width; pen.stroke();
    pen.setLineDash([]);
  }
  dots(pen, ring, colour, radius) {
    for (const p of ring) {
      const c = this.view.toCanvas(...p);
      pen.beginPath(); pen.arc(...c, radius, 0, 2 * Math.PI);
      pen.fillStyle = colour; pen.fill();
      pen.strokeStyle = "#fff"; pen.lineWidth = 1.5; pen.stroke();
    }
  }
  paint(pen) {
    for (const f of this.regions) {
      const colour = colourOf(className(f)), rings = f.id === this.chosen ? this.rings : f.rings;
      for (const ring of rings) this.line(pen, ring, colour, f.id === this.chosen ? 3.5 : 2.5);
      const c = this.view.toCanvas(...top(rings[0] || [[0, 0]]));
      pen.font = "600 12px system-ui, sans-serif";
      pen.lineWidth = 3; pen.strokeStyle = "#fff"; pen.strokeText(f.properties.name || className(f), c[0] + 4, c[1] - 6);
      pen.fillStyle = colour; pen.fillText(f.properties.name || className(f), c[0] + 4, c[1] - 6);
    }
    for (const p of this.proposals) this.line(pen, p.ring, COLOURS.tumour, 2, [7, 5]);
    if (this.rings)
      for (const ring of this.rings) {
        this.dots(pen, ring.map((a, i) => { const b = ring[(i + 1) % ring.length]; return [(a[0] + b[0]) / 2, (a[1] + b[1]) / 2]; }), "#b79bff", 3);
        this.dots(pen, ring, "#7a1fff", 5);
      }
    if (this.corners) { this.line(pen, this.corners, "#7a1fff", 2.5, [], this.corners.length > 2); this.dots(pen, this.corners, "#7a1fff", 3.5); }
  }
}

const bare = ({ rings, version, ...feature }) => feature;
const top = (ring) => ring.reduce((a, b) => (b[1] < a[1] ? b : a));
function inside(ring, [x, y]) {
  let odd = false;
  for (let i = 0, j = ring.length - 1; i < ring.length; j = i++) {
    const [a, b] = [ring[i], ring[j]];
    if ((a[1] > y) !== (b[1] > y) && x < ((b[0] - a[0]) * (y - a[1])) / (b[1] - a[1]) + a[0]) odd = !odd;
  }
  return odd;
}
function nearLine(ring, [x, y]) {
  let best = Infinity;
  ring.forEach((a, i) => {
    const b = ring[(i + 1) % ring.length], d = [b[0] - a[0], b[1] - a[1]];
    const t = Math.max(0, Math.min(1, ((x - a[0]) * d[0] + (y - a[1]) * d[1]) / (d[0] ** 2 + d[1] ** 2 || 1)));
    best = Math.min(best, Math.hypot(a[0] + t * d[0] - x, a[1] + t * d[1] - y));
  });
  return best;
}

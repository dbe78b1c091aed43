// The slide: tiles on a canvas, moved with pointer and keys. A tile that is no longer wanted is
// let go of, on this side and on the server's.
const AT_ONCE = 6, KEPT = 160, TILE = 256;

export class TileView {
  constructor(plot, facts) {
    this.plot = plot;
    this.facts = facts;
    this.canvas = plot.querySelector("#tiles");
    this.marks = plot.querySelector("#marks");
    this.layers = [];
    this.cache = new Map();
    this.jobs = new Map();
    this.painters = [];
    this.listeners = [];
    this.tool = null;
    this.onTap = null;
    this.onHover = null;
    this.x = facts.width / 2; this.y = facts.height / 2; this.step = 1;
    this.dirty = false;
    this.listen();
    new ResizeObserver(() => this.resize()).observe(plot);
    this.resize();
  }

  // -- where ----------------------------------------------------------------------------------
  box() { return this.plot.getBoundingClientRect(); }
  view() { return { x: this.x, y: this.y, step: this.step }; }
  setView({ x, y, step }) {
    const box = this.box();
    const whole = Math.max(this.facts.width / box.width, this.facts.height / box.height);
    this.step = Math.min(Math.max(step, 1 / 16), whole * 1.5);
    this.x = Math.min(Math.max(x, 0), this.facts.width);
    this.y = Math.min(Math.max(y, 0), this.facts.height);
    this.changed();
  }
  whole() {
    const box = this.box();
    this.setView({ x: this.facts.width / 2, y: this.facts.height / 2,
      step: 1.04 * Math.max(this.facts.width / box.width, this.facts.height / box.height) });
  }
  zoom(factor, px, py) {
    const box = this.box();
    const dx = px === undefined ? 0 : px - box.width / 2, dy = py === undefined ? 0 : py - box.height / 2;
    const step = Math.max(this.step * factor, 1 / 16);
    this.setView({ x: this.x + dx * (this.step - step), y: this.y + dy * (this.step - step), step });
  }
  toPage(x, y) {
    const box = this.box();
    return [box.left + box.width / 2 + (x - this.x) / this.step, box.top + box.height / 2 + (y - this.y) / this.step];
  }
  toCanvas(x, y) {
    return [this.wide / 2 + (x - this.x) / this.step, this.high / 2 + (y - this.y) / this.step];
  }
  toSlide(event) {
    const box = this.box();
    return [this.x + (event.clientX - box.left - box.width / 2) * this.step,
            this.y + (event.clientY - box.top - box.height / 2) * this.step];
  }

  // -- tiles ----------------------------------------------------------------------------------
  /** Show a layer from addresses: `address(z, x, y)`, or null for nothing. */
  setLayer(name, key, address) {
    const known = this.layers.find((l) => l.name === name);
    if (known && known.key === key) return;
    if (known) Object.assign(known, { key, address });
    else this.layers.push({ name, key, address, opacity: 1 });
    this.changed();
  }
  setOpacity(name, opacity) {
    const layer = this.layers.find((l) => l.name === name);
    if (layer) { layer.opacity = opacity; this.later(); }
  }
  level() {
    const wanted = this.step / (window.devicePixelRatio || 1);
    const z = Math.ceil(this.facts.zMax - Math.log2(wanted * 2.5));
    return Math.min(Math.max(z, 0), this.facts.zMax);
  }
  /** The tiles in view, the nearest to its centre first. */
  inView() {
    const z = this.level(), span = TILE * 2 ** (this.facts.zMax - z);
    const half = [this.wide * this.step / 2, this.high * this.step / 2];
    const from = [(this.x - half[0]) / span, (this.y - half[1]) / span].map((v) => Math.max(0, Math.floor(v)));
    const to = [Math.min(this.x + half[0], this.facts.width - 0.5) / span,
                Math.min(this.y + half[1], this.facts.height - 0.5) / span].map(Math.floor);
    const found = [];
    for (let y = from[1]; y <= to[1]; y++)
      for (let x = from[0]; x <= to[0]; x++)
        found.push({ z, x, y, far: Math.hypot((x + 0.5) * span - this.x, (y + 0.5) * span - this.y) });
    return found.sort((a, b) => a.far - b.far);
  }
  fetchTiles() {
    const tiles = this.inView(), wanted = new Map();
    for (const layer of this.layers)
      if (layer.address)
        for (const t of tiles) wanted.set(layer.address(t.z, t.x, t.y), t);
    for (const [url, job] of this.jobs)
      if (!wanted.has(url)) { job.abort(); this.jobs.delete(url); }
    for (const url of wanted.keys()) {
      if (this.jobs.size >= AT_ONCE) break;
      if (!this.cache.has(url) && !this.jobs.has(url)) this.fetchTile(url);
    }
    this.waiting = [...wanted.keys()].some((url) => !this.cache.has(url));
    this.plot.dataset.complete = this.waiting ? "no" : "yes";
  }
  async fetchTile(url) {
    const job = new AbortController();
    this.jobs.set(url, job);
    let picture = null;
    try {
      const reply = await fetch(url, { signal: job.signal });
      if (reply.ok) picture = await createImageBitmap(await reply.blob());
    } catch (error) {
      if (job.signal.aborted) return;
    }
    if (job.signal.aborted) return;
    this.jobs.delete(url);
    this.cache.set(url, picture);
    for (const old of this.cache.keys()) {
      if (this.cache.size <= KEPT) break;
      this.cache.delete(old);
    }
    this.later();
  }
  /** Draw a tile, or the part of a coarser one that lies here. */
  drawTile(pen, layer, z, x, y) {
    const span = TILE * 2 ** (this.facts.zMax - z);
    // edges on whole pixels of the screen: tiles meet without a seam and without an overlap
    const scale = window.devicePixelRatio || 1, snap = (v) => Math.round(v * scale) / scale;
    const [left, top] = this.toCanvas(x * span, y * span).map(snap);
    const [right, bottom] = this.toCanvas((x + 1) * span, (y + 1) * span).map(snap);
    for (let up = 0; up <= z; up++) {
      const url = layer.address(z - up, x >> up, y >> up);
      const picture = this.cache.get(url);
      if (!picture) continue;
      this.cache.delete(url);
      this.cache.set(url, picture);
      const part = picture.width / 2 ** up;
      const sx = (x - ((x >> up) << up)) * part, sy = (y - ((y >> up) << up)) * part;
      pen.drawImage(picture, sx, sy, part, part, left, top, right - left, bottom - top);
      return;
    }
  }
  draw() {
    const scale = window.devicePixelRatio || 1;
    const pen = this.canvas.getContext("2d");
    pen.setTransform(1, 0, 0, 1, 0, 0);
    pen.clearRect(0, 0, this.canvas.width, this.canvas.height);
    pen.setTransform(scale, 0, 0, scale, 0, 0);
    pen.imageSmoothingEnabled = this.step > 0.3;
    const tiles = this.inView();
    for (const layer of this.layers) {
      if (!layer.address || layer.opacity === 0) continue;
      pen.globalAlpha = layer.opacity;
      for (const t of tiles) this.drawTile(pen, layer, t.z, t.x, t.y);
    }
    pen.globalAlpha = 1;
    const ink = this.marks.getContext("2d");
    ink.setTransform(1, 0, 0, 1, 0, 0);
    ink.clearRect(0, 0, this.marks.width, this.marks.height);
    ink.setTransform(scale, 0, 0, scale, 0, 0);
    for (const paint of this.painters) paint(ink);
  }
  later() {
    if (this.dirty) return;
    this.dirty = true;
    requestAnimationFrame(() => { this.dirty = false; this.fetchTiles(); this.draw(); });
  }
  changed() {
    this.plot.dataset.complete = "no";
    this.later();
    for (const tell of this.listeners) tell();
  }
  resize() {
    const box = this.box(), scale = window.devicePixelRatio || 1;
    this.wide = box.width; this.high = box.height;
    for (const c of [this.canvas, this.marks]) {
      c.width = Math.round(box.width * scale); c.height = Math.round(box.height * scale);
    }
    this.changed();
  }

  // -- pointer --------------------------------------------------------------------------------
  listen() {
    const held = new Map();
    let start = null, moved = 0, tool = false;
    this.plot.addEventListener("pointerdown", (e) => {
      if (e.button !== 0) return;
      this.plot.setPointerCapture(e.pointerId);
      held.set(e.pointerId, e);
      moved = 0;
      start = { x: e.clientX, y: e.clientY, view: this.view() };
      tool = held.size === 1 && this.tool !== null && this.tool.down(this.toSlide(e), e);
    });
    this.plot.addEventListener("pointermove", (e) => {
      if (this.onHover) this.onHover(...this.toSlide(e));
      const before = held.get(e.pointerId);
      if (!before) return;
      held.set(e.pointerId, e);
      moved = Math.max(moved, Math.hypot(e.clientX - start.x, e.clientY - start.y));
      if (held.size === 2) { this.pinch([...held.values()], before, e); return; }
      if (tool) { this.tool.move(this.toSlide(e), moved, e); return; }
      if (moved > 3) {
        const v = start.view;
        this.setView({ ...v, x: v.x - (e.clientX - start.x) * v.step, y: v.y - (e.clientY - start.y) * v.step });
      }
    });
    const up = (e) => {
      if (!held.delete(e.pointerId)) return;
      if (tool) this.tool.up(this.toSlide(e), moved, e);
      else if (moved <= 3 && e.type === "pointerup" && this.onTap) this.onTap(...this.toSlide(e), e);
      tool = false;
      const rest = [...held.values()][0];
      if (rest) start = { x: rest.clientX, y: rest.clientY, view: this.view() };
    };
    this.plot.addEventListener("pointerup", up);
    this.plot.addEventListener("pointercancel", up);
    this.plot.addEventListener("wheel", (e) => {
      e.preventDefault();
      const box = this.box();
      const notch = Math.max(-3, Math.min(3, e.deltaY / (e.deltaMode === 0 ? 100 : 3)));
      this.zoom(1.35 ** notch, e.clientX - box.left, e.clientY - box.top);
    }, { passive: false });
  }
  pinch(both, before, now) {
    const other = both.find((e) => e.pointerId !== now.pointerId), box = this.box();
    const far = (e) => Math.max(1, Math.hypot(e.clientX - other.clientX, e.clientY - other.clientY));
    this.zoom(far(before) / far(now), (now.clientX + other.clientX) / 2 - box.left,
              (now.clientY + other.clientY) / 2 - box.top);
  }
}

/** The whole slide, small, with a frame around what is seen; press or drag to go there. */
export class Minimap {
  constructor(canvas, view, address) {
    this.canvas = canvas; this.view = view;
    this.picture = new Image();
    this.picture.addEventListener("load", () => this.draw());
    this.picture.src = address;
    view.listeners.push(() => this.draw());
    const go = (e) => {
      if (e.type === "pointermove" && !e.buttons) return;
      const box = canvas.getBoundingClientRect(), s = this.scale();
      view.setView({ ...view.view(), x: (e.clientX - box.left) / s, y: (e.clientY - box.top) / s });
    };
    for (const kind of ["pointerdown", "pointermove"]) canvas.addEventListener(kind, go);
  }
  scale() {
    const f = this.view.facts;
    return Math.min(150 / f.width, 150 / f.height);
  }
  draw() {
    const f = this.view.facts, s = this.scale(), pen = this.canvas.getContext("2d");
    const size = [Math.max(8, Math.round(f.width * s)), Math.max(8, Math.round(f.height * s))];
    if (this.canvas.width !== size[0] || this.canvas.height !== size[1]) [this.canvas.width, this.canvas.height] = size;
    pen.fillStyle = "#f3f3f2";
    pen.fillRect(0, 0, ...size);
    if (this.picture.complete && this.picture.naturalWidth) pen.drawImage(this.picture, 0, 0, ...size);
    const v = this.view.view(), box = [this.view.wide * v.step * s, this.view.high * v.step * s];
    pen.strokeStyle = "#7a1fff";
    pen.lineWidth = 2;
    pen.strokeRect(v.x * s - box[0] / 2, v.y * s - box[1] / 2, Math.max(box[0], 4), Math.max(box[1], 4));
  }
}

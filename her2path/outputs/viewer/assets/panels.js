// What stands beside the slide: overlays, numbers, borderline cells, corrections, rescoring.
import { ask, byId, facts, say } from "/files/talk.js";
import { Shapes } from "/files/shapes.js";

const NAMES = { pattern: "Pattern", score: "Score", intensity: "Intensity", cell_type: "Cell",
  tumour_probability: "Tumour-like", kind_certainty: "Certainty of kind", membrane_od: "Membrane OD",
  membrane_od_ring: "Membrane OD, whole ring", membrane_mass: "Membrane mass, OD·µm",
  completeness: "Completeness", membrane_width_um: "Membrane width, µm", cytoplasm_od: "Cytoplasm OD",
  receptors: "Receptors", nucleus_area_um2: "Nucleus, µm²", nucleus_hematoxylin_od: "Nucleus H OD",
  cell_area_um2: "Cell, µm²", uncertain: "Uncertain", reader: "Reader", machine_pattern: "Machine said",
  machine_cell_type: "Machine's type", cnn_p0: "Network 0", cnn_p1: "Network 1+", cnn_p2: "Network 2+",
  cnn_p3: "Network 3+", name: "Region", tumour_cells: "Tumour cells", tumour_area_mm2: "Tumour, mm²",
  category: "Category", h_score: "H-score", positive_fraction: "Positive", positive_low: "95 % from",
  positive_high: "95 % to", area_class: "Area class", area_class_certain: "Certain", gi_z: "Gi* z" };
const plain = (text) => String(text).replaceAll("_", " ");

export class Panels {
  constructor(view, remember) {
    this.view = view;
    this.remember = remember;
    this.version = facts.version;
    this.layerBoxes = [...document.querySelectorAll("#layers input[type=checkbox]")];
    this.patternBoxes = [...document.querySelectorAll("#filter input")];
    this.off = false;
    this.ring = null;
    this.cell = null;
    this.at = -1;
    view.painters.push((pen) => this.paintChosen(pen));
    for (const box of [...this.layerBoxes, ...this.patternBoxes]) box.addEventListener("change", () => this.paint());
    for (const button of document.querySelectorAll("#view input")) button.addEventListener("change", () => this.paint());
    byId("measure").addEventListener("change", () => { this.paint(); this.legend(); });
    byId("opacity").addEventListener("input", () => view.setOpacity("overlay", byId("opacity").value / 100));
    byId("next").addEventListener("click", () => this.jump(1));
    byId("last").addEventListener("click", () => this.jump(-1));
    if (facts.editable) this.editing();
  }
  static chosen(boxes) { return boxes.filter((b) => b.checked).map((b) => b.value); }

  // -- overlays -------------------------------------------------------------------------------
  paint() {
    const layers = this.off ? [] : Panels.chosen(this.layerBoxes);
    const patterns = Panels.chosen(this.patternBoxes);
    const filter = patterns.length === this.patternBoxes.length ? "" : patterns.join(",") || "nothing";
    const query = "?layers=" + layers.join(",") + "&patterns=" + filter + "&measure=" + byId("measure").value + "&v=" + this.version;
    const shown = document.querySelector("#view input:checked").value;
    this.view.setLayer("slide", shown, (z, x, y) => `${facts.base}/tile/${shown}/${z}/${x}/${y}`);
    this.view.setLayer("overlay", layers.length ? query : "", layers.length
      ? (z, x, y) => `${facts.base}/tile/overlay/${z}/${x}/${y}${query}` : null);
    this.view.setOpacity("overlay", byId("opacity").value / 100);
    this.remember();
  }
  toggle(name) {
    const box = this.layerBoxes.find((b) => b.value === name);
    box.checked = !box.checked;
    this.off = false;
    this.paint();
  }
  toggleAll() { this.off = !this.off; this.paint(); }
  async legend() {
    const name = byId("measure").value, score = name === "score";
    byId("score-keys").hidden = !score;
    byId("ramp").hidden = score;
    if (score) return;
    const m = await ask("/legend?measure=" + name);
    byId("ramp-bar").style.background = "linear-gradient(90deg, " + m.stops.join(", ") + ")";
    const number = (v) => (v >= 1000 ? Math.round(v).toLocaleString("en") : Number(v.toPrecision(2)).toString());
    byId("ramp-low").textContent = number(m.low);
    byId("ramp-high").textContent = number(m.high);
    byId("ramp-unit").textContent = m.unit + (m.log ? " (log)" : "");
  }
  state() {
    const state = { layers: (this.off ? [] : Panels.chosen(this.layerBoxes)).join(",") };
    const patterns = Panels.chosen(this.patternBoxes);
    if (patterns.length !== this.patternBoxes.length) state.patterns = patterns.join(",");
    if (byId("measure").value !== "score") state.measure = byId("measure").value;
    return state;
  }
  recall(state) {
    if (state.has("layers")) {
      const wanted = state.get("layers").split(",");
      for (const box of this.layerBoxes) box.checked = wanted.includes(box.value);
    }
    const patterns = state.has("patterns") ? state.get("patterns").split(",") : null;
    for (const box of this.patternBoxes) box.checked = patterns === null || patterns.includes(box.value);
    const measure = state.get("measure");
    if (measure && [...byId("measure").options].some((o) => o.value === measure)) byId("measure").value = measure;
    this.paint();
    this.legend().catch((error) => say(error.message));
  }

  // -- a cell ---------------------------------------------------------------------------------
  table(title, row) {
    const made = document.createElement("table");
    made.createCaption().textContent = title;
    const add = (words, text) => {
      const line = made.insertRow(), head = document.createElement("th");
      head.scope = "row";
      head.textContent = words;
      line.append(head);
      line.insertCell().textContent = text;
    };
    if (row.corrected) add("Corrected to", plain([row.corrected.pattern, row.corrected.cell_type].filter(Boolean).join(", ")) + " (" + row.corrected.reader + ")");
    for (const [key, words] of Object.entries(NAMES)) {
      if (!(key in row) || row[key] === null) continue;
      const value = row[key];
      add(words, typeof value === "number" && !Number.isInteger(value) ? value.toFixed(3) : plain(value));
    }
    return made;
  }
  paintChosen(pen) {
    if (!this.ring) return;
    for (const [colour, width] of [["#111", 5], ["#3dff8b", 2.5]]) {
      pen.beginPath();
      this.ring.forEach((p, i) => { const c = this.view.toCanvas(...p); if (i) pen.lineTo(...c); else pen.moveTo(...c); });
      pen.closePath();
      pen.strokeStyle = colour; pen.lineWidth = width; pen.stroke();
    }
  }
  async look(x, y) {
    const found = await ask("/at?x=" + x + "&y=" + y);
    this.cell = found.cell;
    this.ring = this.cell && this.cell.ring;
    this.view.later();
    const info = byId("info");
    info.replaceChildren();
    info.dataset.cell = this.cell ? this.cell.cell_id : "";
    if (found.cell) info.append(this.table("Cell " + found.cell.cell_id, found.cell));
    if (found.region) info.append(this.table("Region " + found.region.region_id, found.region));
    if (!found.cell && !found.region) info.textContent = "Nothing was found here.";
    if (facts.editable) {
      byId("cell-form").querySelector("button").disabled = !this.cell;
      byId("pattern").value = byId("cell-type").value = "";
    }
    return found;
  }
  letGo() { this.ring = null; this.view.later(); }

  // -- borderline cells -----------------------------------------------------------------------
  async count() {
    const found = await ask("/borderline");
    this.total = found.total;
    byId("borderline").textContent = found.total.toLocaleString("en") + " borderline cells";
    for (const id of ["last", "next"]) byId(id).disabled = !found.total;
  }
  async jump(by) {
    if (!this.total) return;
    this.at = this.at < 0 && by < 0 ? this.total - 1 : (this.at + by + this.total) % this.total;
    const { cell, total } = await ask("/borderline?at=" + this.at);
    this.view.setView({ x: cell.x_px, y: cell.y_px, step: 0.0625 / facts.mpp });
    byId("borderline").textContent = "Borderline " + (this.at + 1) + " of " + total.toLocaleString("en") + ": " + cell.why;
    await this.look(cell.x_px, cell.y_px);
  }

  // -- corrections ----------------------------------------------------------------------------
  editing() {
    const reader = byId("reader");
    reader.value = sessionStorage.getItem("reader") || "";
    reader.addEventListener("change", () => sessionStorage.setItem("reader", reader.value));
    this.shapes = new Shapes(this.view, () => this.list());
    byId("cell-form").addEventListener("submit", async (event) => {
      event.preventDefault();
      const done = await this.shapes.correct({ cell_id: this.cell.cell_id, pattern: byId("pattern").value || null,
        cell_type: byId("cell-type").value || null });
      if (done) await this.redrawn();
    });
    const kind = () => byId("region-class").value;
    byId("mark").addEventListener("click", () => this.shapes.mark(this.shapes.corners === null));
    byId("region-form").addEventListener("submit", (event) => { event.preventDefault(); this.shapes.save(kind()); });
    byId("reclass").addEventListener("click", () => this.shapes.change(this.shapes.chosen, { class: kind() }, "Class changed."));
    byId("done").addEventListener("click", () => this.shapes.choose(null));
    byId("propose").addEventListener("click", () => this.shapes.propose(!this.shapes.proposals.length).catch((e) => say(e.message)));
    byId("accept-all").addEventListener("click", () => this.shapes.acceptAll());
    byId("undo").addEventListener("click", () => this.back("undo"));
    byId("redo").addEventListener("click", () => this.back("redo"));
    byId("rescore").addEventListener("click", () => this.rescore());
    byId("export").href = facts.base + "/areas.geojson";
    byId("import").addEventListener("change", async () => {
      const file = byId("import").files[0];
      if (!file) return;
      try {
        const { taken } = await ask("/import", { text: await file.text(), reader: reader.value });
        say(taken + (taken === 1 ? " area" : " areas") + " taken in.");
        await this.shapes.load();
      } catch (error) { say(error.message); }
      byId("import").value = "";
    });
  }
  async back(way) {
    await this.shapes[way]();
    await this.redrawn();
  }
  /** Corrected cells show their new class: tiles are asked for anew. */
  async redrawn() {
    this.version = String(this.version) + "+";
    this.paint();
    if (this.cell) await this.look(this.cell.ring.reduce((s, p) => s + p[0], 0) / this.cell.ring.length,
                                   this.cell.ring.reduce((s, p) => s + p[1], 0) / this.cell.ring.length);
  }
  item(feature) {
    const p = feature.properties || {}, item = document.createElement("li");
    const button = (words, act) => {
      const made = document.createElement("button");
      made.type = "button";
      made.textContent = words;
      made.addEventListener("click", act);
      item.append(" ", made);
    };
    const cell = p.correction === "cell";
    const what = cell ? "cell: " + plain([p.reader_pattern, p.reader_cell_type].filter(Boolean).join(", "))
      : "region: " + [p.name, (p.classification || {}).name].filter((v, i, all) => v && all.indexOf(v) === i).join(", ");
    item.append(what + " (" + (p.reader || "?") + ", " + String(p.time || "").slice(0, 16).replace("T", " ") + ")");
    if (this.shapes.chosen === feature.id) item.className = "chosen";
    button("go", () => this.go(feature));
    if (!cell) button("change", () => { this.go(feature); this.shapes.choose(feature.id); });
    button("take back", async () => { await this.shapes.remove(feature.id); if (cell) await this.redrawn(); });
    return item;
  }
  go(feature) {
    const points = feature.rings.flat();
    if (!points.length) return;
    const [xs, ys] = [points.map((p) => p[0]), points.map((p) => p[1])];
    const [x, y] = [(Math.min(...xs) + Math.max(...xs)) / 2, (Math.min(...ys) + Math.max(...ys)) / 2];
    const size = Math.max((Math.max(...xs) - Math.min(...xs)) / this.view.wide, (Math.max(...ys) - Math.min(...ys)) / this.view.high);
    this.view.setView({ x, y, step: size > 0 ? size * 1.3 : 0.125 / facts.mpp });
    if (feature.properties.correction === "cell") this.look(x, y).catch((error) => say(error.message));
  }
  list() {
    const s = this.shapes;
    byId("count").textContent = s.features.length;
    byId("saved").replaceChildren(...s.features.map((f) => this.item(f)));
    byId("undo").disabled = !s.past.length && !(s.corners && s.corners.length);
    byId("redo").disabled = !s.future.length;
    byId("region-form").querySelector("[type=submit]").disabled = !s.corners || s.corners.length < 3;
    byId("mark").setAttribute("aria-pressed", String(s.corners !== null));
    byId("propose").setAttribute("aria-pressed", String(s.proposals.length > 0));
    byId("accept-all").hidden = !s.proposals.length;
    const chosen = s.features.find((f) => f.id === s.chosen);
    byId("editing").hidden = !chosen;
    if (chosen) byId("editing").querySelector("span").textContent = "Changing: " + (chosen.properties.name || "area");
  }
  async rescore() {
    const button = byId("rescore");
    button.disabled = true;
    say("Scoring again…");
    try {
      const { before, after } = await ask("/rescore", {});
      const words = (r) => (r.ihc === null ? "not evaluable" : r.ihc + (r.substate ? " (" + r.substate + ")" : "")
        + ", " + r.tumour_cells.toLocaleString("en") + " tumour cells");
      const c = after.corrections;
      sessionStorage.setItem("told:" + facts.slide, "Was " + words(before) + "; now " + words(after) + ". Applied: "
        + (c ? c.cells + " corrected cells, " + c.areas + " areas." : "no corrections."));
      location.reload();
    } catch (error) {
      say(error.message);
      button.disabled = false;
    }
  }
}

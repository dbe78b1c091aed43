"use strict";
(async function () {
  const facts = JSON.parse(document.body.dataset.facts);
  const token = document.body.dataset.token;
  const byId = (id) => document.getElementById(id);
  const say = (text) => { byId("said").textContent = text; };

  async function ask(path, body) {
    const options = body === undefined ? {} : {
      method: "POST",
      headers: { "Content-Type": "application/json", "X-Her2path-Token": token },
      body: JSON.stringify(body),
    };
    const reply = await fetch(path, options);
    const value = await reply.json();
    if (!reply.ok) throw new Error(value.error || "The server refused.");
    return value;
  }

  // -- the plot -------------------------------------------------------------------------------
  await Bokeh.embed.embed_item(await ask("/plot"), "plot");
  const doc = Bokeh.documents[0];
  const model = (name) => doc.get_model_by_name(name);
  const slide = model("slide"), xr = model("x"), yr = model("y");
  const overlay = model("overlay-tiles"), overlayLayer = model("overlay-layer");
  // Bokeh fetches the four tiles below every shown one in advance, beyond the finest zoom too: that
  // is five times the work, and the server draws what is needed in milliseconds
  for (const source of [model("slide-tiles"), overlay]) source.children_by_tile_xyz = () => [];
  const frame = () => byId("plot").getBoundingClientRect();

  /** The view: centre in level-0 px, and level-0 px per page pixel. */
  function view() {
    return { x: (xr.start + xr.end) / 2, y: -(yr.start + yr.end) / 2,
             step: (xr.end - xr.start) / frame().width };
  }
  function setView({ x, y, step }) {
    const box = frame();
    const whole = Math.max(facts.width / box.width, facts.height / box.height);
    step = Math.min(Math.max(step, 1 / 16), whole * 1.5);
    x = Math.min(Math.max(x, 0), facts.width);
    y = Math.min(Math.max(y, 0), facts.height);
    const w = step * box.width / 2, h = step * box.height / 2;
    xr.setv({ start: x - w, end: x + w });
    yr.setv({ start: -y - h, end: -y + h });
  }
  const zoom = (factor) => { const v = view(); setView({ ...v, step: v.step * factor }); };
  function whole() {
    const box = frame();
    setView({ x: facts.width / 2, y: facts.height / 2,
              step: 1.04 * Math.max(facts.width / box.width, facts.height / box.height) });
  }

  // -- overlays -------------------------------------------------------------------------------
  const layerBoxes = [...document.querySelectorAll("#layers input")];
  const patternBoxes = [...document.querySelectorAll("#filter input")];
  let off = false;
  const chosen = (boxes) => boxes.filter((b) => b.checked).map((b) => b.value);
  let shownUrl = overlay.url;
  function paint() {
    const layers = off ? [] : chosen(layerBoxes);
    const patterns = chosen(patternBoxes);
    const filter = patterns.length === patternBoxes.length ? "" : patterns.join(",") || "nothing";
    const url = "/tile/overlay/{Z}/{X}/{Y}?layers=" + layers.join(",") + "&patterns=" + filter;
    if (url !== shownUrl) { shownUrl = url; overlay.url = url; }
    overlayLayer.visible = layers.length > 0;
    remember();
  }
  for (const box of [...layerBoxes, ...patternBoxes]) box.addEventListener("change", paint);
  function toggle(name) {
    const box = layerBoxes.find((b) => b.value === name);
    box.checked = !box.checked;
    off = false;
    paint();
  }

  // -- a link that reopens the view -----------------------------------------------------------
  let timer = 0;
  function remember() {
    clearTimeout(timer);
    timer = setTimeout(() => {
      const v = view();
      const state = new URLSearchParams({ x: v.x.toFixed(1), y: v.y.toFixed(1),
        step: v.step.toPrecision(5), layers: (off ? [] : chosen(layerBoxes)).join(",") });
      const patterns = chosen(patternBoxes);
      if (patterns.length !== patternBoxes.length) state.set("patterns", patterns.join(","));
      history.replaceState(null, "", "#" + state);
    }, 150);
  }
  function recall() {
    const state = new URLSearchParams(location.hash.slice(1));
    if (state.has("layers")) {
      const wanted = state.get("layers").split(",");
      for (const box of layerBoxes) box.checked = wanted.includes(box.value);
    }
    const patterns = state.has("patterns") ? state.get("patterns").split(",") : null;
    for (const box of patternBoxes) box.checked = patterns === null || patterns.includes(box.value);
    const [x, y, step] = ["x", "y", "step"].map((k) => Number(state.get(k)));
    if (state.has("step") && [x, y, step].every(Number.isFinite) && step > 0) setView({ x, y, step });
    else whole();
    paint();
  }

  // -- scale bar ------------------------------------------------------------------------------
  function measure() {
    const v = view();
    const um = v.step * facts.mpp, room = um * 180;
    const power = 10 ** Math.floor(Math.log10(room));
    const length = [5, 2, 1].map((m) => m * power).find((l) => l <= room);
    byId("bar").style.width = (length / um).toFixed(1) + "px";
    byId("bar-text").textContent = length >= 1000 ? length / 1000 + " mm" : length + " µm";
    byId("where").textContent = (um < 10 ? um.toFixed(2) : um.toFixed(0)) + " µm/px · "
      + (v.x * facts.mpp / 1000).toFixed(2) + ", " + (v.y * facts.mpp / 1000).toFixed(2) + " mm";
  }
  for (const range of [xr, yr])
    for (const end of ["start", "end"])
      range.properties[end].change.connect(() => { measure(); remember(); });

  // -- click: numbers -------------------------------------------------------------------------
  const NAMES = { pattern: "Pattern", score: "Score", intensity: "Intensity", cell_type: "Cell",
    tumour_probability: "Tumour-like", membrane_od: "Membrane OD", membrane_od_ring: "Membrane OD, whole ring",
    membrane_mass: "Membrane mass, OD·µm", completeness: "Completeness", membrane_width_um: "Membrane width, µm",
    cytoplasm_od: "Cytoplasm OD", nucleus_area_um2: "Nucleus, µm²", nucleus_hematoxylin_od: "Nucleus H OD",
    cell_area_um2: "Cell, µm²", uncertain: "Uncertain", reader: "Reader", machine_pattern: "Machine said",
    cnn_p0: "Network 0", cnn_p1: "Network 1+", cnn_p2: "Network 2+", cnn_p3: "Network 3+",
    name: "Region", tumour_cells: "Tumour cells", tumour_area_mm2: "Tumour, mm²", category: "Category",
    h_score: "H-score", positive_fraction: "Positive", positive_low: "95 % from", positive_high: "95 % to",
    area_class: "Area class", area_class_certain: "Certain", gi_z: "Gi* z" };
  let cell = null;
  function table(title, row) {
    const made = document.createElement("table");
    made.createCaption().textContent = title;
    for (const [key, words] of Object.entries(NAMES)) {
      if (!(key in row) || row[key] === null) continue;
      const line = made.insertRow();
      const head = document.createElement("th");
      head.scope = "row";
      head.textContent = words;
      line.append(head);
      const value = row[key];
      line.insertCell().textContent = typeof value === "number" && !Number.isInteger(value)
        ? value.toFixed(3) : String(value).replace("_", " ");
    }
    return made;
  }
  function highlight(ring) {
    const closed = ring ? [...ring, ring[0]] : [];
    model("chosen").data = ring
      ? { xs: [closed.map((p) => p[0])], ys: [closed.map((p) => -p[1])] } : { xs: [], ys: [] };
  }
  async function look(x, y) {
    const found = await ask("/at?x=" + x + "&y=" + y);
    cell = found.cell;
    highlight(cell && cell.ring);
    const info = byId("info");
    info.replaceChildren();
    info.dataset.cell = cell ? cell.cell_id : "";
    if (found.cell) info.append(table("Cell " + cell.cell_id, found.cell));
    if (found.region) info.append(table("Region " + found.region.region_id, found.region));
    if (!found.cell && !found.region) info.textContent = "Nothing was found here.";
    byId("cell-form").querySelector("button").disabled = !cell;
    byId("pattern").value = byId("cell-type").value = "";
    return found;
  }
  slide.on_event("tap", (event) => {
    if (corners !== null) addCorner(event.x, -event.y);
    else look(event.x, -event.y).catch((error) => say(error.message));
  });

  // -- borderline cells -----------------------------------------------------------------------
  const borderline = await ask("/borderline");
  let at = -1;
  byId("borderline").textContent = borderline.length + " borderline cells";
  for (const id of ["last", "next"]) byId(id).disabled = borderline.length === 0;
  function jump(by) {
    if (!borderline.length) return;
    at = at < 0 && by < 0 ? borderline.length - 1 : (at + by + borderline.length) % borderline.length;
    const target = borderline[at];
    setView({ x: target.x_px, y: target.y_px, step: 0.0625 / facts.mpp });
    byId("borderline").textContent = "Borderline " + (at + 1) + " of " + borderline.length;
    look(target.x_px, target.y_px).catch((error) => say(error.message));
  }
  byId("next").addEventListener("click", () => jump(1));
  byId("last").addEventListener("click", () => jump(-1));

  // -- corrections ----------------------------------------------------------------------------
  let corners = null;
  const reader = byId("reader");
  reader.value = sessionStorage.getItem("reader") || "";
  reader.addEventListener("change", () => sessionStorage.setItem("reader", reader.value));
  async function list() {
    const features = await ask("/corrections");
    byId("count").textContent = features.length;
    byId("saved").replaceChildren(...features.map((feature) => {
      const p = feature.properties, item = document.createElement("li");
      item.textContent = (p.correction === "cell"
        ? "cell: " + [p.reader_pattern, p.reader_cell_type].filter(Boolean).join(", ").replace("_", " ")
        : "region: " + p.name) + " (" + p.reader + ", " + p.time.slice(0, 16).replace("T", " ") + ") ";
      const undo = document.createElement("button");
      undo.type = "button";
      undo.textContent = "take back";
      undo.addEventListener("click", () => save({ action: "remove", id: feature.id }, "Taken back."));
      item.append(undo);
      return item;
    }));
  }
  async function save(body, done) {
    try {
      await ask("/corrections", { ...body, reader: reader.value });
      say(done);
      await list();
      return true;
    } catch (error) {
      say(error.message);
      return false;
    }
  }
  byId("cell-form").addEventListener("submit", (event) => {
    event.preventDefault();
    save({ action: "cell", cell_id: cell.cell_id, pattern: byId("pattern").value || null,
           cell_type: byId("cell-type").value || null }, "Saved.");
  });
  function drawCorners() {
    const points = corners || [];
    model("corners").data = { x: points.map((p) => p[0]), y: points.map((p) => -p[1]) };
    const ring = points.length > 2 ? [...points, points[0]] : points;
    model("drawn").data = points.length > 1
      ? { xs: [ring.map((p) => p[0])], ys: [ring.map((p) => -p[1])] } : { xs: [], ys: [] };
    byId("region-form").querySelector("[type=submit]").disabled = points.length < 3;
    byId("mark").setAttribute("aria-pressed", String(corners !== null));
  }
  function addCorner(x, y) { corners.push([x, y]); drawCorners(); }
  function mark(on) {
    corners = on ? [] : null;
    say(on ? "Click the corners of the region; Enter saves, Esc lets go." : "");
    drawCorners();
  }
  async function saveRegion() {
    if (!corners || corners.length < 3) return;
    const kind = byId("region-class").value;
    const done = await save({ action: "region", ring: corners, class: kind, name: kind }, "Region saved.");
    if (done) { corners = null; drawCorners(); }
  }
  byId("mark").addEventListener("click", () => mark(corners === null));
  byId("region-form").addEventListener("submit", (event) => { event.preventDefault(); saveRegion(); });

  // -- keyboard -------------------------------------------------------------------------------
  const move = (dx, dy) => {
    const v = view(), box = frame();
    setView({ ...v, x: v.x + dx * box.width * v.step / 5, y: v.y + dy * box.height * v.step / 5 });
  };
  function help() {
    byId("help").hidden = !byId("help").hidden;
    byId("help-button").setAttribute("aria-expanded", String(!byId("help").hidden));
  }
  byId("help-button").addEventListener("click", help);
  const keys = {
    ArrowLeft: () => move(-1, 0), ArrowRight: () => move(1, 0), ArrowUp: () => move(0, -1),
    ArrowDown: () => move(0, 1), "+": () => zoom(1 / 1.5), "=": () => zoom(1 / 1.5),
    "-": () => zoom(1.5), 0: whole, 1: () => setView({ ...view(), step: 1 }),
    c: () => toggle("cells"), r: () => toggle("regions"), t: () => toggle("tumour"),
    a: () => toggle("annotations"), o: () => { off = !off; paint(); }, n: () => jump(1),
    b: () => jump(-1), m: () => mark(corners === null), Enter: saveRegion, "?": help,
    Escape: () => { if (corners) mark(false); highlight(null); byId("help").hidden = true; },
  };
  document.addEventListener("keydown", (event) => {
    const typing = /^(INPUT|SELECT|TEXTAREA|BUTTON|SUMMARY)$/.test(event.target.tagName)
      && event.target.type !== "checkbox";
    if (typing || event.ctrlKey || event.metaKey || event.altKey || !(event.key in keys)) return;
    event.preventDefault();
    keys[event.key]();
  });

  // -- begin: the tiles fit the view to themselves when they are first drawn -------------------
  window.addEventListener("hashchange", recall);
  await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
  recall();
  measure();
  await list();
  /** For tests: where a level-0 position lies on the page, and the view. */
  window.her2path = {
    view, setView, look,
    toPage: (x, y) => {
      const v = view(), box = frame();
      return [box.left + box.width / 2 + (x - v.x) / v.step, box.top + box.height / 2 + (y - v.y) / v.step];
    },
  };
  document.body.dataset.ready = "yes";
})().catch((error) => { document.getElementById("said").textContent = error.message; throw error; });

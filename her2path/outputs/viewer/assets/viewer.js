// One slide: the view, its keys, its link, and the panels that go with it.
import { byId, facts, say } from "/files/talk.js";
import { Minimap, TileView } from "/files/tiles.js";
import { Panels } from "/files/panels.js";
import * as reading from "/files/reading.js";

async function begin() {
  const view = new TileView(byId("plot"), facts);
  const panels = facts.hidden ? null : new Panels(view, remember);
  const shapes = panels && panels.shapes;

  // -- a link that reopens the view -----------------------------------------------------------
  let timer = 0;
  function remember() {
    clearTimeout(timer);
    timer = setTimeout(() => {
      const v = view.view();
      const state = new URLSearchParams({ x: v.x.toFixed(1), y: v.y.toFixed(1), step: v.step.toPrecision(5),
        ...(panels ? panels.state() : {}) });
      history.replaceState(null, "", "#" + state);
    }, 150);
  }
  function recall() {
    const state = new URLSearchParams(location.hash.slice(1));
    const [x, y, step] = ["x", "y", "step"].map((k) => Number(state.get(k)));
    if (state.has("step") && [x, y, step].every(Number.isFinite) && step > 0) view.setView({ x, y, step });
    else view.whole();
    if (panels) panels.recall(state);
    else view.setLayer("slide", "slide", (z, tx, ty) => `${facts.base}/tile/slide/${z}/${tx}/${ty}`);
  }

  // -- scale, magnification, pointer ----------------------------------------------------------
  function measure() {
    const v = view.view(), um = v.step * facts.mpp, room = um * 180;
    const power = 10 ** Math.floor(Math.log10(room));
    const length = [5, 2, 1].map((m) => m * power).find((l) => l <= room);
    byId("bar").style.width = (length / um).toFixed(1) + "px";
    byId("bar-text").textContent = length >= 1000 ? length / 1000 + " mm" : length + " µm";
    // an objective of 10x shows 1 µm to a pixel on scanners
    const times = 10 / um;
    byId("zoom").textContent = (times < 10 ? times.toFixed(1) : times.toFixed(0)) + "× · " + (um < 10 ? um.toFixed(2) : um.toFixed(0)) + " µm/px";
    const near = [...byId("magnification").options].find((o) => o.value && Math.abs(o.value / times - 1) < 0.02);
    byId("magnification").value = near ? near.value : "";
  }
  view.onHover = (x, y) => {
    const mm = (v) => (v * facts.mpp / 1000).toFixed(3);
    byId("pointer").textContent = Math.round(x) + ", " + Math.round(y) + " px · " + mm(x) + ", " + mm(y) + " mm";
  };
  byId("magnification").addEventListener("change", () => {
    const times = Number(byId("magnification").value);
    if (times) view.setView({ ...view.view(), step: 10 / times / facts.mpp });
  });
  view.listeners.push(() => { measure(); remember(); });
  new Minimap(byId("minimap"), view, facts.base + "/thumbnail");

  // -- pointer --------------------------------------------------------------------------------
  view.onTap = (x, y) => {
    byId("plot").focus({ preventScroll: true });
    if (!panels || (shapes && shapes.tap([x, y]))) return;
    panels.look(x, y).catch((error) => say(error.message));
  };

  // -- keys -----------------------------------------------------------------------------------
  const move = (dx, dy) => {
    const v = view.view();
    view.setView({ ...v, x: v.x + dx * view.wide * v.step / 5, y: v.y + dy * view.high * v.step / 5 });
  };
  function help() {
    byId("help").hidden = !byId("help").hidden;
    byId("help-button").setAttribute("aria-expanded", String(!byId("help").hidden));
  }
  byId("help-button").addEventListener("click", help);
  const fail = (error) => say(error.message);
  const keys = {
    ArrowLeft: () => move(-1, 0), ArrowRight: () => move(1, 0), ArrowUp: () => move(0, -1), ArrowDown: () => move(0, 1),
    "+": () => view.zoom(1 / 1.5), "=": () => view.zoom(1 / 1.5), "-": () => view.zoom(1.5), 0: () => view.whole(),
    1: () => view.setView({ ...view.view(), step: 1 }), "?": help,
  };
  if (panels) Object.assign(keys, {
    c: () => panels.toggle("cells"), h: () => panels.toggle("heat"), r: () => panels.toggle("regions"),
    t: () => panels.toggle("tumour"), a: () => panels.toggle("annotations"), o: () => panels.toggleAll(),
    n: () => panels.jump(1).catch(fail), b: () => panels.jump(-1).catch(fail),
  });
  if (shapes) Object.assign(keys, {
    m: () => shapes.mark(shapes.corners === null), Enter: () => shapes.save(byId("region-class").value),
    Backspace: () => { if (shapes.corners) shapes.undo(); },
    Delete: () => { if (shapes.chosen) shapes.remove(shapes.chosen); },
  });
  keys.Escape = () => {
    if (shapes && shapes.corners) shapes.mark(false);
    if (shapes && shapes.chosen) shapes.choose(null);
    if (shapes && shapes.proposals.length) shapes.propose(false);
    if (panels) panels.letGo();
    byId("help").hidden = true;
  };
  document.addEventListener("keydown", (event) => {
    const target = event.target, typing = /^(TEXTAREA|SELECT)$/.test(target.tagName)
      || (target.tagName === "INPUT" && !/^(checkbox|radio|button|submit|file)$/.test(target.type));
    if (typing) return;
    if (shapes && (event.ctrlKey || event.metaKey) && /^[zy]$/i.test(event.key)) {
      event.preventDefault();
      panels.back(event.key.toLowerCase() === "y" || event.shiftKey ? "redo" : "undo");
      return;
    }
    if (event.ctrlKey || event.metaKey || event.altKey || !(event.key in keys)) return;
    // a button keeps Enter, a row of choices its arrows; every other key is the slide's
    if (event.key === "Enter" && /^(BUTTON|A|SUMMARY)$/.test(target.tagName)) return;
    if (event.key.startsWith("Arrow") && target.type === "radio") return;
    event.preventDefault();
    keys[event.key]();
  });

  // -- begin ----------------------------------------------------------------------------------
  window.addEventListener("hashchange", recall);
  await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
  view.resize();
  recall();
  measure();
  if (facts.reading) (facts.hidden ? reading.unread : reading.read)();
  if (panels) await panels.count();
  if (shapes) await shapes.load();
  const told = sessionStorage.getItem("told:" + facts.slide);
  if (told) { sessionStorage.removeItem("told:" + facts.slide); say(told); }
  /** For tests: where a level-0 position lies on the page, and the view. */
  window.her2path = {
    view: () => view.view(), setView: (v) => view.setView(v), toPage: (x, y) => view.toPage(x, y),
    look: panels ? (x, y) => panels.look(x, y) : null, tiles: view, shapes,
  };
  document.body.dataset.ready = "yes";
}
begin().catch((error) => { say(error.message); throw error; });

// A blind read: what is typed is kept at once; the program's answer is asked for with the score.
import { ask, byId, facts, say } from "/files/talk.js";

const since = { shown: document.hidden ? null : performance.now(), before: 0 };
/** Seconds that the page was looked at. */
function seconds() {
  const now = since.shown === null ? 0 : performance.now() - since.shown;
  return (facts.reading.seconds || 0) + (since.before + now) / 1000;
}
document.addEventListener("visibilitychange", () => {
  if (document.hidden) { since.before += performance.now() - (since.shown ?? performance.now()); since.shown = null; }
  else since.shown = performance.now();
});

export function unread() {
  const form = byId("read-form"), shares = [...form.querySelectorAll(".share")];
  const picked = () => form.querySelector("input[name=score]:checked");
  const said = () => ({
    score: picked() ? picked().value : null,
    percent: Object.fromEntries(shares.filter((s) => s.value !== "").map((s) => [s.name, Number(s.value)])),
    comment: byId("comment").value, seconds: seconds(),
  });
  const draft = facts.reading.draft;
  if (draft.score !== undefined && draft.score !== null)
    for (const r of form.querySelectorAll("input[name=score]")) r.checked = r.value === draft.score;
  for (const s of shares) s.value = (draft.percent || {})[s.name] ?? "";
  if (Object.keys(draft.percent || {}).length) byId("shares").open = true;
  byId("comment").value = draft.comment || "";
  let timer = 0, given = false;
  const sum = () => { byId("sum").value = Math.round(10 * shares.reduce((t, s) => t + Number(s.value || 0), 0)) / 10; };
  const ready = () => { byId("give").disabled = !picked(); sum(); };
  async function keep(last = false) {
    clearTimeout(timer);
    timer = 0;
    if (given) return;
    try { await ask("/read", { action: "draft", ...said() }, last); }
    catch (error) { if (!last) say(error.message); }
  }
  form.addEventListener("input", () => { ready(); clearTimeout(timer); timer = setTimeout(keep, 400); });
  window.addEventListener("pagehide", () => { if (timer) keep(true); });
  // what was looked at counts although the reader, or the machine, stops in the middle
  setInterval(() => { if (!document.hidden) keep(); }, 15000);
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    byId("give").disabled = true;
    given = true;
    clearTimeout(timer);
    try {
      await ask("/read", { action: "give", ...said() });
      location.reload();
    } catch (error) {
      given = false;
      say(error.message);
      ready();
    }
  });
  ready();
}

export function read() {
  if (facts.reading.state === "signed") return;
  const standing = facts.reading.after ?? facts.reading.before;
  async function act(body) {
    try {
      await ask("/read", body);
      location.reload();
    } catch (error) { say(error.message); }
  }
  const comment = () => byId("comment").value;
  byId("keep").addEventListener("click", () => act({ action: "decide", score: standing, comment: comment() }));
  byId("change").addEventListener("change", () => { byId("do-change").disabled = byId("change").value === "keep"; });
  byId("decide-form").addEventListener("submit", (event) => {
    event.preventDefault();
    if (byId("change").value !== "keep") act({ action: "decide", score: byId("change").value, comment: comment() });
  });
  byId("sign").addEventListener("click", () => act({ action: "sign" }));
}

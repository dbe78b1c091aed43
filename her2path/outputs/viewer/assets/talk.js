// What the page and its server say to each other.
export const facts = JSON.parse(document.body.dataset.facts);
const token = document.body.dataset.token;
export const byId = (id) => document.getElementById(id);
export const say = (text) => { byId("said").textContent = text; };

/** Ask the slide's own server; a body makes it a POST. Throws with the server's words. */
export async function ask(path, body, keepalive = false) {
  const options = body === undefined ? {} : {
    method: "POST", keepalive,
    headers: { "Content-Type": "application/json", "X-Her2path-Token": token },
    body: JSON.stringify(body),
  };
  const reply = await fetch(facts.base + path, options);
  const value = await reply.json();
  if (!reply.ok) throw new Error(value.error || "The server refused.");
  return value;
}

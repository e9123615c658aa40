"use strict";
// One pair at a time: what the server says is shown as text, and nothing else of it is used.
const part = (name) => document.getElementById(name);
const KEYS = {1: "left", ArrowLeft: "left", 2: "right", ArrowRight: "right", 3: "tie", 4: "skip"};
let now = null, busy = false;

const turn = (message) => {
  const role = document.createElement("span"), text = document.createElement("div");
  role.className = "role"; role.textContent = message.role;
  text.className = "text"; text.dir = "auto"; text.textContent = message.content;
  return [role, text];
};

const show = (state) => {
  const changed = state.pair?.id !== now?.pair?.id;
  now = state;
  part("count").textContent = `${state.done} of ${state.total} pairs`;
  part("progress").max = Math.max(1, state.total);
  part("progress").value = state.done;
  part("pair").hidden = part("choices").hidden = part("add-note").hidden = !state.pair;
  part("end").hidden = Boolean(state.pair);
  part("undo").disabled = !state.can_undo;
  if (!state.pair) return part("finish").focus();
  if (!changed) return undefined;
  part("prompt").replaceChildren(...state.pair.prompt.flatMap(turn));
  part("left").textContent = state.pair.left;
  part("right").textContent = state.pair.right;
  part("note").value = state.pair.note;
  document.activeElement?.blur();
  window.scrollTo(0, 0);
  return undefined;
};

const tell = (problem) => { part("problem").textContent = problem; part("problem").hidden = !problem; };

const ask = async (what, said) => {
  if (busy) return false;
  busy = true;
  try {
    const post = {method: "POST", headers: {"Content-Type": "application/json"}, body: JSON.stringify(said ?? {})};
    const answer = await fetch(what, what === "state" ? {} : post);
    if (answer.ok) { show(await answer.json()); tell(""); return true; }
    tell(await answer.text());
    if (answer.status === 409) show(await (await fetch("state")).json());
  } catch {
    tell("pairsmith does not answer: start the command again. What was labelled is kept.");
  } finally {
    busy = false;
  }
  return false;
};

const choose = (choice) => now?.pair && ask("label", {pair: now.pair.id, choice, note: part("note").value});
const finish = async () => {
  if (!await ask("finish")) return;
  part("pair").hidden = true;
  document.querySelector("footer").hidden = true;
  part("end").hidden = false;
  part("end").textContent = "Done. This page can be closed; the terminal says where the labels are.";
};

for (const button of document.querySelectorAll("[data-choice]")) {
  button.addEventListener("click", () => choose(button.dataset.choice));
}
part("undo").addEventListener("click", () => ask("undo"));
part("add-note").addEventListener("click", () => part("note").focus());
part("finish").addEventListener("click", finish);
document.addEventListener("keydown", (event) => {
  if (event.repeat || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target === part("note")) {
    if (event.key === "Escape") part("note").blur();
    return;
  }
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  if (KEYS[key]) choose(KEYS[key]);
  else if (key === "u") ask("undo");
  else if (key === "n") part("note").focus();
  else return;
  event.preventDefault();
});
ask("state");

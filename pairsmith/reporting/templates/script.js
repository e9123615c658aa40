"use strict";
// Search, filters and opening of the pairs. All that it knows stands in the page; without it everything can be read.
const part = (name) => document.getElementById(name);
const cases = [...document.querySelectorAll(".case")];
const [query, member, source, least, most] = ["query", "member", "source", "least", "most"].map(part);
const texts = new Map();

function textOf(pair) {
  if (!texts.has(pair)) {
    texts.set(pair, [...pair.querySelectorAll("[data-text]")].map((text) => text.textContent).join("\n").toLowerCase());
  }
  return texts.get(pair);
}

function fits(pair) {
  const { chosen, rejected, source: origin, margin } = pair.dataset;
  return (!member.value || member.value === chosen || member.value === rejected)
    && (!source.value || source.value === origin)
    && (!least.value || (margin && Number(margin) >= Number(least.value)))
    && (!most.value || (margin && Number(margin) <= Number(most.value)))
    && query.value.toLowerCase().split(/\s+/).every((word) => textOf(pair).includes(word));
}

function update() {
  for (const pair of cases) pair.hidden = !fits(pair);
  const count = cases.filter((pair) => !pair.hidden).length;
  part("count").textContent = `${count} of ${cases.length} pairs`;
  part("none").hidden = count > 0;
}

function unfold(open) {
  for (const pair of cases) if (!pair.hidden) pair.open = open;
}

if (cases.length) {
  for (const field of [query, member, source, least, most]) field.addEventListener("input", update);
  part("reset").addEventListener("click", () => {
    for (const field of [query, member, source, least, most]) field.value = "";
    update();
  });
  part("open").addEventListener("click", () => unfold(true));
  part("close").addEventListener("click", () => unfold(false));
  for (const tool of document.querySelectorAll("[data-tool]")) tool.hidden = false;
  update(); // browsers keep what was typed when a page is loaded again
}

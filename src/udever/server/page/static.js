import { counted, el, put } from "./dom.js";
import { MapView } from "./mapview.js";
import { decodePoints } from "./points.js";
import { themeButton } from "./theme.js";

const MOST_HITS = 2000;

/** Texts that hold every word of the question, those with the words in the order asked first. */
function findWords(texts, question) {
  const whole = question.trim().toLowerCase();
  const wanted = whole.split(/\s+/);
  const exact = [];
  const loose = [];
  for (const [row, text] of texts.entries()) {
    const lower = text.toLowerCase();
    if (!wanted.every((word) => lower.includes(word))) continue;
    const hit = { row, text: around(text, lower.indexOf(wanted[0])) };
    (lower.includes(whole) ? exact : loose).push(hit);
  }
  return [...exact, ...loose];
}

function around(text, at) {
  const start = at > 60 ? at - 40 : 0;
  return (start ? "… " : "") + text.slice(start, start + 200);
}

function startStatic() {
  const data = JSON.parse(document.getElementById("data").textContent);
  const [cut, own] = [new Set(data.cut), new Set(data.own_lines)];
  const host = el("div", { class: "map-host" });
  put(
    document.getElementById("main"),
    el("header", { class: "top" }, el("h1", { class: "brand" }, el("bdi", {}, data.title)), el("span", { class: "grow" }), themeButton()),
    host,
  );
  const cut_note = `Cut to its first ${counted(data.text_length, "character")} in this file.`;
  new MapView(host, decodePoints(data), {
    hint: "Find words in the texts",
    facts: cut.size ? [...data.facts, `texts cut to ${counted(data.text_length, "character")}`] : data.facts,
    textOf: (row) => ({ text: data.texts[row], own_lines: own.has(row), more: cut.has(row) ? cut_note : "" }),
    find: async (question) => {
      const found = findWords(data.texts, question);
      const note = found.length > MOST_HITS ? `${counted(found.length, "text")} match; the first ${MOST_HITS} are lit.` : "";
      return { hits: found.slice(0, MOST_HITS), note };
    },
  });
}

startStatic();

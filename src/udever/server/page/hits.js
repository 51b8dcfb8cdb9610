import { count, el, icon, put } from "./dom.js";
import { breakablePath, linesOf, placeOf, SHOWN_CHARACTERS, wholeLines } from "./lines.js";

/** What a score is, by how was searched. */
export const SCORES = {
  both: { name: "both", digits: 2, says: "Cosine and words together, from 0 to 1" },
  meaning: { name: "cosine", digits: 2, says: "Cosine of question and text: 1 is the same direction" },
  words: { name: "BM25", digits: 1, says: "BM25: more and rarer words of the question score higher" },
};

/**
 * A hit in the list: where it is, its score beside the best one's, and the lines that answer; `.open()` shows and
 * hides its whole text. `only.kind` and `only.language` hear which of them alone is wanted.
 */
export function hitNode(hit, rank, scored, only) {
  const code = hit.language?.endsWith("-Code") || hit.kind === "code";
  const name = [hit.parent, hit.name].filter(Boolean).join(hit.kind === "section" ? " › " : ".");
  const [place, rest] = placeOf(hit);
  const body = el("div", { class: "hit-body" }, snippet(hit, code));
  const node = el("li", { class: "hit", tabindex: "-1" });
  const open = () => {
    const expanded = button.getAttribute("aria-expanded") === "true";
    button.setAttribute("aria-expanded", String(!expanded));
    put(body, expanded ? snippet(hit, code) : whole(hit, code));
    if (!expanded) showFirstMark(body.firstChild);
  };
  const button = el("button", { type: "button", class: "icon-button unfold", "aria-label": "Whole text", title: "Whole text", "aria-expanded": "false", onclick: open }, icon("more"));
  const chip = (value, title, choose) => value && el("button", { type: "button", class: "chip", title, onclick: () => choose(value) }, value);
  node.open = open;
  node.append(
    el(
      "header",
      {},
      el("span", { class: "rank quiet number" }, rank),
      el("bdi", { class: "where" }, breakablePath(place), el("span", { class: "quiet" }, rest)),
      score(scored),
      button,
    ),
    el(
      "p",
      { class: "chips" },
      name && el("bdi", { class: "title" }, name),
      chip(hit.kind, "Only this kind", only.kind),
      chip(hit.language, "Only this language", only.language),
    ),
    body,
  );
  return node;
}

function score({ score: value, best, mode }) {
  const { name, digits } = SCORES[mode];
  const bar = el("span", { class: "bar", "aria-hidden": "true" });
  const share = best > 0 ? Math.max(0, value / best) : 0;
  bar.style.setProperty("--share", `${Math.round(100 * share)}%`);
  return el("span", { class: "score quiet number" }, el("span", { class: "score-name" }, name), ` ${value.toFixed(digits)}`, bar);
}

/** The lines that answer, the question's words marked. */
function snippet(hit, code) {
  return el("div", { class: code ? "snippet code" : "snippet" }, linesOf(hit.snippet, code));
}

/** The whole text, numbered and marked alike. */
function whole(hit, code) {
  const text = hit.text.slice(0, SHOWN_CHARACTERS);
  const left = hit.text.length - text.length;
  const lines = linesOf(wholeLines(text, hit.matches, hit.own_lines ? hit.first_line : null), code);
  return [
    el("div", { class: code ? "text code" : "text", tabindex: "0" }, lines),
    left > 0 && el("p", { class: "quiet" }, `and ${count(left)} characters more`),
  ];
}

/** A text longer than its box begins where the question's words are. */
function showFirstMark(box) {
  const mark = box.querySelector("mark");
  if (mark) box.scrollTop = Math.max(0, mark.getBoundingClientRect().top - box.getBoundingClientRect().top - box.clientHeight / 3);
}

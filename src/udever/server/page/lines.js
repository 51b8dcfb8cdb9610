import { el } from "./dom.js";

/** How many characters of an opened text are shown. */
export const SHOWN_CHARACTERS = 20000;

// Where a line of code may break: between a sign or "_" and the word behind it, and before a capital inside a word.
// A quote stays with what it opens, behind what it is given to; a number whole.
const BREAKS = /(?<=[^\s\p{L}\p{N}\p{M}"'`@#$\\])(?=[\p{L}\p{N}])(?<!\d\.(?=\d))|(?<=\p{Ll})(?=\p{Lu})|(?<=[=(,:[{])(?=["'`])/u;
const TAB = 4;
const DEEPEST = 16;

/** Lines [{line, parts: [{text, match}]}] with their numbers, where they have some, and the question's words marked. */
export function linesOf(lines, code) {
  return lines.map(({ line, parts }) => {
    const text = el("span", { class: "line-text", dir: code ? "ltr" : "auto" }, parts.map((part) => piece(part, code)));
    if (code) text.style.setProperty("--indent", indentOf(parts[0]?.text ?? "")); // what is wrapped goes no further left
    return el("div", { class: "line" }, line !== null && el("span", { class: "line-number quiet", "aria-hidden": "true" }, line), text);
  });
}

function indentOf(text) {
  return Math.min(DEEPEST, text.match(/^\s*/)[0].replaceAll("\t", " ".repeat(TAB)).length);
}

function piece({ text, match }, code) {
  const shown = code ? breakable(text) : text;
  return match ? el("mark", {}, shown) : shown;
}

/** Code that may break at its signs, not only at its blanks, and nowhere inside an arrow. */
function breakable(text) {
  const pieces = text.split(BREAKS).flatMap((token) => [whole(token), el("wbr")]);
  return /[\s\p{L}\p{N}]$/u.test(text) ? pieces.slice(0, -1) : pieces;
}

// Trap: a browser may break behind any hyphen, that of "->" too.
function whole(token) {
  return token.split(/(->)/).filter(Boolean).map((part) => (part === "->" ? el("span", { class: "whole" }, part) : part));
}

/** A path that breaks behind its slashes before it breaks inside a name. */
export function breakablePath(path) {
  return path.split(/(?<=[/\\])/).flatMap((part) => [part, el("wbr")]).slice(0, -1);
}

/** A whole text as lines for `linesOf`: `first` is its first line's number or null, `matches` its marks in code points. */
export function wholeLines(text, matches, first) {
  const marks = utf16(text, (matches ?? []).flat());
  let [next, begin] = [0, 0];
  return text.split("\n").map((content, row) => {
    const end = begin + content.length;
    const parts = [];
    let done = begin;
    for (; next < marks.length && marks[next] < end; next += 2) {
      parts.push({ text: text.slice(done, marks[next]), match: false }, { text: text.slice(marks[next], marks[next + 1]), match: true });
      done = marks[next + 1];
    }
    parts.push({ text: text.slice(done, Math.max(done, end)), match: false });
    begin = end + 1;
    return { line: first === null ? null : first + row, parts: parts.filter((part) => part.text) };
  });
}

/** Ascending places among code points as places in the string, where some characters take two. */
function utf16(text, places) {
  if (!/[\ud800-\udbff]/.test(text)) return places;
  let [point, at] = [0, 0];
  return places.map((place) => {
    for (; point < place; point += 1) at += text.codePointAt(at) > 0xffff ? 2 : 1;
    return at;
  });
}

/** Where a hit is, its name and what follows it: a file and its lines, or a source and the row's id. */
export function placeOf({ id, source, first_line, last_line }) {
  if (first_line !== null) return [source ?? id, `:${first_line}–${last_line}`];
  return source && !id.startsWith(source) ? [source, `, row ${id}`] : [id, ""];
}

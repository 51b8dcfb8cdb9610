import { call, currentKey, setKey } from "./api.js";
import { el, empty, icon, put } from "./dom.js";
import { placeOf } from "./lines.js";
import { MapView } from "./mapview.js";
import { decodePoints } from "./points.js";
import { SearchView } from "./search.js";
import { themeButton } from "./theme.js";
import { TryView } from "./tryit.js";

const VIEWS = ["search", "map", "try"];
const HITS_ON_MAP = 50;
const KEPT_TEXTS = 2000;
const HOVER_MS = 60;

const $ = (id) => document.getElementById(id);
let model = null;
const made = {};

function viewOf(hash) {
  const name = hash.slice(1).split("?")[0];
  return VIEWS.includes(name) ? name : "search";
}

/** Show the view that the address names; it is made when it is first seen. */
function show() {
  const chosen = viewOf(location.hash);
  for (const name of VIEWS) {
    $(name).hidden = name !== chosen;
    const link = $(`to-${name}`);
    if (name === chosen) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  document.body.classList.toggle("wide", chosen === "map");
  if (chosen === "search") made.search?.arrive?.();
  if (!model || made[chosen]) return;
  made[chosen] = { search: makeSearch, map: makeMap, try: () => new TryView($("try"), model) }[chosen]();
  if (chosen === "search") $("question")?.focus({ preventScroll: true });
}

function noIndex(host) {
  put(
    host,
    empty(
      "No index is served here",
      el("p", {}, "This server embeds texts; it has nothing to search yet. Index a folder and start it again:"),
      el("pre", { class: "code" }, `udever index path/to/folder -m MODEL\nudever serve -m MODEL --index path/to/folder`),
    ),
  );
  return true;
}

function makeSearch() {
  if (!model.endpoints.includes("search")) return noIndex($("search"));
  return new SearchView($("search"), model, (question) => {
    location.hash = "#map";
    show();
    Promise.resolve(made.map).then((view) => view?.find?.(question));
  });
}

async function makeMap() {
  const host = $("map");
  if (!model.endpoints.includes("map")) return noIndex(host);
  put(host, el("div", { class: "empty", role: "status" }, el("span", { class: "spinner", "aria-hidden": "true" }), el("h2", {}, "Laying out the map"), el("p", {}, "Every vector is read once; this takes a few seconds for a large index.")));
  try {
    const points = decodePoints(await call("v1/map?limit=50000"));
    if (!points.num) {
      put(host, empty("The index is empty", el("p", {}, "There is nothing to draw yet.")));
      return null;
    }
    return new MapView(host, points, source(points));
  } catch (error) {
    made.map = null;
    const again = el("button", { type: "button", class: "button", onclick: () => show() }, "Try again");
    put(host, el("div", { role: "alert" }, empty("The map could not be drawn", el("p", { class: "message" }, error.message), again)));
    return null;
  }
}

/** Texts and hits for the map, asked of the server; texts once read are kept. */
function source(points) {
  const texts = new Map();
  let hovered = 0;
  const textOf = async (row, passing, question = "") => {
    const key = `${row} ${question}`;
    if (texts.has(key)) return texts.get(key);
    if (passing) {
      const mine = (hovered += 1);
      await new Promise((done) => setTimeout(done, HOVER_MS));
      if (mine !== hovered) return null; // the pointer has gone on
    }
    const { data } = await call("v1/texts", { ids: [points.ids[row]], query: question });
    if (!data.length) throw new Error("This text has left the index since the map was drawn.");
    if (texts.size > KEPT_TEXTS) texts.clear();
    texts.set(key, { ...data[0], more: "" });
    return texts.get(key);
  };
  const find = async (question, signal) => {
    const answer = await call("v1/search", { query: question, top_k: HITS_ON_MAP, snippet_lines: 1 }, signal);
    const hits = answer.data.map((hit) => ({
      id: hit.id,
      where: placeOf(hit).join(""),
      text: hit.snippet.map(({ parts }) => parts.map(({ text }) => text).join("")).join(" "),
    }));
    return { hits, note: "" };
  };
  const sides = points.models.length === 2 ? [`before: ${points.models[0]}`, `after: ${points.models[1]}`] : [];
  return { hint: "Light up the answers to a question", textOf, find, facts: sides };
}

function noModel(error) {
  const [heading, word, act] =
    error.status === 401 ? ["This server is locked", "Enter a key", askKey] : ["No answer", "Try again", start];
  const button = el("button", { type: "button", class: "button", onclick: () => act() }, word);
  return el("div", { role: "alert" }, empty(heading, el("p", { class: "message" }, error.message), button));
}

async function start() {
  put($("search"), el("div", { class: "empty", role: "status" }, el("span", { class: "spinner", "aria-hidden": "true" }), el("p", {}, "Asking the server what it has …")));
  try {
    [model] = (await call("v1/models")).data;
  } catch (error) {
    for (const name of VIEWS) put($(name), noModel(error));
    return;
  }
  put($("model"), el("bdi", { title: `fingerprint ${model.fingerprint}` }, model.id), el("span", { class: "quiet" }, ` ${model.dimensions} dimensions`));
  for (const name of VIEWS) put($(name));
  show();
}

function askKey() {
  const refused = currentKey() !== "";
  $("key-note").textContent = refused ? "The server does not take the key that was given." : "This server takes requests with a key only.";
  $("key").value = "";
  if (!$("key-dialog").open) $("key-dialog").showModal();
}

function wireKey() {
  $("key-form").addEventListener("submit", () => {
    setKey($("key").value.trim());
    $("key-button").hidden = false;
    for (const name of Object.keys(made)) delete made[name];
    start();
  });
  $("key-cancel").addEventListener("click", () => $("key-dialog").close());
  $("key-button").addEventListener("click", askKey);
  $("key-button").hidden = !currentKey();
  window.addEventListener("keywanted", () => {
    $("key-button").hidden = false;
    askKey();
  });
}

function wireKeys() {
  document.addEventListener("keydown", (event) => {
    const typing = event.target.closest?.("input, textarea, select");
    if (event.key !== "/" || typing || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    const field = $(viewOf(location.hash)).querySelector("input[type=search]") ?? $("question");
    if (field && field === $("question") && $("search").hidden) location.hash = "#search";
    field?.focus();
    field?.select();
  });
}

$("tools").append(themeButton());
put($("key-button"), icon("key"));
wireKey();
wireKeys();
window.addEventListener("hashchange", show);
show();
start();

import { call } from "./api.js";
import { counted, el, empty, icon, put, segmented, settled } from "./dom.js";
import { hitNode, SCORES } from "./hits.js";

const KINDS = ["function", "class", "code", "section", "text"];
const STEP = 20;
const MOST = 200;
const QUIET_MS = 300;

/** The search: a question, what the hits may be, and the hits. `onMap(question)` lights them up on the map. */
export class SearchView {
  constructor(host, model, onMap) {
    this.model = model;
    this.onMap = onMap;
    this.top_k = STEP;
    this.mode = "both";
    this.kinds = new Set();
    this.host = host;
    this.results = el("div", { class: "results" });
    this.status = el("p", { class: "status quiet", role: "status" });
    this.languages = el("datalist", { id: "languages" });
    this.later = settled(() => this.search(), QUIET_MS);
    const bar = el("div", { class: "result-bar" }, this.status, this.mapButton());
    put(host, el("div", { onkeydown: (event) => this.keys(event) }, this.form(), bar, this.results));
    this.read();
    this.search();
  }

  form() {
    const changed = () => {
      this.top_k = STEP;
      this.later();
    };
    this.question = el("input", {
      type: "search",
      id: "question",
      class: "question",
      placeholder: "In your own words, any language",
      "aria-label": "Question",
      "aria-keyshortcuts": "/",
      autocomplete: "off",
      spellcheck: "false",
      maxlength: "4000",
      oninput: changed,
    });
    this.language = el("input", { type: "text", list: "languages", placeholder: "python, de", autocomplete: "off", spellcheck: "false", oninput: changed });
    this.path = el("input", { type: "text", placeholder: "*.py, !tests", autocomplete: "off", spellcheck: "false", oninput: changed });
    this.kindButtons = KINDS.map((kind) =>
      el("button", { type: "button", class: "toggle", "aria-pressed": "false", "data-kind": kind, onclick: () => this.toggleKind(kind) }, kind),
    );
    this.modes = segmented(
      "Search by",
      [["both", "Both"], ["meaning", "Meaning"], ["words", "Words"]],
      this.mode,
      (mode) => {
        this.mode = mode;
        this.top_k = STEP;
        this.later.now();
      },
    );
    const submit = (event) => {
      event.preventDefault();
      this.later.now();
    };
    return el(
      "form",
      { class: "search-form", role: "search", onsubmit: submit },
      el("div", { class: "question-row" }, icon("search"), this.question, el("kbd", { "aria-hidden": "true" }, "/")),
      el("div", { class: "filters" }, this.modes, this.foldButton(), this.narrowing()),
    );
  }

  /** What narrows a search; on small screens it is folded away. */
  narrowing() {
    this.fold = el(
      "div",
      { class: "fold", id: "narrowing" },
      el("label", { class: "field" }, el("span", {}, "Language"), this.language, this.languages),
      el("label", { class: "field" }, el("span", {}, "Path"), this.path),
      el("div", { class: "toggles", role: "group", "aria-label": "Kind" }, this.kindButtons),
    );
    return this.fold;
  }

  foldButton() {
    const turn = () => this.foldOut.setAttribute("aria-expanded", String(this.fold.classList.toggle("open")));
    this.foldCount = el("span", {});
    this.foldOut = el(
      "button",
      { type: "button", class: "button fold-out", "aria-expanded": "false", "aria-controls": "narrowing", onclick: turn },
      "Filters",
      this.foldCount,
      icon("more"),
    );
    return this.foldOut;
  }

  mapButton() {
    this.toMap = el("button", { type: "button", class: "plain", hidden: true, onclick: () => this.onMap(this.question.value) }, icon("map"), "Show on the map");
    return this.toMap;
  }

  toggleKind(kind) {
    if (!this.kinds.delete(kind)) this.kinds.add(kind);
    this.showKinds();
    this.top_k = STEP;
    this.later.now();
  }

  showKinds() {
    for (const button of this.kindButtons) button.setAttribute("aria-pressed", String(this.kinds.has(button.dataset.kind)));
  }

  clearFilters() {
    this.language.value = this.path.value = "";
    this.kinds.clear();
    this.showKinds();
    this.later.now();
  }

  /** The address holds the search, so that it can be kept and shared. */
  read() {
    const asked = new URLSearchParams(location.hash.split("?")[1] ?? "");
    this.question.value = asked.get("q") ?? "";
    this.language.value = asked.get("language") ?? "";
    this.path.value = asked.get("path") ?? "";
    this.kinds = new Set((asked.get("kind") ?? "").split(",").filter((kind) => KINDS.includes(kind)));
    if (SCORES[asked.get("mode")]) this.mode = asked.get("mode");
    for (const input of this.modes.querySelectorAll("input")) input.checked = input.value === this.mode;
    this.showKinds();
  }

  /** Seen again: an address that holds a search is followed, any other is completed. */
  arrive() {
    if (!location.hash.includes("?")) {
      this.write();
      return;
    }
    this.read();
    this.search();
  }

  write() {
    if (this.host.hidden) return;
    const asked = new URLSearchParams();
    const given = { q: this.question.value.trim(), language: this.language.value.trim(), path: this.path.value.trim(), kind: [...this.kinds].join(","), mode: this.mode === "both" ? "" : this.mode };
    for (const [name, value] of Object.entries(given)) if (value) asked.set(name, value);
    const query = asked.toString();
    history.replaceState(null, "", query ? `#search?${query}` : "#search");
  }

  get request() {
    const list = (input) => input.value.split(",").map((part) => part.trim()).filter(Boolean);
    return {
      query: this.question.value.trim(),
      top_k: this.top_k,
      mode: this.mode,
      languages: list(this.language),
      paths: list(this.path),
      kinds: [...this.kinds],
      include_text: true,
    };
  }

  async search() {
    this.asked?.abort();
    this.write();
    const request = this.request;
    const narrowed = numFilters(request);
    this.foldCount.textContent = narrowed ? ` (${narrowed})` : "";
    this.host.classList.toggle("fresh", !request.query);
    if (!request.query) {
      this.status.textContent = "";
      this.toMap.hidden = true;
      put(this.results, this.welcome());
      return;
    }
    const asked = (this.asked = new AbortController());
    this.results.setAttribute("aria-busy", "true");
    this.status.textContent = "Searching …";
    try {
      const answer = await call("v1/search", request, asked.signal);
      if (!asked.signal.aborted) this.show(answer, request);
    } catch (error) {
      if (!asked.signal.aborted) this.fail(error);
    }
    if (!asked.signal.aborted) this.results.removeAttribute("aria-busy");
  }

  welcome() {
    const rows = this.model.index.num_rows;
    const keys = [["/", "to the question"], ["↑ ↓", "through the hits"], ["Enter", "opens one"], ["Esc", "back"]];
    return empty(
      `${counted(rows, "text")} to search`,
      el("p", {}, "Write what you look for. Meaning finds it in other words and other languages; words find it as it is spelled."),
      el("ul", { class: "keys" }, keys.map(([key, what]) => el("li", {}, el("kbd", {}, key), ` ${what}`))),
    );
  }

  fail(error) {
    this.status.textContent = "";
    this.toMap.hidden = true;
    const again = el("button", { type: "button", class: "button", onclick: () => this.search() }, "Try again");
    put(this.results, el("div", { role: "alert" }, empty("The search did not work", el("p", { class: "message" }, error.message), again)));
  }

  show(answer, request) {
    const hits = answer.data;
    const filtered = numFilters(request) > 0;
    this.toMap.hidden = !hits.length || !this.model.endpoints.includes("map");
    this.status.textContent = hits.length
      ? `${counted(hits.length, "hit")} of ${counted(this.model.index.num_rows, "text")} · ${answer.took_ms.toFixed(0)} ms`
      : "";
    if (!hits.length) {
      const clear = el("button", { type: "button", class: "button", onclick: () => this.clearFilters() }, "Clear the filters");
      const why = answer.notes.length ? answer.notes.map(sentence).join(" ") : filtered ? "Nothing passes these filters." : "No text has any of these words. Searching by meaning may find it.";
      put(this.results, empty("No hits", el("p", {}, why), filtered && clear));
      return;
    }
    const known = new Set([...this.languages.children].map((option) => option.value));
    for (const hit of hits) {
      if (hit.language && !known.has(hit.language)) {
        known.add(hit.language);
        this.languages.append(el("option", { value: hit.language }));
      }
    }
    const scoreOf = (hit) => ({ score: hit.score, best: hits[0].score, mode: request.mode });
    const only = { kind: (kind) => this.onlyKind(kind), language: (language) => this.onlyLanguage(language) };
    const more = hits.length === request.top_k && request.top_k < MOST;
    put(
      this.results,
      el("p", { class: "measure quiet small" }, `${SCORES[request.mode].says}; the bar is the share of the best hit's.`),
      el("ol", { class: "hits" }, hits.map((hit, place) => hitNode(hit, place + 1, scoreOf(hit), only))),
      more && el("button", { type: "button", class: "button more", onclick: () => this.more() }, "More hits"),
    );
  }

  async more() {
    const before = this.top_k;
    this.top_k = Math.min(MOST, this.top_k + STEP);
    await this.search();
    this.results.querySelectorAll(".hit")[before]?.focus();
  }

  onlyKind(kind) {
    if (!KINDS.includes(kind)) return;
    this.kinds = new Set([kind]);
    this.showKinds();
    this.later.now();
  }

  onlyLanguage(language) {
    this.language.value = language;
    this.later.now();
  }

  /** Arrows walk from the question through the hits, Enter opens, Escape goes back and then clears. */
  keys(event) {
    const hits = [...this.results.querySelectorAll(".hit")];
    const at = hits.indexOf(document.activeElement?.closest(".hit"));
    const in_question = document.activeElement === this.question;
    if (event.key === "ArrowDown" && (in_question || at >= 0)) {
      event.preventDefault();
      hits[Math.min(hits.length - 1, at + 1)]?.focus();
    } else if (event.key === "ArrowUp" && at >= 0) {
      event.preventDefault();
      (at === 0 ? this.question : hits[at - 1]).focus();
    } else if (event.key === "Enter" && document.activeElement?.classList.contains("hit")) {
      event.preventDefault();
      document.activeElement.open();
    } else if (event.key === "Escape") {
      this.escape(event, in_question);
    }
  }

  escape(event, in_question) {
    event.preventDefault();
    if (in_question) {
      this.question.value = "";
      this.later.now();
    } else {
      this.question.focus();
      this.question.select();
    }
  }
}

/** A note of the server as a sentence. */
function sentence(note) {
  return `${note.charAt(0).toUpperCase()}${note.slice(1)}.`;
}

function numFilters({ languages, paths, kinds }) {
  return languages.length + paths.length + kinds.length;
}

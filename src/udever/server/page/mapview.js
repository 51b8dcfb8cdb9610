import { count, counted, el, icon, put, segmented } from "./dom.js";
import { Legend } from "./legend.js";
import { breakablePath, linesOf, placeOf, SHOWN_CHARACTERS, wholeLines } from "./lines.js";
import { Plane } from "./plane.js";
import { rowsByHit, valueOf } from "./points.js";

const COLOURS_BY = ["language", "label", "folder", "kind"];
const NOT_COLOURS = new Set(["lines"]);
const NEARLY_ALL = 0.8;
const TIP_CHARACTERS = 180;
const LISTED = 50;

/**
 * The map with all around it. `source` gives texts and finds them:
 * textOf(row, passing, question) -> {text, more, matches, own_lines} or a promise of it, `matches` the question's words
 * in it, `own_lines` whether its lines are those of its file;
 * find(question, signal) -> {hits: [{id or row, text, where}], note};
 * hint is what the search box says; facts are lines about the map.
 */
export class MapView {
  constructor(host, points, source) {
    this.points = points;
    this.source = source;
    this.lit = "";
    this.rowOf = rowsByHit(points);
    this.stage = el("div", { class: "stage" });
    this.tip = el("div", { class: "tip", hidden: true });
    this.status = el("p", { class: "status quiet", role: "status" });
    this.details = el("section", { class: "details", "aria-label": "Chosen text", tabindex: "-1" });
    this.hits = el("section", { class: "map-hits", "aria-label": "Hits", hidden: true });
    this.legend = new Legend(points, (slots) => this.plane?.setSlots(slots));
    put(
      host,
      el(
        "div",
        { class: "map" },
        el("div", { class: "map-bar" }, this.finder(), this.choices()),
        el("div", { class: "stage-frame" }, this.stage, this.buttons(), this.tip),
        el("aside", { class: "map-side" }, this.status, this.details, this.hits, this.legend.node, this.about()),
      ),
    );
    this.plane = new Plane(this.stage, points, {
      hover: (row, x, y) => this.hover(row, x, y),
      open: (row) => this.open(row),
    });
    this.legend.colourBy(this.firstColumn());
    this.say();
    this.open(-1);
  }

  /** Columns worth a colour, the usual ones first: more than one value, and not another for every row. */
  columns() {
    const { columns, num } = this.points;
    const worth = [...columns].filter(([name, { names }]) => {
      return !NOT_COLOURS.has(name) && names.length > 1 && (names.length < 40 || names.length < num / 3);
    });
    const rank = (name) => (COLOURS_BY.includes(name) ? COLOURS_BY.indexOf(name) : COLOURS_BY.length);
    return worth.map(([name]) => name).sort((a, b) => rank(a) - rank(b));
  }

  /** The first column that tells rows apart: in a project of one language the folder, or the kind. */
  firstColumn() {
    const { columns, num } = this.points;
    const tells = (name) => {
      const { names, codes } = columns.get(name);
      const counts = new Int32Array(names.length);
      for (const code of codes) counts[code] += 1;
      return Math.max(...counts) < NEARLY_ALL * num;
    };
    const worth = this.columns();
    return worth.find(tells) ?? worth[0] ?? null;
  }

  finder() {
    this.question = el("input", {
      type: "search",
      placeholder: this.source.hint,
      "aria-label": this.source.hint,
      autocomplete: "off",
      spellcheck: "false",
      oninput: () => this.question.value || this.light("", [], ""),
    });
    const submit = (event) => {
      event.preventDefault();
      this.find(this.question.value);
    };
    return el(
      "form",
      { class: "finder", role: "search", onsubmit: submit },
      icon("search"),
      this.question,
      el("button", { type: "submit", class: "button" }, "Light up"),
    );
  }

  choices() {
    const { before, models, links } = this.points;
    const columns = this.columns();
    return el(
      "div",
      { class: "choices" },
      columns.length > 1 &&
        el(
          "label",
          { class: "choice" },
          "Colour",
          el(
            "select",
            { onchange: (event) => this.legend.colourBy(event.target.value) },
            columns.map((name) => el("option", { value: name, selected: name === this.firstColumn() }, name)),
          ),
        ),
      links.length > 0 &&
        el(
          "label",
          { class: "choice" },
          el("input", { type: "checkbox", onchange: (event) => this.plane.setLinks(event.target.checked) }),
          "Lines",
        ),
      before &&
        segmented(
          "Model",
          [["0", el("bdi", { title: models[0] }, "Before")], ["1", el("bdi", { title: models[1] }, "After")]],
          "1",
          (blend) => this.plane.moveTo(Number(blend)),
        ),
    );
  }

  buttons() {
    const button = (name, label, run) =>
      el("button", { type: "button", class: "icon-button", "aria-label": label, title: label, onclick: run }, icon(name));
    return el(
      "div",
      { class: "stage-buttons" },
      button("plus", "Zoom in", () => this.plane.zoom(1.6)),
      button("minus", "Zoom out", () => this.plane.zoom(1 / 1.6)),
      button("fit", "Show all", () => this.plane.fit()),
    );
  }

  about() {
    const facts = this.source.facts ?? [];
    return facts.length > 0 && el("ul", { class: "facts quiet" }, facts.map((fact) => el("li", {}, fact)));
  }

  say(more = "") {
    const { num, numRows } = this.points;
    const all = num < numRows ? `${count(num)} of ${counted(numRows, "text")}` : counted(num, "text");
    this.status.textContent = more ? `${all}; ${more}` : all;
  }

  where(row) {
    return placeOf({ id: this.points.ids[row], source: valueOf(this.points, "source", row), ...this.linesAt(row) }).join("");
  }

  /** The lines of its file that a row is, null where it is none. */
  linesAt(row) {
    const [first_line, last_line] = valueOf(this.points, "lines", row).split("-").map(Number);
    return last_line ? { first_line, last_line } : { first_line: null, last_line: null };
  }

  hover(row, x, y) {
    this.tip.hidden = row < 0;
    this.tipRow = row;
    if (row < 0) return;
    const where = el("p", { class: "tip-where" }, el("bdi", {}, this.where(row)), " ", el("bdi", {}, valueOf(this.points, "language", row)));
    const text = el("p", { dir: "auto" });
    put(this.tip, where, text);
    Promise.resolve(this.source.textOf(row, true)).then(
      (found) => {
        if (this.tipRow !== row || !found) return;
        const short = found.text.slice(0, TIP_CHARACTERS);
        text.textContent = short.length < found.text.length ? `${short} …` : short;
        this.place(x, y);
      },
      () => {}, // what is wrong is told when the point is opened
    );
    this.place(x, y);
  }

  place(x, y) {
    const { offsetWidth: width, offsetHeight: height } = this.tip;
    const left = Math.max(8, Math.min(this.stage.clientWidth - width - 8, x + 14));
    const top = y + 18 + height < this.stage.clientHeight ? y + 18 : Math.max(8, y - height - 14);
    this.tip.style.transform = `translate(${Math.round(left)}px, ${Math.round(top)}px)`;
  }

  /** Show the text of a row beside the map; -1 shows none. */
  async open(row) {
    this.opened = row;
    this.plane.select(row);
    if (row < 0) {
      put(this.details, el("p", { class: "quiet" }, "Click a point to read its text."));
      return;
    }
    const body = el("p", { class: "quiet" }, "Reading …");
    const close = el(
      "button",
      { type: "button", class: "icon-button", "aria-label": "Close the text", onclick: () => this.open(-1) },
      icon("close"),
    );
    const columns = [...this.points.columns.keys()].filter((name) => name !== "source" && name !== "lines");
    const facts = columns.map((name) => valueOf(this.points, name, row)).filter(Boolean);
    put(
      this.details,
      el("header", {}, el("h2", {}, el("bdi", {}, breakablePath(this.where(row)))), close),
      el("p", { class: "chips" }, facts.map((fact) => el("bdi", { class: "chip" }, fact))),
      body,
      this.group(row),
    );
    try {
      const found = await this.source.textOf(row, false, this.lit);
      if (this.opened !== row) return;
      body.replaceWith(this.whole(row, found), found.more ? el("p", { class: "quiet" }, found.more) : "");
    } catch (error) {
      body.textContent = error.message;
    }
  }

  whole(row, { text, matches, own_lines }) {
    const code = valueOf(this.points, "language", row).endsWith("-Code");
    const first = own_lines ? this.linesAt(row).first_line : null;
    const lines = linesOf(wholeLines(text.slice(0, SHOWN_CHARACTERS), matches, first), code);
    return el("div", { class: code ? "text code" : "text", tabindex: "0" }, lines);
  }

  group(row) {
    const others = this.points.groups.of(row).filter((other) => other !== row);
    if (!others.length) return null;
    const items = others.slice(0, LISTED).map((other) => {
      const label = valueOf(this.points, "language", other) || this.points.ids[other];
      return el("li", {}, el("button", { type: "button", class: "plain", onclick: () => this.open(other) }, el("bdi", {}, label)));
    });
    return el("div", { class: "group" }, el("h3", {}, `Joined with ${counted(others.length, "text")}`), el("ul", {}, items));
  }

  /** Ask the source and light up what it finds. */
  async find(question) {
    this.asked?.abort();
    this.question.value = question;
    if (!question.trim()) {
      this.light("", [], "");
      return;
    }
    const asked = (this.asked = new AbortController());
    this.say("searching …");
    try {
      const { hits, note } = await this.source.find(question, asked.signal);
      if (!asked.signal.aborted) this.light(question, hits, note);
    } catch (error) {
      if (!asked.signal.aborted) this.say(error.message);
    }
  }

  light(question, hits, note) {
    const known = hits
      .map((hit) => ({ ...hit, row: hit.row ?? this.rowOf.get(hit.id) ?? -1 }))
      .filter((hit) => hit.row >= 0);
    this.lit = question;
    this.plane.setLit(known.map((hit) => hit.row));
    this.hits.hidden = !question;
    if (!question) {
      this.say();
      return;
    }
    const missing = hits.length - known.length;
    this.say(`${counted(known.length, "hit")} lit up${missing ? `, ${count(missing)} not on the map` : ""}`);
    const clear = el("button", { type: "button", class: "plain", onclick: () => this.find("") }, "Clear");
    put(
      this.hits,
      el("header", {}, el("h2", {}, "Hits"), clear),
      known.length === 0 && el("p", { class: "quiet" }, "Nothing on the map answers this."),
      el(
        "ol",
        {},
        known.slice(0, LISTED).map((hit) =>
          el(
            "li",
            {},
            el(
              "button",
              { type: "button", onclick: () => this.open(hit.row) },
              el("bdi", { class: "where" }, breakablePath(hit.where || this.where(hit.row))),
              el("span", { class: "line", dir: "auto" }, hit.text.slice(0, TIP_CHARACTERS)),
            ),
          ),
        ),
      ),
      note ? el("p", { class: "quiet" }, note) : null,
    );
  }
}

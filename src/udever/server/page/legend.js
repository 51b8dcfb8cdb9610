import { count, el, put, sign } from "./dom.js";
import { DIM, NUM_SLOTS, OTHER } from "./plane.js";
import { SHAPES } from "./raster.js";

const SHOWN = 60;

/** What the colours mean; a click on entries leaves only those alight. `onSlots` hears the slot of every row. */
export class Legend {
  constructor(points, onSlots) {
    this.points = points;
    this.onSlots = onSlots;
    this.list = el("ul", { class: "legend-list" });
    this.reset = el("button", { type: "button", class: "plain", hidden: true, onclick: () => this.spotlight(null) }, "Show all");
    this.heading = el("h2", {}, "Colours");
    this.node = el("section", { class: "legend", "aria-label": "Legend" }, el("header", {}, this.heading, this.reset), this.list);
  }

  /** Colour by a column; null for one colour. */
  colourBy(name) {
    const { num, columns } = this.points;
    this.chosen = new Set();
    this.column = columns.get(name) ?? null;
    if (!this.column) {
      this.node.hidden = true;
      this.onSlots(new Uint8Array(num));
      return;
    }
    this.node.hidden = false;
    this.heading.textContent = name[0].toUpperCase() + name.slice(1);
    const counts = new Int32Array(this.column.names.length);
    for (const code of this.column.codes) counts[code] += 1;
    this.entries = [...counts.keys()]
      .filter((code) => counts[code] > 0)
      .sort((a, b) => counts[b] - counts[a])
      .map((code) => ({ code, name: this.column.names[code], count: counts[code] }));
    this.show();
  }

  spotlight(code) {
    if (code === null) this.chosen.clear();
    else if (!this.chosen.delete(code)) this.chosen.add(code);
    this.show();
  }

  /** The most frequent have colours of their own; a chosen one without takes one that no other chosen one needs. */
  slotsOfCodes() {
    const slots = new Map();
    const named = this.entries.filter((entry) => entry.name !== "").slice(0, NUM_SLOTS);
    named.forEach((entry, place) => slots.set(entry.code, place));
    const taken = new Set([...this.chosen].map((code) => slots.get(code)));
    const free = [...Array(NUM_SLOTS).keys()].filter((slot) => !taken.has(slot));
    for (const code of this.chosen) {
      if (!slots.has(code) && free.length && this.column.names[code] !== "") slots.set(code, free.shift());
    }
    return slots;
  }

  show() {
    const slots = this.slotsOfCodes();
    const table = new Uint8Array(this.column.names.length).fill(OTHER);
    for (const [code, slot] of slots) table[code] = slot;
    const dim = (code) => this.chosen.size > 0 && !this.chosen.has(code);
    const focused = document.activeElement?.dataset?.code;
    put(
      this.list,
      this.entries.slice(0, SHOWN).map((entry) => this.entry(entry, dim(entry.code) ? OTHER : table[entry.code])),
      this.entries.length > SHOWN && el("li", { class: "quiet" }, `and ${count(this.entries.length - SHOWN)} more`),
    );
    if (focused !== undefined) this.list.querySelector(`[data-code="${focused}"]`)?.focus();
    this.reset.hidden = this.chosen.size === 0;
    const rows = new Uint8Array(this.points.num);
    for (let row = 0; row < rows.length; row += 1) {
      const code = this.column.codes[row];
      rows[row] = dim(code) ? DIM : table[code];
    }
    this.onSlots(rows);
  }

  entry({ code, name, count: rows }, slot) {
    const pressed = this.chosen.has(code);
    return el(
      "li",
      {},
      el(
        "button",
        {
          type: "button",
          "aria-pressed": String(pressed),
          "data-code": String(code),
          class: this.chosen.size && !pressed ? "dimmed" : null,
          onclick: () => this.spotlight(code),
        },
        sign(SHAPES[slot % SHAPES.length], slot),
        el("bdi", { class: "name" }, name || "not known"),
        el("span", { class: "quiet number" }, count(rows)),
      ),
    );
  }
}

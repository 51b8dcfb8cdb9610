import { call } from "./api.js";
import { count, counted, el, empty, icon, put, segmented, settled } from "./dom.js";

const SAMPLES = [
  "Where is the retry limit set?",
  "Wo wird festgelegt, wie oft es noch einmal versucht wird?",
  "MAX_RETRIES = 3  # then give up",
  "The cat sleeps on the warm stove.",
];
const MOST_TEXTS = 12;
const MOST_TOKENS = 400;
const QUIET_MS = 450;
const PARTS = { marker: "marker", prompt: "prompt", text: "text" };

/** Texts of one's own: the tokens the model reads, and how near the texts are to one another. */
export class TryView {
  constructor(host, model) {
    this.model = model;
    this.role = "symmetric";
    this.texts = [...SAMPLES];
    this.fields = el("ol", { class: "try-texts" });
    this.matrix = el("section", { class: "matrix", "aria-label": "Similarity" });
    this.tokens = el("section", { class: "tokens", "aria-label": "Tokens" });
    this.status = el("p", { class: "status quiet", role: "status" });
    this.later = settled(() => this.run(), QUIET_MS);
    put(host, this.form(), this.status, this.matrix, this.tokens);
    this.showFields();
    this.run();
  }

  form() {
    this.instruction = el("input", { type: "text", placeholder: "none", maxlength: "8192", oninput: () => this.later() });
    this.add = el("button", { type: "button", class: "plain", onclick: () => this.addText() }, icon("plus"), "Add a text");
    const roles = segmented(
      "Role of the texts",
      [["symmetric", "Symmetric"], ["query", "Query"], ["document", "Document"]],
      this.role,
      (role) => {
        this.role = role;
        this.later.now();
      },
    );
    return el(
      "form",
      { class: "try-form", onsubmit: (event) => event.preventDefault() },
      el("div", { class: "filters" }, roles, el("label", { class: "field grow" }, el("span", {}, "Instruction"), this.instruction)),
      this.fields,
      this.add,
    );
  }

  addText() {
    this.texts.push("");
    this.showFields();
    this.fields.querySelector("li:last-child textarea").focus();
  }

  showFields() {
    put(
      this.fields,
      this.texts.map((text, place) => {
        const field = el("textarea", { rows: "1", dir: "auto", spellcheck: "false", "aria-label": `Text ${place + 1}`, oninput: () => this.edit(place, field.value) });
        field.value = text;
        const remove = el("button", { type: "button", class: "icon-button", "aria-label": `Remove text ${place + 1}`, onclick: () => this.remove(place) }, icon("close"));
        return el("li", {}, el("span", { class: "badge" }, place + 1), field, this.texts.length > 1 && remove);
      }),
    );
    this.add.hidden = this.texts.length >= MOST_TEXTS;
  }

  edit(place, text) {
    this.texts[place] = text;
    this.later();
  }

  remove(place) {
    this.texts.splice(place, 1);
    this.showFields();
    this.later.now();
    this.fields.querySelector("textarea").focus();
  }

  async run() {
    this.asked?.abort();
    const asked = (this.asked = new AbortController());
    const shown = this.texts.map((text, place) => ({ text, number: place + 1 })).filter(({ text }) => text.trim());
    if (!shown.length) {
      this.status.textContent = "";
      put(this.matrix);
      put(this.tokens, empty("No text yet", el("p", {}, "Write one above to see what the model reads.")));
      return;
    }
    const request = { input: shown.map(({ text }) => text), input_type: this.role, instruction: this.instruction.value.trim() || null };
    this.status.textContent = "Working …";
    try {
      const [tokens, similarity] = await Promise.all([
        call("v1/tokens", request, asked.signal),
        call("v1/similarity", { ...request, truncate: "end" }, asked.signal),
      ]);
      if (asked.signal.aborted) return;
      this.status.textContent = "";
      this.showMatrix(shown, similarity.matrix);
      this.showTokens(shown, tokens);
    } catch (error) {
      if (asked.signal.aborted) return;
      this.status.textContent = "";
      put(this.matrix);
      const again = el("button", { type: "button", class: "button", onclick: () => this.run() }, "Try again");
      put(this.tokens, el("div", { role: "alert" }, empty("That did not work", el("p", { class: "message" }, error.message), again)));
    }
  }

  showMatrix(shown, matrix) {
    const cell = (value, same) => {
      const node = el("td", { class: same ? "number same" : "number" }, value.toFixed(2));
      // From the least alike to the same: as much colour as the number read still stands out from.
      node.style.setProperty("--heat", `${Math.round(Math.max(0, Math.min(1, value)) ** 1.5 * 55)}%`);
      return node;
    };
    const header = shown.map(({ number }) => el("th", { scope: "col" }, el("span", { class: "badge" }, number)));
    const rows = shown.map(({ text, number }, row) =>
      el(
        "tr",
        {},
        el("th", { scope: "row" }, el("span", { class: "badge" }, number), el("bdi", { class: "clip" }, text.slice(0, 80))),
        matrix[row].map((value, column) => cell(value, row === column)),
      ),
    );
    put(
      this.matrix,
      el("h2", {}, "How near they are"),
      el("p", { class: "quiet" }, "Cosine of each pair; 1 is the same direction."),
      el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Similarity matrix" }, el("table", {}, el("thead", {}, el("tr", {}, el("td", {}), header)), el("tbody", {}, rows))),
    );
  }

  showTokens(shown, answer) {
    put(
      this.tokens,
      el("h2", {}, "What the model reads"),
      el(
        "p",
        { class: "quiet token-key" },
        Object.entries(PARTS).map(([part, name]) => el("span", { class: `token ${part}` }, el("bdi", {}, name))),
        ` The number below each token is its id. At most ${count(answer.max_length)} tokens go into the model.`,
      ),
      shown.map(({ number }, row) => this.tokensOf(number, answer.data[row], answer.max_length)),
    );
  }

  tokensOf(number, { tokens, num_tokens, truncated, cut }, most) {
    const list = el("p", { class: "token-list" });
    const show = (num) =>
      put(
        list,
        tokens.slice(0, num).map(token),
        tokens.length > num && el("button", { type: "button", class: "plain", onclick: () => show(num * 10) }, `and ${count(tokens.length - num)} more`),
      );
    show(MOST_TOKENS);
    return el(
      "article",
      { class: "token-text" },
      el(
        "header",
        {},
        el("span", { class: "badge" }, number),
        el("span", { class: "number" }, counted(num_tokens, "token")),
        truncated && el("strong", { class: "warning" }, `cut to ${count(most)}`),
      ),
      list,
      cut && el("p", { class: "cut" }, el("span", { class: "quiet" }, "Not read: "), el("s", { dir: "auto" }, cut.slice(0, 2000)), cut.length > 2000 && el("span", { class: "quiet" }, ` and ${count(cut.length - 2000)} characters more`)),
    );
  }
}

function token({ id, text, part }) {
  const visible = text.replaceAll(" ", "·").replaceAll("\n", "⏎").replaceAll("\t", "⇥");
  const title = `${part}, id ${id}${text === "" ? "; goes on with the character before" : ""}`;
  return el("span", { class: `token ${part}`, title }, el("bdi", {}, visible || "⋯"), el("small", {}, id));
}

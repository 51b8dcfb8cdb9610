// Building elements out of data. Text only ever becomes text nodes and attributes: nothing given is read as markup.

const SVG = "http://www.w3.org/2000/svg";

function fill(node, props, children) {
  for (const [name, value] of Object.entries(props)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? "" : String(value));
  }
  node.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

/** An element; `onclick` and the like are listeners, `true` an empty attribute, null and false no attribute. */
export function el(tag, props = {}, ...children) {
  return fill(document.createElement(tag), props, children);
}

const ICONS = {
  search: "M10.5 4a6.5 6.5 0 1 0 0 13a6.5 6.5 0 0 0 0-13M15.5 15.5L20 20",
  close: "M6 6l12 12M18 6L6 18",
  plus: "M12 5v14M5 12h14",
  minus: "M5 12h14",
  fit: "M4 9V4h5M15 4h5v5M20 15v5h-5M9 20H4v-5",
  key: "M8 11a4 4 0 1 0 0 8a4 4 0 0 0 0-8M11 12.5L20 4M16.5 7.5l2.5 2.5",
  auto: "M12 4a8 8 0 1 0 0 16zM12 4a8 8 0 0 1 0 16",
  light: "M12 8a4 4 0 1 0 0 8a4 4 0 0 0 0-8M12 2.5v2M12 19.5v2M2.5 12h2M19.5 12h2M5.3 5.3l1.4 1.4M17.3 17.3l1.4 1.4M5.3 18.7l1.4-1.4M17.3 6.7l1.4-1.4",
  dark: "M19.5 14.5A8 8 0 1 1 9.5 4.5a6.5 6.5 0 0 0 10 10z",
  map: "M5 18.5a1.5 1.5 0 1 0 0-.01M11 7a1.5 1.5 0 1 0 0-.01M17 15a2 2 0 1 0 0-.01M19.5 5a1 1 0 1 0 0-.01",
  more: "M6 9l6 6l6-6",
};

/** A line drawing of 24 by 24 that readers of the screen skip. */
export function icon(name) {
  const drawing = document.createElementNS(SVG, "svg");
  const path = document.createElementNS(SVG, "path");
  fill(path, { d: ICONS[name] }, []);
  return fill(drawing, { viewBox: "0 0 24 24", class: "icon", "aria-hidden": "true", focusable: "false" }, [path]);
}

/** The sign of a series: the same shape and colour as its points on the map. */
export function sign(shape, slot) {
  const drawing = document.createElementNS(SVG, "svg");
  const path = document.createElementNS(SVG, "path");
  const outlines = {
    circle: "M8 2a6 6 0 1 0 0 12a6 6 0 0 0 0-12z",
    square: "M3 3h10v10H3z",
    diamond: "M8 1l7 7l-7 7l-7-7z",
    triangle: "M8 1.5L15 14H1z",
  };
  fill(path, { d: outlines[shape] }, []);
  return fill(drawing, { viewBox: "0 0 16 16", class: `sign slot-${slot}`, "aria-hidden": "true" }, [path]);
}

/** Put `children` in place of all that `node` holds. */
export function put(node, ...children) {
  node.replaceChildren(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

/** A whole number with its thousands apart. */
export function count(number) {
  return number.toLocaleString("en");
}

/** "1 text", "2 texts". */
export function counted(number, noun) {
  return `${count(number)} ${noun}${number === 1 ? "" : "s"}`;
}

/** The function, called once things have been quiet for so long; `.now()` calls it at once. */
export function settled(run, wait_ms) {
  let timer = 0;
  const later = () => {
    clearTimeout(timer);
    timer = setTimeout(run, wait_ms);
  };
  later.now = () => {
    clearTimeout(timer);
    run();
  };
  return later;
}

/** Buttons of which one is chosen; arrow keys move. `options` are [value, label] pairs. */
export function segmented(label, options, chosen, onChoose) {
  const name = `segments-${(segmented.made = (segmented.made ?? 0) + 1)}`;
  return el(
    "fieldset",
    { class: "segments" },
    el("legend", { class: "hidden" }, label),
    options.map(([value, text]) =>
      el(
        "label",
        {},
        el("input", { type: "radio", name, value, checked: value === chosen, onchange: () => onChoose(value) }),
        el("span", {}, text),
      ),
    ),
  );
}

/** What stands where there is nothing to show: a heading, and what may be done. */
export function empty(heading, ...children) {
  return el("div", { class: "empty" }, el("h2", {}, heading), ...children);
}

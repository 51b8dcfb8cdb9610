import { Camera } from "./camera.js";
import { boundsOf, Grid } from "./points.js";
import { listen } from "./pointer.js";
import { el } from "./dom.js";
import { makeStamp, Raster, SHAPES } from "./raster.js";

export const NUM_SLOTS = 8;
export const OTHER = NUM_SLOTS;
export const DIM = NUM_SLOTS + 1;

const LINES_MOVING = 3000;
const LINES_STILL = 20000;
const SETTLED_MS = 140;
const SMOOTH_MS = 12;

/** The picture: points in their colours below, rings and lines of what is looked at above. */
export class Plane {
  /** `on` hears hover(row, x, y), with row -1 for none, and open(row). */
  constructor(host, points, on) {
    this.points = points;
    this.on = on;
    this.canvas = el("canvas", {
      class: "points",
      tabindex: "0",
      role: "application",
      "aria-roledescription": "map of points",
      "aria-label": "Map. Arrow keys move, plus and minus zoom, 0 shows all, Enter opens the point nearest the middle.",
    });
    this.overlay = el("canvas", { class: "overlay", "aria-hidden": "true" });
    this.probe = el("span", { class: "probe", "aria-hidden": "true" });
    host.append(this.canvas, this.overlay, this.probe);
    this.context = this.canvas.getContext("2d", { alpha: false, willReadFrequently: true });
    this.slots = new Uint8Array(points.num).fill(OTHER);
    this.order = shuffled(points.num);
    this.blend = 1;
    this.lit = [];
    this.litRows = new Set();
    this.selected = this.hovered = -1;
    this.showLinks = false;
    this.x = points.after.x;
    this.y = points.after.y;
    this.camera = new Camera(this.bounds());
    this.grid = null;
    this.sharp_ms = 0;
    this.waiting = 0;
    this.moved_at = 0;
    listen(this.canvas, this.gestures());
    new ResizeObserver(() => this.resize()).observe(host);
    window.addEventListener("themechange", () => this.restyle());
    this.host = host;
    this.resize();
    this.restyle();
  }

  bounds() {
    const { before, after } = this.points;
    const a = boundsOf(after.x, after.y);
    if (!before) return a;
    const b = boundsOf(before.x, before.y);
    return {
      left: Math.min(a.left, b.left),
      right: Math.max(a.right, b.right),
      bottom: Math.min(a.bottom, b.bottom),
      top: Math.max(a.top, b.top),
    };
  }

  gestures() {
    const moved = (change) => (...given) => {
      change(...given);
      this.moved_at = performance.now();
      this.hover(-1);
      this.redraw();
    };
    return {
      pan: moved((dx, dy) => this.camera.pan(dx, dy)),
      zoom: moved((factor, x, y) => this.camera.zoomAt(factor, x, y)),
      fit: moved(() => this.camera.fit()),
      hover: (x, y, reach) => this.hover(this.at(x, y, reach)),
      leave: () => this.hover(-1),
      press: (x, y, reach) => this.on.open(this.at(x, y, reach)),
      escape: () => this.on.open(-1),
    };
  }

  fit() {
    this.camera.fit();
    this.redraw();
  }

  zoom(factor) {
    this.camera.zoomAt(factor, this.camera.width / 2, this.camera.height / 2);
    this.redraw();
  }

  /** The row nearest to a place on the screen; dimmed ones are passed over. */
  at(x, y, reach) {
    this.grid ??= new Grid(this.x, this.y);
    const open = (row) => (this.litRows.size ? this.litRows.has(row) : this.slots[row] !== DIM);
    const any = () => true;
    const [px, py] = this.camera.toPlane(x, y);
    const radius = reach / this.camera.scale;
    const found = this.grid.nearest(px, py, radius, open);
    return found >= 0 ? found : this.grid.nearest(px, py, radius, any);
  }

  hover(row) {
    if (row === this.hovered) return;
    this.hovered = row;
    this.canvas.classList.toggle("on-point", row >= 0);
    const [x, y] = row < 0 ? [0, 0] : this.camera.toScreen(this.x[row], this.y[row]);
    this.on.hover(row, x, y);
    this.redraw();
  }

  /** Ring a row, and bring it into view where it is not. */
  select(row) {
    this.selected = row;
    if (row >= 0) {
      const [x, y] = this.camera.toScreen(this.x[row], this.y[row]);
      if (x < 20 || y < 20 || x > this.camera.width - 20 || y > this.camera.height - 20) {
        this.camera.x = this.x[row];
        this.camera.y = this.y[row];
      }
    }
    this.redraw();
  }

  setSlots(slots) {
    this.slots = slots;
    this.redraw();
  }

  /** Light these rows up, the best first, and dim the rest; none lights all. */
  setLit(rows) {
    this.lit = rows;
    this.litRows = new Set(rows);
    this.redraw();
  }

  setLinks(shown) {
    this.showLinks = shown;
    this.redraw();
  }

  /** Move every point from where the first model has it (0) to where the second has it (1). */
  moveTo(blend) {
    const from = this.blend;
    const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
    const start = performance.now();
    const step = () => {
      const passed = still ? 1 : Math.min(1, (performance.now() - start) / 700);
      const eased = passed < 0.5 ? 2 * passed * passed : 1 - 2 * (1 - passed) ** 2;
      this.setBlend(from + (blend - from) * eased);
      if (passed < 1 && this.moving === step) requestAnimationFrame(step);
    };
    this.moving = step;
    step();
  }

  setBlend(blend) {
    const { before, after, num } = this.points;
    this.blend = blend;
    this.grid = null;
    this.hovered = -1;
    if (blend === 0 || blend === 1) {
      ({ x: this.x, y: this.y } = blend ? after : before);
    } else {
      if (this.x === after.x || this.x === before.x) [this.x, this.y] = [new Float32Array(num), new Float32Array(num)];
      for (let i = 0; i < num; i += 1) {
        this.x[i] = before.x[i] + (after.x[i] - before.x[i]) * blend;
        this.y[i] = before.y[i] + (after.y[i] - before.y[i]) * blend;
      }
      this.moved_at = performance.now();
    }
    this.redraw();
  }

  resize() {
    const { clientWidth, clientHeight } = this.host;
    if (!clientWidth || !clientHeight) return;
    this.ratio = Math.min(2, devicePixelRatio || 1);
    this.camera.resize(clientWidth, clientHeight);
    this.fill(this.overlay, this.ratio);
    this.raster = null;
    this.sharpen(this.ratio);
    this.redraw();
  }

  fill(canvas, ratio) {
    canvas.width = Math.round(this.camera.width * ratio);
    canvas.height = Math.round(this.camera.height * ratio);
  }

  /** Let the points have so many pixels for each of the page's. */
  sharpen(ratio) {
    if (this.raster?.ratio === ratio) return;
    this.fill(this.canvas, ratio);
    this.raster = new Raster(this.context, this.canvas.width, this.canvas.height);
    this.raster.ratio = ratio;
  }

  /** Read the colours of the theme. */
  restyle() {
    const read = (name) => {
      this.probe.style.color = `var(--${name})`;
      return getComputedStyle(this.probe).color.match(/[\d.]+/g).slice(0, 3).map(Number);
    };
    this.ground = read("stage");
    this.ink = read("ink");
    this.accent = read("accent");
    this.colors = [...Array(NUM_SLOTS + 2).keys()].map((slot) => read(`c${slot}`));
    this.stamps = null;
    this.redraw();
  }

  redraw() {
    if (this.waiting || !this.raster) return;
    this.waiting = requestAnimationFrame(() => {
      this.waiting = 0;
      if (this.draw(performance.now())) setTimeout(() => this.redraw(), SETTLED_MS);
      this.drawOverlay();
    });
  }

  get radius() {
    const usual = Math.max(1.6, Math.min(5.5, 14 * this.points.num ** -0.2));
    return Math.min(7, usual * Math.max(0.9, this.camera.zoom ** 0.3));
  }

  /** The picture below; true where a still one would show more: sharper points, or links that were left out. */
  draw(now) {
    const moving = now - this.moved_at < SETTLED_MS;
    const coarse = moving && this.ratio > 1 && this.sharp_ms > SMOOTH_MS;
    this.sharpen(coarse ? 1 : this.ratio);
    const left_out = this.drawPoints(now, moving);
    if (!coarse) this.sharp_ms = performance.now() - now;
    return coarse || left_out;
  }

  /** Points and links; true where links were left out. */
  drawPoints(now, moving) {
    const { raster, camera, x, y, order, slots, litRows } = this;
    const { ratio } = raster;
    const radius = Math.round(this.radius * ratio * 4) / 4;
    if (this.stamps?.radius !== radius) {
      this.stamps = this.colors.map((color, slot) =>
        makeStamp(SHAPES[slot % SHAPES.length], slot >= OTHER ? radius * 0.85 : radius, color, slot === DIM ? 0.5 : 0.82),
      );
      this.stamps.radius = radius;
    }
    raster.clear(this.ground);
    const left_out = this.showLinks && this.drawLinks(moving ? LINES_MOVING : LINES_STILL, moving);
    const scale = camera.scale * ratio;
    const offsetX = (camera.width * ratio) / 2 - camera.x * scale;
    const offsetY = (camera.height * ratio) / 2 + camera.y * scale;
    const [right, bottom] = [raster.width + radius, raster.height + radius];
    const some_dim = litRows.size > 0 || slots.includes(DIM);
    for (let pass = some_dim ? 0 : 1; pass < 2; pass += 1) {
      for (let at = 0; at < order.length; at += 1) {
        const row = order[at];
        const dim = litRows.size ? !litRows.has(row) : slots[row] === DIM;
        if (dim !== (pass === 0)) continue;
        const px = x[row] * scale + offsetX;
        const py = offsetY - y[row] * scale;
        if (px < -radius || py < -radius || px > right || py > bottom) continue;
        raster.set(this.stamps[dim ? DIM : slots[row]], Math.round(px), Math.round(py));
      }
    }
    raster.show();
    return left_out;
  }

  drawLinks(most, moving) {
    const { raster, camera, x, y, slots, litRows } = this;
    const { ratio } = raster;
    const { links } = this.points;
    const num = links.length / 2;
    const step = Math.max(1, Math.ceil(num / most));
    const share = Math.round(256 * Math.max(0.08, Math.min(0.35, 8 / Math.sqrt(num / step))));
    for (let link = 0; link < num; link += step) {
      const [a, b] = [links[2 * link], links[2 * link + 1]];
      if (slots[a] === DIM || slots[b] === DIM) continue;
      if (litRows.size && !(litRows.has(a) || litRows.has(b))) continue;
      const [ax, ay] = camera.toScreen(x[a], y[a]);
      const [bx, by] = camera.toScreen(x[b], y[b]);
      raster.line(ax * ratio, ay * ratio, bx * ratio, by * ratio, this.ink, share);
    }
    return step > 1 && moving;
  }

  drawOverlay() {
    const context = this.overlay.getContext("2d");
    const { ratio, camera } = this;
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, camera.width, camera.height);
    const css = (color, opacity = 1) => `rgb(${color.join(" ")} / ${opacity})`;
    const ring = (row, extra, color, width) => {
      const [x, y] = camera.toScreen(this.x[row], this.y[row]);
      for (const [stroke, line] of [[css(this.ground), width + 2.5], [css(color), width]]) {
        context.beginPath();
        context.arc(x, y, this.radius + extra, 0, 2 * Math.PI);
        context.strokeStyle = stroke;
        context.lineWidth = line;
        context.stroke();
      }
      return [x, y];
    };
    for (const row of new Set([this.selected, this.hovered])) this.drawGroup(context, row, css(this.ink, 0.75), ring);
    context.font = "600 11px system-ui, sans-serif";
    context.textBaseline = "middle";
    const places = this.lit.slice(0, 200).reverse().map((row) => ring(row, 2.5, this.accent, 1.75));
    places.forEach(([x, y], place) => {
      const rank = places.length - place;
      if (rank > 9) return;
      context.lineWidth = 3;
      context.strokeStyle = css(this.ground);
      context.strokeText(String(rank), x + this.radius + 6, y);
      context.fillStyle = css(this.accent);
      context.fillText(String(rank), x + this.radius + 6, y);
    });
    if (this.hovered >= 0) ring(this.hovered, 2.5, this.ink, 1.5);
    if (this.selected >= 0) ring(this.selected, 4, this.ink, 2.25);
    if (this.canvas.matches(":focus-visible")) {
      context.strokeStyle = css(this.ink, 0.6);
      context.lineWidth = 1;
      const [x, y] = [Math.round(camera.width / 2) + 0.5, Math.round(camera.height / 2) + 0.5];
      context.stroke(new Path2D(`M${x - 9} ${y}h18M${x} ${y - 9}v18`));
    }
  }

  /** Lines from a row to those it belongs with. */
  drawGroup(context, row, color, ring) {
    if (row < 0) return;
    const group = this.points.groups.of(row);
    if (group.length < 2) return;
    const from = this.camera.toScreen(this.x[row], this.y[row]);
    context.strokeStyle = color;
    context.lineWidth = 1.25;
    for (const other of group) {
      if (other === row) continue;
      context.beginPath();
      context.moveTo(...from);
      context.lineTo(...this.camera.toScreen(this.x[other], this.y[other]));
      context.stroke();
    }
    for (const other of group) if (other !== row) ring(other, 1.5, this.ink, 1.25);
  }
}

/** Rows in an order that has nothing to do with theirs, the same every time: no colour always lies on top. */
function shuffled(num) {
  const order = Int32Array.from({ length: num }, (_, row) => row);
  let state = 12345;
  for (let i = num - 1; i > 0; i -= 1) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    const other = Math.floor((state / 4294967296) * (i + 1));
    [order[i], order[other]] = [order[other], order[i]];
  }
  return order;
}

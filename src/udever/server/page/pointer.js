// Fingers, mice and keys on the map, as pans, zooms, hovers and clicks.

const CLICK_PX = 5;

/** Wire `canvas` to `on`: pan(dx, dy), zoom(factor, x, y), hover(x, y, reach) or leave(), press(x, y, reach). */
export function listen(canvas, on) {
  const down = new Map();
  let travelled = 0;
  const place = (event) => {
    const box = canvas.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  };
  const reach = (event) => (event.pointerType === "touch" ? 24 : 10);
  canvas.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    canvas.setPointerCapture(event.pointerId);
    if (down.size === 0) travelled = 0;
    down.set(event.pointerId, place(event));
    on.leave();
  });
  canvas.addEventListener("pointermove", (event) => {
    const [x, y] = place(event);
    const last = down.get(event.pointerId);
    if (!last) {
      if (event.pointerType !== "touch") on.hover(x, y, reach(event));
      return;
    }
    const other = [...down].find(([id]) => id !== event.pointerId)?.[1];
    travelled += Math.hypot(x - last[0], y - last[1]);
    if (other) {
      const apart = (from) => Math.max(10, Math.hypot(from[0] - other[0], from[1] - other[1]));
      on.pan((x - last[0]) / 2, (y - last[1]) / 2);
      on.zoom(apart([x, y]) / apart(last), (x + other[0]) / 2, (y + other[1]) / 2);
    } else if (travelled >= CLICK_PX) {
      on.pan(x - last[0], y - last[1]);
    }
    down.set(event.pointerId, [x, y]);
  });
  const up = (event) => {
    const known = down.delete(event.pointerId);
    if (known && down.size === 0 && travelled < CLICK_PX && event.type === "pointerup") {
      on.press(...place(event), reach(event));
    }
  };
  canvas.addEventListener("pointerup", up);
  canvas.addEventListener("pointercancel", up);
  canvas.addEventListener("pointerleave", () => on.leave());
  canvas.addEventListener(
    "wheel",
    (event) => {
      event.preventDefault();
      const lines = event.deltaMode === 1 ? 16 : 1;
      const amount = Math.max(-240, Math.min(240, event.deltaY * lines));
      on.zoom(Math.exp(-amount * (event.ctrlKey ? 0.01 : 0.002)), ...place(event));
    },
    { passive: false },
  );
  canvas.addEventListener("dblclick", (event) => on.zoom(2, ...place(event)));
  canvas.addEventListener("keydown", (event) => key(event, canvas, on));
}

function key(event, canvas, on) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const [x, y] = [canvas.clientWidth / 2, canvas.clientHeight / 2];
  const step = event.shiftKey ? 240 : 60;
  const keys = {
    ArrowLeft: () => on.pan(step, 0),
    ArrowRight: () => on.pan(-step, 0),
    ArrowUp: () => on.pan(0, step),
    ArrowDown: () => on.pan(0, -step),
    "+": () => on.zoom(1.4, x, y),
    "=": () => on.zoom(1.4, x, y),
    "-": () => on.zoom(1 / 1.4, x, y),
    0: () => on.fit(),
    Enter: () => on.press(x, y, Math.hypot(x, y)),
    Escape: () => on.escape(),
  };
  if (keys[event.key]) {
    event.preventDefault();
    keys[event.key]();
  }
}

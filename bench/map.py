"""How long a frame of the map takes while it is moved: in Chromium, without a graphics card.

    python bench/map.py                     # 50,000 points in 12 clouds
    python bench/map.py --map map.html      # a file of `udever map`

Two times are told for panning and for zooming: the work of a frame, and what lies between one frame and the next,
which the screen's own beat (16.7 ms) bounds below.
"""

import argparse
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from udever.search.points import MapPoints
from udever.server.map import MapPage, write_map

MEASURE = """async ([pan, steps]) => {
  const canvas = document.querySelector("canvas.points"), work = [], between = [];
  const plain = window.requestAnimationFrame.bind(window);
  window.requestAnimationFrame = (run) => plain((now) => {
    const start = performance.now(); run(now); work.push(performance.now() - start);
  });
  const at = (step) => ({ clientX: 400 + 100 * Math.sin(step / 9), clientY: 400 + 60 * Math.cos(step / 7),
    pointerId: 1, bubbles: true, cancelable: true, button: 0 });
  canvas.setPointerCapture = () => {};
  if (pan) canvas.dispatchEvent(new PointerEvent("pointerdown", at(0)));
  let last = await new Promise(plain);
  for (let step = 1; step <= steps; step += 1) {
    canvas.dispatchEvent(pan ? new PointerEvent("pointermove", at(step))
      : new WheelEvent("wheel", { deltaY: step <= steps / 2 ? -40 : 40, ...at(0) }));
    const now = await new Promise(plain);
    between.push(now - last);
    last = now;
  }
  if (pan) canvas.dispatchEvent(new PointerEvent("pointerup", at(steps)));
  window.requestAnimationFrame = plain;
  return [work, between];
}"""


def write_clouds(path: Path, num: int) -> None:
    """A map of `num` points in 12 clouds."""
    rng = np.random.default_rng(0)
    which = rng.integers(0, 12, num)
    xy = (rng.normal(size=(12, 2))[which] * 4 + rng.normal(size=(num, 2))).astype(np.float32)
    columns = {"language": [f"l{number:02}" for number in which]}
    points = MapPoints(xy, [str(row) for row in range(num)], columns)
    write_map(path, points, MapPage("Clouds", [f"text {row}" for row in range(num)], num))


def measure(page: Any, name: str, *, pan: bool, steps: int) -> None:
    """Move, and say how long the frames took."""
    work, between = page.evaluate(MEASURE, [pan, steps])
    told = [f"{np.median(times):.1f} / {max(times):.1f}" for times in (work, between)]
    print(f"{name:28} work {told[0]} ms, between frames {told[1]} ms (median / worst of {len(work)})")


def main() -> None:
    """Write the map, open it, move it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--map", type=Path, help="a file of `udever map` instead of clouds")
    parser.add_argument("--points", type=int, default=50_000)
    parser.add_argument("--steps", type=int, default=120, help="moves of each kind")
    options = parser.parse_args()
    from playwright.sync_api import sync_playwright

    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    arguments = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        file = options.map or Path(folder) / "map.html"
        if options.map is None:
            write_clouds(file, options.points)
        browser = playwright.chromium.launch(executable_path=path, args=arguments)
        for ratio in (1, 2):
            page = browser.new_page(viewport={"width": 1280, "height": 800}, device_scale_factor=ratio)
            page.goto(file.resolve().as_uri())
            page.wait_for_selector("canvas.points")
            for name, pan in (("panning", True), ("zooming in and out", False)):
                measure(page, f"{name}, pixel ratio {ratio}", pan=pan, steps=options.steps)
            page.close()
        browser.close()


if __name__ == "__main__":
    main()

"""Pictures of the page, dark and light, wide and narrow: search, a hit opened, map, try-it box, by a local Chromium.

    udever index src docs -m MODEL -o /somewhere/index
    python bench/page.py MODEL /somewhere/index --out pictures/
    python bench/page.py MODEL /somewhere/index --one docs/page.png         # the one of docs/serving.md

Look at each picture: nothing here judges them.
"""

import argparse
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

QUESTION = "write a file whole or not at all"
LONG = "a record that is no CSV costs its first line"
TEXTS = ["How do I read a file?", "Wie lese ich eine Datei?", "def read(path): return open(path).read()", "A cake"]
WIDE, NARROW = (1280, 800), (390, 844)


@contextmanager
def served(model: str, index: str) -> Iterator[str]:
    """The address of a server of `model` over `index`."""
    command = [
        sys.executable,
        "-m",
        "udever",
        "serve",
        "-m",
        model,
        "--index",
        index,
        "--port",
        "0",
        "--name",
        "seedling",
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        line = next((line for line in process.stdout if " on http://" in line), "")
        try:
            if not line:
                raise SystemExit("the server did not start")
            yield line.split(" on ")[1].split()[0]
        finally:
            process.terminate()


@contextmanager
def chromium() -> Iterator[Any]:
    """A browser without a graphics card."""
    from playwright.sync_api import sync_playwright

    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    arguments = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=arguments)
        yield browser
        browser.close()


def show_search(page: Any, address: str) -> None:
    """The answers to a question."""
    page.goto(f"{address}/#search")
    page.fill("#question", QUESTION)
    page.press("#question", "Enter")
    page.wait_for_selector(".hit")


def show_opened(page: Any, address: str) -> None:
    """The answers, filters unfolded and the whole text of a long first hit shown."""
    page.goto(f"{address}/#search?q={LONG}")
    page.wait_for_selector(".hit")
    if page.is_visible(".fold-out"):
        page.click(".fold-out")
    page.locator(".unfold").first.click()
    page.wait_for_selector(".hit .text")


def show_empty(page: Any, address: str) -> None:
    """The page before a question, reached by the keyboard."""
    page.goto(f"{address}/#search")
    page.wait_for_selector(".results .empty")
    page.keyboard.press("Tab")


def show_no_hits(page: Any, address: str) -> None:
    """A question that nothing passes."""
    page.goto(f"{address}/#search?q=file&language=fra-Latn&path=nowhere/**")
    page.wait_for_selector(".results .empty")


def show_map(page: Any, address: str) -> None:
    """The map, a question's hits lit up and one text open."""
    page.goto(f"{address}/#map")
    page.wait_for_selector(".stage canvas")
    page.wait_for_timeout(800)


def show_lit(page: Any, address: str) -> None:
    """The map with a question's hits lit up and one text open."""
    show_map(page, address)
    page.fill(".map-host input[type=search]", QUESTION)
    page.press(".map-host input[type=search]", "Enter")
    page.locator(".map-host ol button").first.click()
    page.wait_for_selector(".details .text")


def show_tryit(page: Any, address: str) -> None:
    """Tokens and similarities of a few texts."""
    page.goto(f"{address}/#try")
    for row, text in enumerate(TEXTS):
        page.locator("#try textarea").nth(row).fill(text)
    page.wait_for_selector(f"#try td:nth-child({len(TEXTS) + 1})")


VIEWS = {
    "search": show_search,
    "opened": show_opened,
    "empty": show_empty,
    "nohits": show_no_hits,
    "map": show_map,
    "lit": show_lit,
    "tryit": show_tryit,
}


def take(browser: Any, address: str, path: Path, view: str, theme: str, size: tuple[int, int]) -> None:
    """One picture."""
    width, height = size
    context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=theme)
    page = context.new_page()
    VIEWS[view](page, address)
    page.wait_for_timeout(400)
    overflow = page.evaluate("document.documentElement.scrollWidth - innerWidth")
    page.screenshot(path=path)
    context.close()
    print(path if overflow <= 0 else f"{path}: {overflow} pixels wider than the window")


def main() -> None:
    """Serve, look, write the pictures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("index")
    parser.add_argument("--out", type=Path, help="folder for all pictures")
    parser.add_argument("--one", type=Path, help="file for one picture, of a search")
    parser.add_argument("--views", default=",".join(VIEWS))
    options = parser.parse_args()
    with served(options.model, options.index) as address, chromium() as browser:
        if options.one:
            for _ in range(2):  # the first search finds everything cold
                take(browser, address, options.one, "search", "light", WIDE)
        if options.out:
            options.out.mkdir(parents=True, exist_ok=True)
            for view in options.views.split(","):
                for theme in ("light", "dark"):
                    for name, size in (("wide", WIDE), ("narrow", NARROW)):
                        take(browser, address, options.out / f"{view}-{theme}-{name}.png", view, theme, size)


if __name__ == "__main__":
    main()

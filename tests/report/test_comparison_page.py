import shutil
from html.parser import HTMLParser

import numpy as np
import pytest

from udever.evaluation import METRICS, Results, Scores
from udever.report.comparison_page import Extras, write_report

EVIL = "<script>alert('x')</script>&\"'"


def scores(seed):
    rng = np.random.default_rng(seed)
    return Scores({metric: rng.random(30) for metric in METRICS}, 50)


RESULTS = Results({"bm25": scores(0), EVIL: scores(1), "before": scores(2), "after": scores(3)})
EXTRAS = Extras(
    losses=[(step, 5 / (step + 1)) for step in range(100)],
    counts={"functions mined": 12_345, EVIL: 1},
    examples=[(f"question {EVIL}", [(0.9, f"a.py {EVIL}", f"snippet {EVIL}")]), ("unanswered", [])],
    settings={"model": EVIL, "steps": 100},
)


class Structure(HTMLParser):
    """Tags and attributes that were really opened."""

    def __init__(self):
        super().__init__()
        self.tags, self.attributes = [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, name, value) for name, value in attrs]


def parse(path):
    structure = Structure()
    structure.feed(path.read_text("utf-8"))
    return structure


def test_everything_is_escaped_and_nothing_is_loaded(tmp_path):
    write_report(tmp_path / "report.html", RESULTS, EXTRAS, title=EVIL)
    structure = parse(tmp_path / "report.html")
    assert not {"script", "img", "iframe", "object", "base"}.intersection(structure.tags)
    loading = [value for _, name, value in structure.attributes if name in ("src", "href", "srcset", "action")]
    assert loading == ["data:,"]
    assert "url(" not in (text := (tmp_path / "report.html").read_text("utf-8")) and "@import" not in text
    assert "12,345" in text and "Nothing found." in text and "alert" in text


def test_pictures_have_names_and_ids_are_unique(tmp_path):
    write_report(tmp_path / "report.html", RESULTS, EXTRAS)
    structure = parse(tmp_path / "report.html")
    assert structure.tags.count("svg") == 4
    labels = [value for tag, name, value in structure.attributes if tag == "svg" and name == "aria-label"]
    assert len(labels) == 4 and all(labels)
    ids = [value for _, name, value in structure.attributes if name == "id"]
    assert len(ids) == len(set(ids))
    assert {value for _, name, value in structure.attributes if name == "aria-labelledby"} <= set(ids)


def test_sections_without_content_are_left_out(tmp_path):
    write_report(tmp_path / "report.html", Results({"after": scores(0)}))
    ids = [value for _, name, value in parse(tmp_path / "report.html").attributes if name == "id"]
    assert ids == ["scores", "chart"]


@pytest.fixture
def browser():
    executable = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if executable is None:
        pytest.skip("no Chromium on the path: install Debian's package chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


def test_in_a_browser(tmp_path, browser):
    path = tmp_path / "report.html"
    write_report(path, RESULTS, EXTRAS)
    page = browser.new_page(viewport={"width": 400, "height": 800}, color_scheme="dark")
    requests, complaints = [], []
    page.on("request", lambda request: requests.append(request.url))
    page.on("console", lambda message: complaints.append(message.text))
    page.on("dialog", lambda dialog: complaints.append(dialog.message))
    page.goto(path.as_uri())
    rows = page.locator("table.scores tbody tr").all()
    shown = [[cell.inner_text() for cell in row.locator("th, td").all()] for row in rows]
    assert shown == [[name, *(f"{row.means[metric]:.3f}" for metric in METRICS)] for name, row in RESULTS.rows.items()]
    assert all(cell.is_visible() for row in rows for cell in row.locator("td").all())
    assert page.evaluate("document.documentElement.scrollWidth") <= 400
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.emulate_media(color_scheme="light")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != dark
    assert all(url.startswith(("file:", "data:")) for url in requests)
    assert complaints == []

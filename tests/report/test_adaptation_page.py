import re
import shutil
from html.parser import HTMLParser

import numpy as np
import pytest

from udever.evaluation.comparison import Comparison
from udever.evaluation.held_out import METRICS, Question, Scores
from udever.report.adaptation import Extras, intervals_of, loss_figure, score_figure, write_adaptation_report

EVIL = "<script>alert('x')</script>&\"'"


def scores(seed):
    rng = np.random.default_rng(seed)
    return Scores({metric: rng.random(60) for metric in METRICS}, 50, rng.integers(0, 9, 60))


QUESTIONS = [Question(f"asked {EVIL}", f"{n % 2} {EVIL}", f"a.py {EVIL}", f"answer {EVIL}") for n in range(60)]
COMPARISON = Comparison({"words": scores(0), EVIL: scores(1), "base": scores(2), "adapted": scores(3)}, QUESTIONS)
EXTRAS = Extras(
    chosen=f"the base as it was {EVIL}",
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
    write_adaptation_report(tmp_path / "report.html", COMPARISON, EXTRAS, title=EVIL)
    structure = parse(tmp_path / "report.html")
    assert not {"script", "img", "iframe", "object", "base"}.intersection(structure.tags)
    loading = [value for _, name, value in structure.attributes if name in ("src", "href", "srcset", "action")]
    assert all(value.startswith(("#", "data:,")) for value in loading)
    text = (tmp_path / "report.html").read_text("utf-8")
    assert re.findall(r"url\((?!#)", text) == [] and "@import" not in text
    assert "12,345" in text and "Nothing found." in text and "alert" in text


def test_pictures_have_names_and_ids_are_unique(tmp_path):
    write_adaptation_report(tmp_path / "report.html", COMPARISON, EXTRAS)
    structure = parse(tmp_path / "report.html")
    assert structure.tags.count("svg") == 2
    labels = [value for tag, name, value in structure.attributes if tag == "svg" and name == "aria-label"]
    assert len(labels) == 2 and all(labels)
    ids = [value for _, name, value in structure.attributes if name == "id"]
    assert len(ids) == len(set(ids))
    assert {value for _, name, value in structure.attributes if name == "aria-labelledby"} <= set(ids)


def test_which_weights_were_kept_stands_above_the_scores(tmp_path):
    write_adaptation_report(tmp_path / "a.html", COMPARISON, Extras(chosen="the base as it was"))
    text = (tmp_path / "a.html").read_text("utf-8")
    assert text.index("The base as it was.") < text.index("adapted minus base")


def test_sections_without_content_are_left_out(tmp_path):
    write_adaptation_report(tmp_path / "report.html", Comparison({"adapted": scores(0)}))
    ids = [value for _, name, value in parse(tmp_path / "report.html").attributes if name == "id"]
    assert "scores" in ids and not {"loss", "changes", "examples", "counts", "settings"} & set(ids)


def test_parts_differences_and_changed_ranks_are_shown(tmp_path):
    write_adaptation_report(tmp_path / "report.html", COMPARISON, EXTRAS)
    ids = {value for _, name, value in parse(tmp_path / "report.html").attributes if name == "id"}
    assert {"differences-table", "parts-table", "better-table", "worse-table"} <= ids


def test_marks_lie_where_the_means_are(make_results):
    per_query = {metric: np.array([0.0, 1.0] * 20) for metric in METRICS}
    halves = {metric: values / 2 for metric, values in per_query.items()}
    rows = {"zero": {metric: np.zeros(40) for metric in METRICS}, "quarter": halves, "half": per_query}
    comparison = Comparison({name: Scores(values, 9) for name, values in rows.items()})
    figure = score_figure(comparison, intervals_of(comparison))
    placed = make_results.placed(figure, r"dot-(\d+)")
    for panel in range(len(METRICS)):
        across = [placed[str(3 * panel + row)][0] for row in range(3)]
        assert make_results.is_affine([0, 0.25, 0.5], across)
    assert "half 0.500, 95% interval 0.3" in figure.description


def test_the_loss_curve(make_results):
    figure = loss_figure([(0, 4.0), (5, 2.0), (10, float("nan")), (20, 1.0)])
    assert figure is not None and len(figure.data.rows) == 3
    assert "from 4.000 at step 0 to 1.000 at step 20" in figure.description
    figure = loss_figure([(step, 10.0 - step / 1000) for step in range(5001)])
    assert figure is not None and 300 < len(figure.data.rows) <= 601
    assert (figure.data.rows[0], figure.data.rows[-1]) == ((0, 10.0), (5000, 5.0))


@pytest.mark.parametrize("losses", [[], [(1, 2.0)], [(1, float("nan")), (2, 1.0)]])
def test_too_few_losses_for_a_curve(losses):
    assert loss_figure(losses) is None


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
    write_adaptation_report(path, COMPARISON, EXTRAS)
    page = browser.new_page(viewport={"width": 400, "height": 800}, color_scheme="dark")
    requests, complaints = [], []
    page.on("request", lambda request: requests.append(request.url))
    page.on("console", lambda message: complaints.append(message.text))
    page.on("dialog", lambda dialog: complaints.append(dialog.message))
    page.goto(path.as_uri())
    rows = page.locator("#scores-table tbody tr").all()
    shown = [[cell.inner_text().split("\n")[0] for cell in row.locator("th, td").all()] for row in rows]
    expected = [[name, *(f"{row.means[metric]:.3f}" for metric in METRICS)] for name, row in COMPARISON.rows.items()]
    assert shown == expected
    assert all(cell.is_visible() for row in rows for cell in row.locator("td").all())
    assert page.evaluate("document.documentElement.scrollWidth") <= 400
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.emulate_media(color_scheme="light")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != dark
    assert all(url.startswith(("file:", "data:")) for url in requests)
    assert complaints == []

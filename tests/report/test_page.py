import json
import sys
from dataclasses import replace
from html.parser import HTMLParser
from xml.etree import ElementTree

import numpy as np
import pytest

from udever.errors import MissingExtra, OutputError
from udever.report.labels import Label
from udever.report.page import ReportOptions, write_benchmark_report
from udever.report.parallel import Parallel
from udever.report.plane import make_plane

EVIL = "<script>alert('x')</script>&\"' {plot}"
LANGUAGES = ("eng-Latn", "fra-Latn", "swh-Latn", "deu-Latn")


def results(make_results):
    def model(name, base, *, lack=(), size=None, **label):
        scores = [
            make_results.score("Mono", lang, base - n / 20, lang, interval=0.02) for n, lang in enumerate(LANGUAGES)
        ]
        scores += [
            make_results.score("Cross", lang, base - 0.2, lang, "eng-Latn", kind="Bitext") for lang in LANGUAGES[1:]
        ]
        scores.append(
            make_results.score("Code", "go", base - 0.1, "eng-Latn", "go-Code", interval=0.02, trained_on=True)
        )
        return make_results.model(name, *(s for s in scores if s.task not in lack), size=size, **label)

    return [
        model("x/large", 0.9, size=10**9, family="F", train_language="eng-Latn", kind="both", tuning="lora"),
        model("x/small", 0.8, size=10**8, family="F", train_language="eng-Latn", kind="both", tuning="lora"),
        model("x/french", 0.75, size=10**8, family="F", train_language="fra-Latn", kind="both", tuning="lora"),
        model("x/alone", 0.7, size=10**8, family="F", train_language="eng-Latn", kind="symmetric", tuning="lora"),
        model("x/full", 0.78, size=10**8, family="F", train_language="eng-Latn", kind="both", tuning="full"),
        model(f"bm25 {EVIL}", 0.4, lack=("Cross",)),
    ]


@pytest.fixture(scope="module")
def options():
    rng = np.random.default_rng(0)
    texts = {language: [f"{EVIL} {row}" for row in range(5)] for language in LANGUAGES[:2]}
    sides = [(f"{name} {EVIL}", rng.normal(size=(10, 8)).astype(np.float32)) for name in ("before", "after")]
    plane = make_plane(Parallel(LANGUAGES[:2], texts), *sides)
    return ReportOptions(title=f"Report {EVIL}", labels={"full": Label(name="Full")}, plane=plane)


@pytest.fixture(scope="module")
def report(tmp_path_factory, make_results, options):
    folder = tmp_path_factory.mktemp("report") / "out"
    write_benchmark_report(results(make_results), folder, options)
    return folder


class Structure(HTMLParser):
    """Tags and attributes that were really opened."""

    def __init__(self, path):
        super().__init__()
        self.tags, self.attributes = [], []
        self.feed(path.read_text("utf-8"))

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, name, value) for name, value in attrs]


def test_every_figure_is_an_svg_a_page_and_a_table(report):
    names = {path.stem for path in (report / "figures").glob("*.svg")}
    assert names == {"universal", "languages", "languages-2", "plane", "transfer", "kinds", "adapters"}
    assert {path.stem for path in (report / "figures").glob("*.html")} == names
    assert {path.stem for path in (report / "figures").glob("*.csv")} == names
    for path in (report / "figures").glob("*.svg"):
        assert ElementTree.parse(path).getroot().tag == "{http://www.w3.org/2000/svg}svg"


def test_everything_is_escaped_and_nothing_is_loaded_from_elsewhere(report):
    structure = Structure(report / "report.html")
    assert not {"script", "img", "iframe", "object", "base"}.intersection(structure.tags)
    links = [value for _, name, value in structure.attributes if name in ("src", "href", "xlink:href", "action")]
    outside = [link for link in links if link != "data:," and not link.startswith("#")]
    assert outside
    for link in outside:
        assert (report / link).is_file(), link
    text = (report / "report.html").read_text("utf-8")
    assert "@import" not in text and "url(http" not in text
    for path in (report / "figures").glob("*.html"):
        parts = Structure(path)
        assert parts.tags.count("script") == 1 and not [v for _, name, v in parts.attributes if name == "src"]


def test_ids_are_unique_and_pictures_have_names(report):
    structure = Structure(report / "report.html")
    ids = [value for _, name, value in structure.attributes if name == "id"]
    assert len(ids) == len(set(ids))
    referred = {value.removeprefix("#") for _, name, value in structure.attributes if name == "xlink:href"}
    assert referred <= set(ids)
    assert {value for _, name, value in structure.attributes if name == "aria-labelledby"} <= set(ids)
    assert structure.tags.count("svg") == 7
    assert len([1 for tag, name, value in structure.attributes if (tag, name) == ("svg", "aria-label") and value]) == 7


def test_results_json_holds_what_is_shown(report):
    told = json.loads((report / "results.json").read_text("utf-8"))
    rows = told["figures"]["universal"]
    assert [row["model"] for row in rows][:3] == ["large", "small", "Full"]
    # Cross is no mean of all models: bm25 lacks it. Languages of Mono: 0.9, 0.85, 0.8, 0.75
    assert rows[0]["universal_score"] == pytest.approx((0.825 + 0.8) / 2)
    assert rows[0]["trained_on"] is True
    missing = [row for row in told["tables"]["tasks"] if row["score"] is None]
    assert [(row["task"], row["model"]) for row in missing] == [("Cross", rows[-1]["model"])]


def test_the_same_results_give_the_same_files(tmp_path, make_results):
    for name in ("a", "b"):
        write_benchmark_report(results(make_results)[:1], tmp_path / name)
    paths = [path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*.*")]
    assert len(paths) > 10
    for path in paths:
        assert (tmp_path / "a" / path).read_bytes() == (tmp_path / "b" / path).read_bytes(), path


def test_a_folder_of_something_else_is_not_replaced(tmp_path, make_results):
    (tmp_path / "mine.txt").write_text("x")
    with pytest.raises(OutputError, match="not an earlier output"):
        write_benchmark_report(results(make_results), tmp_path)


def test_a_missing_package_names_the_command_and_leaves_nothing(tmp_path, make_results, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingExtra, match=r"matplotlib.*pip install 'udever\[figures\]'"):
        write_benchmark_report(results(make_results)[:1], tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_one_model_with_one_score_makes_a_page(tmp_path, make_results):
    model = make_results.model("m", make_results.score("A", "en", 0.4, "eng-Latn"))
    sections = write_benchmark_report([model], tmp_path / "out")
    assert sum(bool(section.missing) for section in sections) == 6
    text = (tmp_path / "out" / "report.html").read_text("utf-8")
    assert text.count("Not shown.") == 6 and "python" in text and "3.11.9" in text


def test_the_name_of_a_model_may_be_in_any_script(tmp_path, make_results):
    model = results(make_results)[0]
    write_benchmark_report([replace(model, name="模型 ქართული 😀")], tmp_path / "out")
    assert "模型 ქართული 😀" in (tmp_path / "out" / "figures" / "universal.svg").read_text("utf-8")


def watched(browser, **options):
    """A page, with every request and complaint it makes."""
    page = browser.new_page(**options)
    requests, complaints = [], []
    page.on("request", lambda request: requests.append(request.url))
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("dialog", lambda dialog: complaints.append(dialog.message))
    return page, requests, complaints


def test_the_page_in_a_browser(report, browser):
    page, requests, complaints = watched(browser, viewport={"width": 390, "height": 800}, color_scheme="dark")
    page.goto((report / "report.html").as_uri())
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    cells = page.locator("#tasks-table tbody tr").first.locator("th, td").all_inner_texts()
    assert cells[0].startswith("Cross") and cells[-1] == "–"
    mark = "getComputedStyle(document.querySelector('#universal-point-0 use')).fill"
    ground = "getComputedStyle(document.body).backgroundColor"
    dark = page.evaluate(mark), page.evaluate(ground)
    page.emulate_media(color_scheme="light")
    light = page.evaluate(mark), page.evaluate(ground)
    assert light[0] == "rgb(0, 103, 163)" and dark[0] != light[0] and dark[1] != light[1]
    page.set_viewport_size({"width": 1200, "height": 800})
    boxes = [svg.bounding_box() for svg in page.locator("figure svg").all()]
    assert len(boxes) == 7 and all(box["width"] > 300 and box["height"] > 150 for box in boxes)
    assert set(requests) <= {(report / "report.html").as_uri(), "data:,"}
    assert complaints == []
    page.close()


def test_the_interactive_figures_in_a_browser(report, browser):
    page, requests, complaints = watched(browser, viewport={"width": 390, "height": 800})
    ink = "getComputedStyle(document.querySelector('svg text')).fill"
    shown = "document.querySelector('svg').viewBox.baseVal.width"
    for name in ("universal", "languages", "plane", "transfer", "kinds"):  # adapters are drawn as kinds are
        page.goto((report / "figures" / f"{name}.html").as_uri())
        assert page.evaluate("document.documentElement.scrollWidth") <= 390, name
    mark = page.locator("#kinds-point-0 use")
    mark.hover()
    assert page.inner_text("#said").startswith("symmetric, all tasks: 0.")
    whole, size = page.evaluate(shown), mark.bounding_box()["width"]
    page.mouse.wheel(0, -300)
    page.wait_for_function(f"{shown} < {whole / 2}")
    assert mark.bounding_box()["width"] == pytest.approx(size, rel=0.1)  # marks keep their size, so crowds part
    page.mouse.dblclick(200, 200)
    assert page.evaluate(shown) == whole
    light = page.evaluate(ink)
    page.emulate_media(color_scheme="dark")
    assert page.evaluate(ink) != light
    assert all(url.startswith((report.as_uri(), "data:")) for url in requests)
    assert complaints == []
    page.close()

"""`udever map`: vectors of a corpus job or an index as one file that a browser opens from a disk."""

import base64
import json
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from udever.cli import app
from udever.corpus import EmbedStep, Reading, run_job
from udever.corpus.side_columns import columns_beside
from udever.errors import DataError, OutputError
from udever.search.index import open_searchable
from udever.search.points import MOST_FOLDERS, MapPoints, folders_of, kept_map, links_of, map_points, shared
from udever.search.projection import align
from udever.server.map import PAGE, MapPage, bundle, render, write_map

EVIL = "</script><script>alert(1)</script><!-- <img src=x onerror=alert(2)>"
SENTENCES = {
    "eng-Latn": ["The sun rises.", "Bread is warm.", "We read books.", "Rain falls."],
    "deu-Latn": ["Die Sonne geht auf.", "Brot ist warm.", "Wir lesen Bücher.", "Regen fällt."],
    "arb-Arab": ["تشرق الشمس.", "الخبز دافئ.", "نقرأ الكتب.", EVIL],
}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """A JSONL of parallel sentences with language, kind and group."""
    path = tmp_path_factory.mktemp("corpus") / "sentences.jsonl"
    rows = [
        {"id": f"{language}-{row}", "text": text, "language": language, "group": row, "kind": "text"}
        for language, texts in SENTENCES.items()
        for row, text in enumerate(texts)
    ]
    path.write_text("\n".join(json.dumps(row) for row in rows) + "\n")
    return path


@pytest.fixture(scope="module")
def vectors(corpus, embedders, tmp_path_factory):
    """Two folders: the corpus embedded by two models."""
    folders = [tmp_path_factory.mktemp(name) / "vectors" for name in ("after", "before")]
    for folder, family in zip(folders, ("qwen3", "bloom"), strict=True):
        run_job(EmbedStep(embedders(family), role="document"), Reading([str(corpus)], window_rows=5), folder)
    return folders


def beside(path, ids):
    return columns_beside(path, ["language", "kind", "label", "group"], ids)


def run(*arguments):
    return CliRunner().invoke(app, ["map", *map(str, arguments)])


def data_of(path):
    """What a map file holds, decoded here and not by the page."""
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', path.read_text("utf-8"), re.DOTALL)
    return json.loads(found[1])


def floats(text):
    return np.frombuffer(base64.b64decode(text), "<f4")


def test_a_folder_of_shards(vectors, embedders, tmp_path):
    made = run(vectors[0], "-o", tmp_path / "map.html", "--text-length", 12, "--title", f"Sun {EVIL}")
    assert made.exit_code == 0, made.output
    data = data_of(tmp_path / "map.html")
    flat = [text for texts in SENTENCES.values() for text in texts]
    assert data["ids"] == [f"{language}-{row}" for language, texts in SENTENCES.items() for row in range(len(texts))]
    assert data["texts"] == [text[:12] for text in flat]
    assert data["cut"] == [row for row, text in enumerate(flat) if len(text) > 12]
    assert f"12 of 12 texts, {len(data['cut'])} of them cut to 12 characters" in made.output
    points = map_points(open_searchable(str(vectors[0])).vectors(50))
    np.testing.assert_array_equal(floats(data["x"]), points.xy[:, 0])
    assert data["columns"]["language"]["names"] == sorted(SENTENCES)
    codes = np.frombuffer(base64.b64decode(data["columns"]["language"]["codes"]), "<i4")
    assert [data["columns"]["language"]["names"][code] for code in codes] == [n for n in SENTENCES for _ in range(4)]
    links = np.frombuffer(base64.b64decode(data["links"]), "<i4").reshape(-1, 2)
    assert sorted(map(tuple, links.tolist())) == [(row, row + 4 * other) for row in range(4) for other in (1, 2)]
    assert any(embedders("qwen3").fingerprint in fact for fact in data["facts"])
    assert data["before_x"] is None and data["num_rows"] == 12


def test_before_and_after(vectors, tmp_path, corpus, embedders):
    made = run(vectors[0], "--before", vectors[1], "-o", tmp_path / "map.html", "--limit", 7)
    assert made.exit_code == 0, made.output
    data = data_of(tmp_path / "map.html")
    assert data["num_points"] == 7 and data["num_rows"] == 12 and len(floats(data["before_x"])) == 7
    fewer = tmp_path / "fewer.jsonl"
    fewer.write_text("\n".join(corpus.read_text().splitlines()[:5]) + "\n")
    run_job(EmbedStep(embedders("bloom")), Reading([str(fewer)]), tmp_path / "fewer")
    made = run(vectors[0], "--before", tmp_path / "fewer", "-o", tmp_path / "map.html")
    assert "left out 7 texts" in made.output and data_of(tmp_path / "map.html")["num_points"] == 5
    fewer.write_text(json.dumps({"id": "eng-Latn-0", "text": "Another."}) + "\n")
    run_job(EmbedStep(embedders("bloom")), Reading([str(fewer)]), tmp_path / "other")
    after, before = (open_searchable(str(path)).vectors(50) for path in (vectors[0], tmp_path / "other"))
    with pytest.raises(DataError, match="'eng-Latn-0' is another text in other"):
        shared(after, before)
    with pytest.raises(DataError, match="no id in common"):
        shared(after.take([1]), before)


def test_what_cannot_be_drawn(vectors, tmp_path, corpus, monkeypatch):
    for arguments, told in (
        ((tmp_path / "gone", "-o", tmp_path / "m.html"), "gone does not exist"),
        ((tmp_path, "-o", tmp_path / "m.html"), "no index in"),
        ((vectors[0], "-o", tmp_path), "it is a folder; give a file name"),
        ((vectors[0], "-o", tmp_path / "m.html", "--colour", "hue"), "no column 'hue'"),
        ((vectors[0], "-o", tmp_path / "m.html", "--rows", tmp_path / "x.jsonl"), "x.jsonl does not exist"),
    ):
        made = run(*arguments)
        assert isinstance(made.exception, DataError | OutputError) and told in str(made.exception), made.output
        assert not (tmp_path / "m.html").exists()
    written = corpus.read_text()
    made = run(vectors[0], "-o", corpus)
    assert f"it is the input {corpus}" in str(made.exception) and corpus.read_text() == written
    moved = corpus.rename(corpus.with_name("moved.jsonl"))
    try:
        made = run(vectors[0], "-o", tmp_path / "m.html")
        assert made.exit_code == 0 and "without language, kind, label and group" in made.output
        assert data_of(tmp_path / "m.html")["columns"].keys() == {"source"}
        made = run(vectors[0], "-o", tmp_path / "m.html", "--rows", moved)
        assert data_of(tmp_path / "m.html")["columns"].keys() == {"language", "kind", "source"}
        (tmp_path / "other.jsonl").write_text('{"id": "x", "text": "y"}\n')
        assert "has none of the rows" in str(
            run(vectors[0], "-o", tmp_path / "m", "--rows", tmp_path / "other.jsonl").exception
        )
    finally:
        moved.rename(corpus)


def test_the_served_map_of_shards_has_colours_and_lines(vectors, embedders):
    after = open_searchable(str(vectors[0]), beside)
    after.check(embedders("qwen3"))
    drawn = kept_map(after, open_searchable(str(vectors[1])))
    points = drawn(100)
    assert set(points.columns) == {"language", "kind", "source"}
    assert len(points.links) == 8 and len(points.before) == 12 and len(set(points.models)) == 2
    assert drawn(100) is points
    with pytest.raises(DataError, match="does not exist"):
        open_searchable("gone")


def test_an_index(tmp_path, decoders, embedders):
    pytest.importorskip("lancedb")
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "sums.py").write_text(
        "def add(a, b):\n    return a + b\n\n\ndef sub(a, b):\n    return a - b\n"
    )
    made = CliRunner().invoke(
        app, ["index", str(tmp_path / "tree"), "-m", str(decoders("bloom")), "--dtype", "float32"]
    )
    assert made.exit_code == 0, made.output
    made = run(tmp_path / "tree", "-o", tmp_path / "map.html")
    assert made.exit_code == 0, made.output
    data = data_of(tmp_path / "map.html")
    assert data["num_points"] == 2 and data["columns"]["lines"]["names"] == ["1-2", "5-6"]
    assert data["own_lines"] == [0, 1]
    found = open_searchable(str(tmp_path / "tree"))
    found.check(embedders("bloom"))
    assert set(kept_map(found)(10).columns) == {"language", "kind", "source", "lines"}


def test_folders_to_colour_by():
    assert folders_of([]) == folders_of(["a.py", "b.py"]) == folders_of(["src/a.py", "src/b.py"]) == []
    assert folders_of(["src/x/a.py", "src/y/b.py", "src/c.py"]) == ["src/x", "src/y", "src"]
    assert folders_of(["a.py", "src/b.py"]) == [".", "src"]
    deep = [f"src/{top}/{inner}/x.py" for top in "ab" for inner in range(MOST_FOLDERS)]
    assert set(folders_of(deep)) == {"src/a", "src/b"}
    wide = [f"{number}/x.py" for number in range(MOST_FOLDERS + 1)]
    assert len(set(folders_of(wide))) == MOST_FOLDERS + 1


@given(st.lists(st.sampled_from(["", "a", "b", "c"]), max_size=12))
def test_links_join_exactly_the_rows_of_a_group(groups):
    parent = list(range(len(groups)))
    for one, other in links_of(groups).tolist():
        parent[other] = one
    for row, name in enumerate(groups):
        assert parent[row] == (groups.index(name) if name else row)


@given(st.integers(0, 2**32 - 1), st.floats(0.1, 10), st.floats(-3, 3), st.booleans())
def test_aligning_undoes_a_turn_a_mirror_a_move_and_a_scale(seed, scale, turn, mirror):
    target = np.random.default_rng(seed).normal(size=(9, 2)).astype(np.float32)
    turned = target @ np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]) * scale + [3, -5]
    given_ = (turned * [-1, 1] if mirror else turned).astype(np.float32)
    np.testing.assert_allclose(align(given_, target), target, atol=2e-4)
    same = np.zeros((4, 2), np.float32)
    assert np.isfinite(align(same, target[:4])).all()


def test_columns_are_found_by_row_numbers_too(tmp_path, embedders):
    for name in ("a", "b"):
        (tmp_path / f"{name}.csv").write_text(
            "text,language\n" + "".join(f"{name} {n},lang-{name}\n" for n in range(3))
        )
    run_job(
        EmbedStep(embedders("bloom")), Reading([str(tmp_path / "a.csv"), str(tmp_path / "b.csv")]), tmp_path / "out"
    )
    found = open_searchable(str(tmp_path / "out"), beside).vectors(50)
    assert found.columns["language"] == ["lang-a"] * 3 + ["lang-b"] * 3
    assert found.groups == []


def test_the_modules_join_to_one():
    code = bundle("static.js")
    assert not re.search(r"^(import|export)\b", code, re.MULTILINE)
    names = re.findall(r"^(?:async )?(?:function|class|const|let) (\w+)", code, re.MULTILINE)
    assert len(names) == len(set(names)) > 30
    for path in PAGE.glob("*"):
        text = path.read_text("utf-8")
        assert "http://" not in text.replace("http://www.w3.org/2000/svg", "") and "https://" not in text, path
        assert "innerHTML" not in text and "eval(" not in text and " style=" not in text, path


def test_nothing_in_the_data_ends_its_element():
    html = render(EVIL, json.dumps([EVIL, "\u2028", "{{code}}"]))
    assert html.count("</script>") == 3 and "<!--" not in html
    assert html.count("{{") == 1  # the one in the data


def test_a_file_in_a_browser(vectors, tmp_path, open_page):
    path = tmp_path / "map.html"
    assert run(vectors[0], "--before", vectors[1], "-o", path, "--text-length", 20).exit_code == 0
    page = open_page(path.as_uri(), ready="canvas.points")
    assert page.inner_text(".map .status") == "12 texts"
    assert page.locator(".legend-list button").all_inner_texts() == [f"{name}\n4" for name in sorted(SENTENCES)]
    page.fill("input[type=search]", "SUN")
    page.press("input[type=search]", "Enter")
    assert page.inner_text(".map .status") == "12 texts; 1 hit lit up"
    page.fill("input[type=search]", "<script>")
    page.press("input[type=search]", "Enter")
    page.click(".map-hits li button")
    assert page.inner_text(".details .text") == EVIL[:20]
    assert "Cut to its first 20 characters" in page.inner_text(".details")
    assert page.locator("main script, main img").count() == 0
    page.fill("input[type=search]", "nowhere")
    page.press("input[type=search]", "Enter")
    assert "Nothing on the map" in page.inner_text(".map-hits")
    page.set_viewport_size({"width": 360, "height": 700})
    assert page.evaluate("document.documentElement.scrollWidth") <= 360


def test_fifty_thousand_points_stay_smooth(tmp_path, open_page):
    rng = np.random.default_rng(0)
    num = 50_000
    centres = rng.normal(size=(12, 2)) * 4
    which = rng.integers(0, 12, num)
    xy = (centres[which] + rng.normal(size=(num, 2))).astype(np.float32)
    columns = {"language": [f"l{number:02}" for number in which]}
    links = np.stack([np.arange(0, num, 2), np.arange(1, num, 2)], axis=1).astype(np.int32)
    texts = [f"text {row} " * 20 for row in range(num)]
    points = MapPoints(xy, [str(row) for row in range(num)], columns, links)
    assert write_map(tmp_path / "map.html", points, MapPage("Many", texts, num, text_length=100)) == num
    page = open_page((tmp_path / "map.html").as_uri(), ready="canvas.points")
    assert page.inner_text(".map .status") == "50,000 texts"
    frames_ms = page.evaluate(
        """async () => {
          const canvas = document.querySelector("canvas.points"), times = [];
          const plain = window.requestAnimationFrame.bind(window);
          window.requestAnimationFrame = (run) => plain((now) => {
            const start = performance.now(); run(now); times.push(performance.now() - start);
          });
          for (let step = 0; step < 30; step += 1) {
            const place = { clientX: 400, clientY: 400, cancelable: true };
            canvas.dispatchEvent(new WheelEvent("wheel", { deltaY: step < 15 ? -40 : 40, ...place }));
            await new Promise(plain);
          }
          window.requestAnimationFrame = plain;
          return times;
        }"""
    )
    assert len(frames_ms) >= 30
    # Far from the few milliseconds of a quiet machine, and near enough to notice work that grows with the square.
    assert np.median(frames_ms) < 100

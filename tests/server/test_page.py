"""The page at `/` in a real browser, over a real server with a tiny model and an index of a few rows."""

import re
from dataclasses import replace

import httpx
import numpy as np
import pytest

from udever.errors import DataError
from udever.search.embeddings_file import Header
from udever.search.in_memory import InMemory
from udever.search.points import MapPoints, folders_of
from udever.search.searchable import Hit

EVIL = '<script>alert(1)</script><img src=x onerror=alert(2)> & "quoted" \'</li>'
RTL = "مجموع رقمين \u202egnorts\u202c שלום"
ROWS = [
    ("src/add.py:1-2", "def add(a, b):\n    return a + b", "python-Code", "function", "add"),
    ("src/old/sub.py:4-5", "def sub(a, b):\n    return a - b", "python-Code", "function", "sub"),
    ("docs/sum.md:1-1", "What is the sum of two numbers?", "eng-Latn", "section", "Sum"),
    ("docs/de/sum.md:1-1", "Was ist die Summe zweier Zahlen?", "deu-Latn", "section", "Summe"),
    ("docs/fr/sum.md:1-1", "Quelle est la somme de deux nombres ?", "fra-Latn", "section", "Somme"),
    (f"docs/{EVIL}.md:1-1", f"numbers {EVIL} &amp; <b>bold</b>", f"evil{EVIL}", "text", EVIL),
    ("docs/ar.md:1-1", RTL, "arb-Arab", "text", "مجموع"),
    ("docs/long.md:1-1", "number" * 8000 + "\nlast line", "eng-Latn", "text", "Long"),
]
HITS = [
    Hit(
        0.0, name, text, name.rsplit(":", 1)[0], *map(int, name.rsplit(":", 1)[1].split("-")), kind, title, "", language
    )
    for name, text, language, kind, title in ROWS
]
TRANSLATIONS = np.array([[2, 3], [2, 4]], dtype=np.int32)


class Rows(InMemory):
    """The rows by the ids of the map, and by meaning or by a part of their text, so that counts are plain."""

    def find(self, query, embedding, top_k=10, *, mode, filters):
        if mode == "words":
            found = [hit for hit in HITS if query.casefold() in hit.text.casefold()]
            return [replace(hit, score=1.0) for hit in found][:top_k]
        if "poem" in filters.languages:
            raise DataError("language is 'poem'; expected another")
        return super().find(query, embedding, top_k, mode="meaning", filters=filters)

    def texts(self, ids):
        return {f"row-{row}": hit for row, hit in enumerate(HITS) if f"row-{row}" in ids}


def make_index(embedder):
    vectors = embedder.encode_document([hit.text[:400] for hit in HITS])
    return Rows("rows", Header(embedder.fingerprint, embedder.dimensions, "document"), HITS, vectors)


def points(limit):
    """The rows on a circle, two metres from one another."""
    turns = np.linspace(0, 2 * np.pi, len(HITS), endpoint=False)
    xy = np.stack([np.cos(turns), np.sin(turns)], axis=1).astype(np.float32)
    columns = {
        "language": [hit.language for hit in HITS],
        "kind": [hit.kind for hit in HITS],
        "source": [hit.source for hit in HITS],
        "lines": [f"{hit.first_line}-{hit.last_line}" for hit in HITS],
    }
    ids = [f"row-{row}" for row in range(len(HITS))]
    return MapPoints(xy, ids, columns, TRANSLATIONS, before=xy[::-1] / 2, models=["old", "new"])


@pytest.fixture(scope="module")
def address(serve, embedders):
    """A server whose index holds the rows above."""

    def prepare(service):
        service.index, service.points = make_index(embedders("qwen3")), points

    with serve(prepare=prepare) as (address, _):
        yield address


def ask(page, question):
    page.fill("#question", question)
    page.press("#question", "Enter")
    page.wait_for_selector(".hit, .results .empty h2:not(:has-text('to search'))")


def num_hits(page, number):
    """Wait until there are so many hits."""
    page.wait_for_selector(f".hits:not(:has(.hit:nth-child({number + 1}))) > .hit:nth-child({number})")


def test_searching(open_page, address):
    page = open_page(f"{address}/", ready="#question")
    assert page.evaluate("document.activeElement.id") == "question"
    assert "8 texts to search" in page.inner_text(".results")
    ask(page, "sum of two numbers")
    assert page.locator(".hit").count() == 8
    assert page.inner_text("#search .status").startswith("8 hits of 8 texts · ")
    assert {"sum", "two", "numbers"} <= {mark.casefold() for mark in page.locator("mark").all_inner_texts()}
    assert page.locator(".hit .where").filter(has_text="src/add.py:1–2").count() == 1
    page.reload()
    page.wait_for_selector(".hit")
    assert page.input_value("#question") == "sum of two numbers"


def test_filters(open_page, address):
    page = open_page(f"{address}/#search?q=sum", ready=".hit")
    page.get_by_role("button", name="function", exact=True).first.click()
    num_hits(page, 2)
    page.fill("input[placeholder^='*.py']", "src/old/**")
    num_hits(page, 1)
    assert "kind=function" in page.url and "path=src" in page.url
    page.fill("input[placeholder^='python']", "deu-Latn")
    page.wait_for_selector("text=Nothing passes these filters.")
    page.click("text=Clear the filters")
    num_hits(page, 8)
    page.locator(".hit button.chip", has_text="deu-Latn").click()
    num_hits(page, 1)
    page.fill("input[placeholder^='python']", "")
    page.get_by_role("radio", name="Words", exact=True).check()
    num_hits(page, 2)
    assert "somme" not in page.inner_text(".results") and "two numbers" in page.inner_text(".results")
    ask(page, "nothingness")
    page.wait_for_selector("text=No text has any of these words")


def test_what_is_refused_is_told(open_page, address):
    page = open_page(f"{address}/#search?q=sum&language=poem", allowed=["422", "ERR_FAILED", "ERR_INTERNET"])
    page.wait_for_selector("[role=alert] >> text=language is 'poem'; expected another")
    page.fill("input[placeholder^='python']", "")
    page.wait_for_selector(".hit")
    page.route("**/v1/search", lambda route: route.abort())
    page.fill("#question", "sum?")
    page.wait_for_selector("[role=alert] >> text=The server does not answer")
    page.unroute("**/v1/search")
    page.click("text=Try again")
    page.wait_for_selector(".hit")


def test_keys_of_the_keyboard(open_page, address):
    page = open_page(f"{address}/#search?q=sum", ready=".hit")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    assert page.evaluate("[...document.querySelectorAll('.hit')].indexOf(document.activeElement)") == 1
    page.keyboard.press("Enter")
    opened = page.locator(".hit").nth(1)
    assert opened.locator(".unfold").get_attribute("aria-expanded") == "true"
    assert opened.locator(".text").count() == 1
    page.keyboard.press("ArrowUp")
    page.keyboard.press("ArrowUp")
    assert page.evaluate("document.activeElement.id") == "question"
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Escape")
    assert page.evaluate("document.activeElement.id") == "question"
    page.keyboard.press("Escape")
    page.wait_for_selector("text=8 texts to search")
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.id") == "question"
    assert page.input_value("#question") == ""


def test_hostile_texts_are_only_text(open_page, address):
    page = open_page(f"{address}/#search?q={'numbers'}", ready=".hit")
    evil = page.locator(".hit").filter(has_text="<b>bold</b>")
    assert "<script>alert(1)</script><img src=x onerror=alert(2)>" in evil.locator(".snippet").inner_text()
    assert "&amp; <b>bold</b>" in evil.locator(".snippet").inner_text()
    assert EVIL in evil.locator(".where").inner_text()
    assert page.locator("main script, main img, main b").count() == 0
    arabic = page.locator(".hit").filter(has_text="gnorts").locator(".line-text")
    assert arabic.evaluate("node => getComputedStyle(node).direction") == "rtl"
    long = page.locator(".hit").filter(has_text="docs/long.md")
    long.locator(".unfold").click()
    assert "and 28,010 characters more" in long.inner_text()
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.goto(f"{address}/#search?q={'%3Cscript%3Ealert(3)%3C/script%3E'}&language=%22%3E%3Cimg src=x%3E")
    page.reload()
    page.wait_for_selector("text=no file has the language")


def test_an_opened_hit_keeps_its_numbers_and_marks(open_page, address):
    page = open_page(f"{address}/#search?q=the+sub+of+a&path=src/old/**", ready=".hit")
    seen = page.locator(".hit .snippet .line-number").all_inner_texts()
    page.click(".unfold")
    assert page.locator(".hit .text .line-number").all_inner_texts() == seen == ["4", "5"]
    assert page.locator(".hit .text .line-text").all_inner_texts() == ["def sub(a, b):", "    return a - b"]
    assert page.locator(".hit .text mark").all_inner_texts() == ["sub"]
    page.click(".unfold")
    assert page.locator(".hit .snippet").count() == 1
    page.fill("input[placeholder^='*.py']", "docs/long.md")
    page.fill("#question", "last")
    page.wait_for_selector(".hit:has-text('docs/long.md') mark")
    page.click(".unfold")
    assert page.locator(".text .line-number").count() == 0  # these are not the file's own lines


def test_a_score_has_its_name_and_stands_beside_the_best(open_page, address):
    page = open_page(f"{address}/#search?q=sum&mode=meaning", ready=".hit")
    assert all(re.fullmatch(r"cosine\s-?[01]\.\d\d\s*", said) for said in page.locator(".score").all_inner_texts())
    share = "(bars) => bars.map((bar) => parseInt(bar.style.getPropertyValue('--share')))"
    shares = page.locator(".bar").evaluate_all(share)
    assert shares[0] == 100 and shares == sorted(shares, reverse=True)
    assert "1 is the same direction" in page.inner_text(".measure")
    page.get_by_role("radio", name="Words", exact=True).check()
    page.wait_for_selector(".score >> text=BM25")
    page.get_by_role("radio", name="Both", exact=True).check()
    page.wait_for_selector(".score >> text=both")


def test_a_hit_without_lines_names_its_row(open_page, address):
    page = open_page(f"{address}/#search?q=sum", ready=".hit")
    hits = [("17", "qa.csv", None), ("qa.csv:17", "qa.csv", None), ("17", None, None), ("a.py:1-2", "a.py", 1)]
    told = page.evaluate(
        """async ([base, hits]) => {
          const { placeOf } = await import(base + "/page/lines.js");
          return hits.map(([id, source, first_line]) => placeOf({ id, source, first_line, last_line: 2 }).join(""));
        }""",
        [address, hits],
    )
    assert told == ["qa.csv, row 17", "qa.csv:17", "17", "a.py:1–2"]


def test_code_breaks_between_words(open_page, address):
    page = open_page(f"{address}/#search?q=sum", ready=".hit")
    said = page.evaluate(
        """async (base) => {
          const { breakablePath, linesOf } = await import(base + "/page/lines.js");
          const broken = (text) => {
            const [line] = linesOf([{ line: 1, parts: [{ text, match: false }] }], true);
            return line.querySelector(".line-text").innerHTML.split("<wbr>");
          };
          const code = ["    self.read_file(pathName, 3.14)", "x == 'one.two'", "größeTeil", 'f(name="text")'];
          const path = breakablePath("src/a_b/c.d.py").map((part) => part.outerHTML ?? part);
          return [...code.map(broken), broken("f() -> a"), path];
        }""",
        address,
    )
    assert said == [
        ["    self.", "read_", "file(", "path", "Name, 3.14)", ""],
        ["x == 'one.", "two'", ""],
        ["größe", "Teil"],
        ["f(", "name=", '"text")', ""],
        ['f() <span class="whole">-&gt;</span> a'],
        ["src/", "<wbr>", "a_b/", "<wbr>", "c.d.py"],
    ]


FINGER = """() => [...document.querySelectorAll("button, input, select, textarea, .top a")]
  .filter((node) => node.checkVisibility() && !node.closest(".stage-frame") && node.type !== "radio")
  .map((node) => {
    node.scrollIntoView({ block: "center" });
    const box = node.getBoundingClientRect(), x = box.left + box.width / 2, y = box.top + box.height / 2;
    const hit = (dy) => {
      const at = document.elementFromPoint(x, y + dy);
      return node.contains(at) || (at?.tagName === "LABEL" && at.contains(node));
    };
    return hit(-19) && hit(19) ? null : node.outerHTML.slice(0, 90);
  }).filter(Boolean)"""


def test_on_a_phone_filters_fold_away_and_fingers_fit(open_page, address):
    page = open_page(f"{address}/#search?q=numbers&kind=text", ready=".hit", viewport={"width": 390, "height": 844})
    assert not page.is_visible("input[placeholder^='*.py']")
    assert page.inner_text(".fold-out").split() == ["Filters", "(1)"]
    page.click(".fold-out")
    page.fill("input[placeholder^='*.py']", "docs/ar.md")
    num_hits(page, 1)
    assert page.inner_text(".fold-out").split() == ["Filters", "(2)"]
    assert page.evaluate(FINGER) == []
    page.click("#to-map")
    page.wait_for_selector("canvas.points")
    assert page.evaluate(FINGER) == []
    page.click("#to-try")
    page.wait_for_selector(".matrix table")
    assert page.evaluate(FINGER) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_a_map_of_one_language_is_coloured_by_folder(open_page, serve):
    def prepare(service):
        sources = [hit.source for hit in HITS]
        columns = {"language": ["python-Code"] * 8, "kind": ["function"] * 8, "source": sources}
        xy = np.arange(16, dtype=np.float32).reshape(8, 2)
        folders = {"folder": folders_of(sources)}
        service.points = lambda limit: MapPoints(xy, [f"row-{row}" for row in range(8)], columns | folders)

    with serve(prepare=prepare) as (address, _):
        page = open_page(f"{address}/#map", ready="canvas.points")
        assert page.inner_text(".legend h2") == "Folder"
        entries = page.locator(".legend-list .name").all_inner_texts()
        assert {"src", "docs"} <= set(entries)


def test_a_key_is_asked_for_and_kept_in_the_tab(open_page, serve):
    with serve(keys=["a-good-key-1"]) as (address, _):
        page = open_page(f"{address}/", ready="dialog[open]", allowed=["401"])
        page.fill("#key", "a-wrong-key")
        page.press("#key", "Enter")
        page.wait_for_selector("dialog[open] >> text=does not take the key")
        page.fill("#key", "a-good-key-1")
        page.press("#key", "Enter")
        page.wait_for_selector("text=3 texts to search")
        page.reload()
        page.wait_for_selector("text=3 texts to search")
        assert page.evaluate("localStorage.length") == 0
        assert "a-good-key-1" not in page.content()


def test_without_an_index(open_page, serve):
    with serve(prepare=lambda service: setattr(service, "index", None)) as (address, _):
        page = open_page(f"{address}/", ready="text=No index is served here")
        page.click("#to-map")
        page.wait_for_selector("#map >> text=No index is served here")
        page.click("#to-try")
        page.wait_for_selector(".matrix table")


def points_on_canvas(page):
    """Middles of the coloured spots on the map's canvas, in pixels of the page, the largest spots first."""
    return page.evaluate(
        """() => {
          const canvas = document.querySelector("canvas.points");
          const { width, height } = canvas;
          const data = new Uint32Array(canvas.getContext("2d").getImageData(0, 0, width, height).data.buffer);
          const ground = data[0], seen = new Uint8Array(data.length), spots = [];
          for (let start = 0; start < data.length; start += 1) {
            if (seen[start] || data[start] === ground) continue;
            const stack = [start]; let [sx, sy, n] = [0, 0, 0];
            seen[start] = 1;
            while (stack.length) {
              const at = stack.pop(); sx += at % width; sy += Math.floor(at / width); n += 1;
              for (const by of [-1, 1, -width, width, -width - 1, 1 - width, width - 1, width + 1]) {
                const next = at + by;
                if (next >= 0 && next < data.length && !seen[next] && data[next] !== ground) {
                  seen[next] = 1; stack.push(next);
                }
              }
            }
            spots.push([sx / n, sy / n, n]);
          }
          const box = canvas.getBoundingClientRect(), ratio = width / box.width;
          return spots.map(([x, y, n]) => [box.left + (x + 0.5) / ratio, box.top + (y + 0.5) / ratio, n]);
        }"""
    )


def drawn(page):
    """Wait until the picture has been drawn twice over."""
    page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(done))))")


def test_the_map(open_page, address):
    page = open_page(f"{address}/#map", ready="canvas.points")
    drawn(page)
    assert page.inner_text("#map .status") == "8 texts"
    spots = points_on_canvas(page)
    assert len(spots) == 8
    x, y, _ = min(spots, key=lambda spot: -spot[0])  # the first row lies at the right
    page.mouse.move(x, y)
    page.wait_for_selector(".tip >> text=def add(a, b):")
    page.mouse.click(x, y)
    page.wait_for_selector(".details .text >> text=return a + b")
    assert "src/add.py:1–2" in page.inner_text(".details h2")
    assert page.locator(".details .line-number").all_inner_texts() == ["1", "2"]
    page.mouse.wheel(0, -300)
    drawn(page)
    assert len(points_on_canvas(page)) < 8  # the others are out of sight
    page.click("[aria-label='Show all']")
    drawn(page)
    assert len(points_on_canvas(page)) == 8
    page.focus("canvas.points")
    page.keyboard.press("Escape")
    assert "Click a point" in page.inner_text(".details")
    page.keyboard.press("Enter")
    page.wait_for_selector(".details .text")


def test_colours_lines_and_sides_of_the_map(open_page, address):
    page = open_page(f"{address}/#map", ready="canvas.points")
    drawn(page)
    entries = page.locator(".legend-list button")
    assert entries.count() == 6 and "eng-Latn" in entries.first.inner_text()
    before, wide = page.locator("canvas.points").screenshot(), points_on_canvas(page)
    entries.first.click()
    assert entries.first.get_attribute("aria-pressed") == "true"
    drawn(page)
    lit = page.locator("canvas.points").screenshot()
    assert lit != before
    page.click("text=Show all")
    page.select_option("select", "kind")
    assert page.locator(".legend-list button").all_inner_texts()[0].startswith("section")
    page.select_option("select", "language")
    drawn(page)
    assert page.locator("canvas.points").screenshot() == before
    page.check("input[type=checkbox]")
    drawn(page)
    assert len(points_on_canvas(page)) == 6  # three of them joined by two lines
    page.uncheck("input[type=checkbox]")
    page.get_by_role("radio", name="Before", exact=True).check()
    page.wait_for_timeout(900)  # the points travel for 0.7 s
    inner = points_on_canvas(page)
    assert len(inner) == 8 and np.ptp([x for x, _, _ in inner]) < 0.6 * np.ptp([x for x, _, _ in wide])


def test_hits_light_up_on_the_map(open_page, address):
    page = open_page(f"{address}/#search?q=sum&kind=section", ready=".hit")
    page.click("text=Show on the map")
    page.wait_for_selector(".map-hits li")
    assert page.inner_text("#map .status") == "8 texts; 8 hits lit up"
    page.set_viewport_size({"width": 1200, "height": 480})  # a long list beside the map must not stretch it
    assert page.locator(".stage").bounding_box()["height"] < 400
    page.locator(".map-hits li button").filter(has_text="docs/de/sum.md").click()
    page.wait_for_selector(".details .text >> text=Was ist die Summe")
    assert "Joined with 2 texts" in page.inner_text(".details")
    page.locator(".group button").filter(has_text="fra-Latn").click()
    page.wait_for_selector(".details .text >> text=Quelle est la somme")
    page.click("text=Clear")
    assert page.inner_text("#map .status") == "8 texts"


def test_trying_texts(open_page, address):
    page = open_page(f"{address}/#try", ready=".matrix table")
    assert page.locator(".matrix td.number").count() == 16
    assert page.locator(".matrix td.same").all_inner_texts() == ["1.00"] * 4
    page.fill("textarea >> nth=0", f"sum {EVIL}")
    page.wait_for_selector(".token-text >> nth=0 >> .token.text >> nth=20")
    shown = httpx.post(f"{address}/v1/tokens", json={"input": f"sum {EVIL}"}).json()["data"][0]
    chips = page.locator(".token-text").first.locator(".token")
    assert chips.locator("small").all_inner_texts() == [str(piece["id"]) for piece in shown["tokens"]]
    assert chips.locator("xpath=self::*[contains(@class, 'marker')]").count() == sum(
        piece["part"] == "marker" for piece in shown["tokens"]
    )
    page.get_by_role("radio", name="Query", exact=True).check()
    long = "many words " * 600
    page.fill("textarea >> nth=1", long)
    page.wait_for_selector("text=cut to 512")
    asked = {"input": long, "input_type": "query"}
    cut = httpx.post(f"{address}/v1/tokens", json=asked).json()["data"][0]["cut"]
    assert long.endswith(cut)
    assert page.text_content(".cut s") == cut[:2000]  # and the page says how many characters more there are
    for _ in range(3):
        page.locator("[aria-label='Remove text 1']").click()
    page.fill("textarea", "")
    page.wait_for_selector("text=No text yet")
    assert page.locator("main script, main img").count() == 0


@pytest.mark.parametrize("view", ["search?q=numbers", "map", "try"])
def test_narrow_screens_and_both_themes(open_page, address, view):
    ready = {"s": ".hit", "m": "canvas.points", "t": ".matrix table"}[view[0]]
    page = open_page(f"{address}/#{view}", ready=ready, viewport={"width": 360, "height": 740}, color_scheme="dark")
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    grounds = {}
    for _ in range(3):
        label = page.get_attribute("#tools button:last-child", "aria-label")
        grounds[label] = page.evaluate("getComputedStyle(document.body).backgroundColor")
        page.click("#tools button:last-child")
    assert grounds == {
        "Theme: follow the system": "rgb(22, 22, 21)",
        "Theme: light": "rgb(255, 255, 255)",
        "Theme: dark": "rgb(22, 22, 21)",
    }
    page.click("#tools button:last-child")
    page.reload()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"


CONTRAST = """() => {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const paint = (...colours) => {
    canvas.fillStyle = "#fff"; canvas.fillRect(0, 0, 1, 1);
    for (const colour of colours) { canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1); }
    return [...canvas.getImageData(0, 0, 1, 1).data.slice(0, 3)];
  };
  const light = (rgb) => {
    const [r, g, b] = rgb.map((v) => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const poor = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const text = walker.currentNode.data.trim(), node = walker.currentNode.parentElement;
    if (!text || !node.checkVisibility({ visibilityProperty: true, opacityProperty: true })) continue;
    const grounds = [];
    for (let up = node; up; up = up.parentElement) grounds.unshift(getComputedStyle(up).backgroundColor);
    const [a, b] = [light(paint(...grounds)), light(paint(...grounds, getComputedStyle(node).color))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) poor.push([text.slice(0, 40), ratio.toFixed(2)]);
  }
  return poor;
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_stands_out_from_its_ground(open_page, address, scheme):
    page = open_page(f"{address}/#search?q=numbers&kind=text", ready=".hit", color_scheme=scheme)
    assert page.evaluate(CONTRAST) == []
    page.click("#to-map")
    page.wait_for_selector("canvas.points")
    page.fill("#map input[type=search]", "sum")
    page.press("#map input[type=search]", "Enter")
    page.click(".map-hits li >> nth=0")
    page.wait_for_selector(".details .text")
    page.locator(".legend-list button").first.click()
    assert page.evaluate(CONTRAST) == []
    page.click("#to-try")
    page.wait_for_selector(".matrix table")
    assert page.evaluate(CONTRAST) == []
    unnamed = "button, input, select, textarea, canvas[role], [role=region]"
    for control in page.locator(unnamed).all():
        assert control.evaluate("node => node.ariaLabel || node.innerText || node.labels?.[0]?.innerText"), control


def test_the_page_says_what_it_may_load(address):
    for path in ("/", "/page/app.js", "/page/style.css"):
        answer = httpx.get(address + path)
        assert answer.status_code == 200
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy and "unsafe" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cache-control"] == "no-cache"
    assert httpx.get(f"{address}/page/nothing.js").status_code == 404
    assert httpx.get(f"{address}/page/..%2fmap.py").status_code == 404

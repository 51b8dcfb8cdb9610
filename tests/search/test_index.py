import pytest

from udever.errors import ContractError, DataError, RecipeError
from udever.search.index import MAX_READ_LINES, Index
from udever.search.searchable import Filters, full_language, fuse, matching_paths
from udever.search.words_weight import WORDS_WEIGHT

TREE = {
    "src/net/http.py": "def send(url):\n    return open_socket(url)\n",
    "src/net/old/ftp.py": "def send_file(url):\n    return open_socket(url)\n",
    "src/main.go": "package main\n\nfunc sendAll(url string) {\n\tdial(url)\n}\n",
    "docs/net.md": "# Network\n\nHow to send a url.\n",
    "docs/de/netz.md": "# Netz\n\nSo wird eine url verschickt: send.\n",
    "it's/odd.py": "def send_odd(url):\n    return 1\n",
}


@pytest.fixture
def found(store, tmp_path, put, embedder, index):
    index.update(store, [put(tmp_path / "tree", TREE)], embedder)
    return Index(store, tmp_path / "tree")


def sources(hits):
    return {hit.source for hit in hits}


def test_both_is_the_fusion_of_meaning_and_words(found, embedder):
    query = "send url open_socket"
    rankings = [
        [(hit.id, hit.score) for hit in found.search(embedder, query, 50, mode=mode)] for mode in ("meaning", "words")
    ]
    hits = found.search(embedder, query, 4)
    expected = fuse(*rankings, found.count(), WORDS_WEIGHT)
    assert [(hit.id, hit.score) for hit in hits] == [
        (name, pytest.approx(expected[name])) for name in list(expected)[:4]
    ]
    (hit,) = [hit for hit in found.search(embedder, query, 50) if hit.source == "src/net/http.py"]
    assert (hit.source, hit.kind, hit.language) == ("src/net/http.py", "function", "python-Code")
    assert (hit.id, hit.first_line, hit.last_line) == ("src/net/http.py:1-2", 1, 2)
    assert hit.text == "def send(url):\n    return open_socket(url)"


def test_words_need_no_model_and_find_only_what_says_them(found):
    assert sources(found.search(None, "openSocket", mode="words")) == {"src/net/http.py", "src/net/old/ftp.py"}
    assert found.search(None, "absent", mode="words") == found.search(None, "'; --", mode="words") == []
    assert sources(found.search(None, "main.go", mode="words")) >= {"src/main.go"}, "a path's words count too"


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        (Filters(languages=["python-Code"]), {"src/net/http.py", "src/net/old/ftp.py", "it's/odd.py"}),
        (Filters(languages=["go", "de"]), {"src/main.go", "docs/de/netz.md"}),
        (Filters(kinds=["section"]), {"docs/net.md", "docs/de/netz.md"}),
        (Filters(paths=["src/**"]), {"src/net/http.py", "src/net/old/ftp.py", "src/main.go"}),
        (Filters(paths=["src/net", "!old/"]), {"src/net/http.py"}),
        (Filters(paths=["!src", "!docs"]), {"it's/odd.py"}),
        (Filters(paths=["*.go", "docs/*.md"]), {"src/main.go", "docs/net.md"}),
        (Filters(paths=["src/**"], languages=["python-Code"], kinds=["class"]), set()),
        (Filters(paths=["it's/*"]), {"it's/odd.py"}),
        (Filters(paths=["' OR 1=1 --", "'; DROP TABLE chunks; --", "[", "\\", "**/**/**"]), set(TREE)),
        (Filters(paths=["' OR 1=1 --", "nothing"]), set()),
        (Filters(languages=["' OR 1=1 --"]), set()),
    ],
)
def test_filters_hold_in_every_mode(found, embedder, filters, expected):
    assert sources(found.search(embedder, "send url", 50, mode="meaning", filters=filters)) == expected
    assert sources(found.search(embedder, "send url", 50, filters=filters)) == expected
    for hit in found.search(embedder, "send url", 50, mode="words", filters=filters):
        assert hit.source in expected


def test_filters_come_first_so_that_top_k_is_full(lance, tmp_path, put, embedder, index):
    tree = {f"a/{n}.md": f"# Same words\n\nsame words here {n}\n" for n in range(120)}
    put(tmp_path / "tree", {**tree, **{f"b/{n}.md": f"# Other\n\nlast {n}\n" for n in range(20)}})
    index.update(lance, [tmp_path / "tree"], embedder)
    filters = Filters(paths=["b/"])
    for mode, number in (("meaning", 20), ("both", 20), ("words", 20)):
        hits = Index(lance).search(embedder, "same words last", 20, mode=mode, filters=filters)
        assert len(hits) == number and all(hit.source.startswith("b/") for hit in hits)


def test_what_cannot_be_asked(found, embedder):
    with pytest.raises(DataError, match="kind is 'method'; expected one of function, class"):
        found.search(embedder, "x", filters=Filters(kinds=["method"]))
    with pytest.raises(DataError, match="mode is 'hybrid'; expected one of meaning, words, both"):
        found.search(embedder, "x", mode="hybrid")
    with pytest.raises(DataError, match="top_k is 0"):
        found.search(embedder, "x", 0)


def test_languages_may_be_named_shortly():
    given = ["python", "de", "zh-TW", "eng-Latn", "c++", "c++-Code"]
    expected = ["python-Code", "deu-Latn", "zho-Hant", "eng-Latn", "c++-Code", "c++-Code"]
    assert [full_language(name) for name in given] == expected


def test_path_patterns_become_files():
    files = dict.fromkeys(["a/b.py", "c.py"])
    assert list(matching_paths(["a/"], files)) == ["a/b.py"]


def test_lines_are_read_from_indexed_files_alone(found, tmp_path, put):
    tree = tmp_path / "tree"
    put(tmp_path, {"secret.txt": "secret"})
    got = found.read("src/main.go", 3, 4)
    assert (got.text, got.num_lines, got.changed) == ("func sendAll(url string) {\n\tdial(url)", 5, False)
    for path in ("../secret.txt", str(tmp_path / "secret.txt"), "src/../../secret.txt", "src", ""):
        with pytest.raises(DataError, match="is not in the index"):
            found.read(path)
    with pytest.raises(DataError, match="it has 5"):
        found.read("src/main.go", 6, 7)
    with pytest.raises(DataError, match="it has 5"):
        found.read("src/main.go", 0)
    put(tree, {"src/main.go": "\n".join(map(str, range(1_000)))})
    got = found.read("src/main.go", 2, 999)
    assert got.changed and (got.first_line, got.last_line) == (2, MAX_READ_LINES + 1)
    (tree / "src/main.go").unlink()
    with pytest.raises(DataError, match=r"does not exist; run udever index again"):
        found.read("src/main.go")
    (tree / "src/main.go").symlink_to(tmp_path / "secret.txt")
    with pytest.raises(DataError, match="leads out of"):
        found.read("src/main.go")


def test_status_and_points(found):
    status = found.status()
    assert (status.num_files, status.num_chunks, status.fingerprint, status.search) == (6, 7, "abc123", "exact")
    rows = found.vectors(3)
    assert len(rows.ids) == 3 and rows.embeddings.shape == (3, 64) and rows.num_rows == 7
    assert found.vectors(100).ids[:3] == rows.ids
    assert found.vectors(100, rows.ids).ids == rows.ids


def test_a_reader_sees_what_another_process_rebuilt(lance, tmp_path, put, embedder, other_embedder, index, monkeypatch):
    from udever.search.lance import LanceStore

    monkeypatch.setattr("udever.search.index._FRESH_S", -1)
    monkeypatch.setattr("udever.search.lance._FRESH_S", 0)
    index.update(lance, [put(tmp_path / "tree", TREE)], embedder)
    reader = Index(LanceStore(lance.folder))
    assert len(reader.search(embedder, "send", 50, mode="meaning")) == 7
    (tmp_path / "tree" / "docs" / "net.md").unlink()
    index.update(lance, [tmp_path / "tree"], other_embedder, model="other", rebuild=True)
    with pytest.raises(ContractError, match="def456"):
        reader.search(embedder, "send")
    assert len(reader.search(other_embedder, "send", 50, mode="meaning")) == 6
    assert len(reader.search(None, "send", 50, mode="words")) == 5


def test_there_is_no_index(store):
    with pytest.raises(DataError, match="holds no index"):
        Index(store)


def test_filters_that_nothing_passes_are_told(found):
    def notes(**filters):
        return found.notes("send", "both", Filters(**filters))

    assert notes() == notes(languages=["python"], paths=["src/**"]) == []
    (said,) = notes(languages=["python", "ts"])
    assert said.startswith("no file has the language ts-Code; there are python-Code, ") and "go-Code" in said
    assert notes(paths=["tree/**"]) == ["no path matches 'tree/**'; paths begin with docs/, it's/, src/"]


def test_patterns_cost_what_they_are_long(found):
    import time

    start_s = time.monotonic()
    assert found.search(None, "send", mode="words", filters=Filters(paths=["?*" * 40 + "Z", "*a" * 200 + "b"])) == []
    assert time.monotonic() - start_s < 2
    with pytest.raises(DataError, match="at most 64"):
        found.search(None, "send", mode="words", filters=Filters(paths=["a"] * 65))
    with pytest.raises(RecipeError, match="characters"):
        found.search(None, "send", mode="words", filters=Filters(paths=["a" * 5000]))


def test_patterns_have_a_time_limit(found, monkeypatch):
    monkeypatch.setattr("udever.search.searchable._PATTERNS_S", -1)
    with pytest.raises(DataError, match="fewer, simpler ones"):
        found.search(None, "send", mode="words", filters=Filters(paths=["*"]))


def test_questions_are_bounded(found):
    with pytest.raises(DataError, match="8,192"):
        found.search(None, "a" * 8193, mode="words")
    many = "send " + " ".join(f"w{n}" for n in range(1000))
    assert found.search(None, many, mode="words")
    assert found.notes(many, "words", Filters())[0].endswith("words of the query were not looked up")
    assert found.notes(many, "meaning", Filters()) == []

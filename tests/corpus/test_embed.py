import json
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

from udever.corpus import embed, embed_file
from udever.errors import DataError, OutputError, RecipeError, TextError
from udever.index import read

TEXTS = [f"text number {row} " + "word " * (row % 12) for row in range(25)]


@pytest.fixture
def texts_file(tmp_path):
    path = tmp_path / "texts.jsonl"
    path.write_text("".join(json.dumps({"id": f"t{row}", "text": text}) + "\n" for row, text in enumerate(TEXTS)))
    return path


@pytest.fixture(autouse=True)
def small_windows(monkeypatch):
    monkeypatch.setattr(embed, "WINDOW", 10)


def test_every_text_in_order(embedder, texts_file, tmp_path):
    summary = embed_file(embedder, texts_file, tmp_path / "out" / "e.parquet", show_progress=False)
    header, table = read(tmp_path / "out" / "e.parquet")
    assert (header.fingerprint, header.dimensions, header.role) == ("abc123", 64, "document")
    assert table.ids == [f"t{row}" for row in range(25)] and table.texts == TEXTS
    assert embedder.calls == [("document", 10), ("document", 10), ("document", 5)]
    np.testing.assert_array_equal(table.embeddings, embedder.encode_document(TEXTS))
    num_words = np.array([len(text.split()) for text in TEXTS])
    np.testing.assert_array_equal(table.num_tokens, np.minimum(num_words, 8))
    np.testing.assert_array_equal(table.truncated, num_words > 8)
    assert (summary.num_rows, summary.num_tokens) == (25, int(np.minimum(num_words, 8).sum()))
    assert summary.num_truncated == (num_words > 8).sum() > 0
    assert summary.seconds > 0


@pytest.mark.parametrize("role", ["query", "document", "symmetric"])
def test_role_and_dimensions(embedder, texts_file, tmp_path, role):
    output = tmp_path / "e.parquet"
    embed_file(embedder, texts_file, output, role=role, dimensions=16, show_progress=False)
    header, table = read(output)
    assert (header.role, header.dimensions, table.embeddings.shape) == (role, 16, (25, 16))
    assert {called for called, _ in embedder.calls} == {role}


@pytest.mark.parametrize("options", [{"role": "passage"}, {"dimensions": 65}, {"dimensions": 0}])
def test_options_that_do_not_exist(embedder, texts_file, tmp_path, options):
    with pytest.raises(RecipeError, match=r"role is 'passage'|dimensions is (65|0); expected 1 to 64"):
        embed_file(embedder, texts_file, tmp_path / "e.parquet", show_progress=False, **options)
    with pytest.raises(TypeError, match="roll"):
        embed_file(embedder, texts_file, tmp_path / "e.parquet", roll="query")


def test_a_bad_row_leaves_nothing(embedder, texts_file, tmp_path):
    with texts_file.open("a") as file:
        file.write('{"id": "t25", "text": null}\n')
    before = sorted(tmp_path.iterdir())
    with pytest.raises(DataError, match=r"texts\.jsonl row 25: 'text' is null"):
        embed_file(embedder, texts_file, tmp_path / "e.parquet", show_progress=False)
    assert sorted(tmp_path.iterdir()) == before


def test_a_text_the_model_refuses_is_traced_to_the_file(embedder, texts_file, tmp_path):
    def refuse(texts, **_):
        raise TextError("row 3 is empty")

    embedder.encode_document = refuse
    with pytest.raises(TextError, match=r"texts\.jsonl, in the texts from row 0 on: row 3 is empty"):
        embed_file(embedder, texts_file, tmp_path / "e.parquet", show_progress=False)


def test_no_texts_and_no_overwriting_the_input(embedder, tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("\n\n")
    with pytest.raises(DataError, match="holds no texts"):
        embed_file(embedder, path, tmp_path / "e.parquet", show_progress=False)
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(OutputError, match="is the input"):
        embed_file(embedder, path, path, show_progress=False)


def test_a_full_disk_is_an_output_error_and_leaves_nothing(tmp_path):
    """A limit on the size of files stands in for the full disk: writing fails in the middle of the file."""
    script = textwrap.dedent("""
        import importlib.util, resource, signal, sys
        from udever.corpus import embed, embed_file
        from udever.errors import OutputError

        spec = importlib.util.spec_from_file_location("fake", sys.argv[1])
        fake = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(fake)
        embed.WINDOW = 50
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
        try:
            embed_file(fake.FakeEmbedder(), sys.argv[2], sys.argv[3], show_progress=False)
        except OutputError as error:
            print(error)
    """)
    texts, output = tmp_path / "a.txt", tmp_path / "e.parquet"
    rng = np.random.default_rng(0)
    texts.write_text("\n".join(" ".join(map(str, rng.integers(0, 10**9, 60))) for _ in range(300)))
    output.write_text("what was there before")
    fake = str(Path(__file__).parents[1] / "index" / "conftest.py")
    command = [sys.executable, "-c", script, fake, str(texts), str(output)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert f"cannot write {output}" in done.stdout and "free some space" in done.stdout
    assert output.read_text() == "what was there before"
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.txt", "e.parquet"]

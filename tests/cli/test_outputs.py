"""Every command that writes a folder leaves one that is not its own alone, and says so in one line."""

import json

import pytest

from udever.embedder import Embedder
from udever.errors import OutputError
from udever.pairs.files import write_pairs
from udever.pairs.schema import Pair

OLD = ("udever.json", "results.json", "checkpoint.json", "filter.json", "job.json", "manifest.json")
"""Names that folders of this project have, and others too."""


@pytest.fixture
def place(tmp_path, make):
    """A folder with everything that commands read, and one to write to that holds somebody's thesis."""
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "ex.csv").write_text("text,label\na,b\n")
    pair = json.dumps({"anchor": "a", "positive": "b", "kind": "asymmetric"})
    (tmp_path / "in" / "pairs.jsonl").write_text(f"{pair}\n")
    (tmp_path / "p").mkdir()
    for name in (*OLD, "thesis.txt"):
        (tmp_path / "p" / name).write_text("{}" if name in OLD else "years of work")
    return tmp_path


def recipe(folder, output):
    path = folder / "recipe.toml"
    data = json.dumps([str(folder / "in" / "pairs.jsonl")])
    path.write_text(f'[model]\nbase = "seedling"\n[data]\npairs = {data}\n[output]\nfolder = "{output}"\n')
    return path


COMMANDS = {
    "classify fit": lambda f, out: ("classify", "fit", f / "in", "-m", "seedling", "-o", out),
    "report": lambda f, out: ("report", f / "in", "-o", out),
    "plane": lambda f, out: ("plane", f / "in", "--before", "seedling", "-m", "seedling", "-o", out),
    "merge": lambda f, out: ("merge", "-m", f / "in", "-m", f / "in", "-o", out),
    "quantize": lambda f, out: ("quantize", "-m", f / "in", "-o", out),
    "export": lambda f, out: ("export", "-m", f / "in", "-o", out, "--format", "onnx"),
    "train": lambda f, out: ("train", recipe(f, out)),
    "adapt": lambda f, out: ("adapt", f / "in", "-o", out),
    "adapt --plan": lambda f, out: ("adapt", f / "in", "-o", out, "--plan"),
    "demo": lambda f, out: ("demo", "-o", out),
    "embed": lambda f, out: ("embed", f / "in", "-m", "seedling", "-o", out),
    "eval": lambda f, out: ("eval", "-m", "random", "--data", f / "in", "-o", out),
    "index": lambda f, out: ("index", f / "in", "-m", "seedling", "-o", out),
}


def content(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("command", sorted(COMMANDS.keys() - {"eval"}))
def test_a_folder_of_others_is_left_alone(udever, place, command):
    before = content(place / "p")
    code, _, error = udever(*COMMANDS[command](place, place / "p"))
    assert code == 2 and error.count("\n") == 1, error
    assert f"{place / 'p'} holds files that are" in error and "such as" in error
    assert content(place / "p") == before


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_the_folder_one_is_in_and_a_file_are_refused(udever, place, monkeypatch, command):
    (place / "here").mkdir()
    monkeypatch.chdir(place / "here")
    before = content(place)
    for out, told in ((".", "the folder you are in"), (place / "p" / "thesis.txt", "it is a file")):
        code, _, error = udever(*COMMANDS[command](place, out))
        assert code == 2 and error.count("\n") == 1, error
        assert told in error
    (place / "recipe.toml").unlink(missing_ok=True)
    assert content(place) == before


@pytest.mark.parametrize("command", ["adapt", "adapt --plan", "demo", "train", "quantize"])
def test_a_place_where_nothing_can_be_written_is_refused_before_any_work(udever, place, command):
    before = content(place)
    thesis = place / "p" / "thesis.txt"
    for out, told in ((thesis / "x", f"{thesis} is a file"), ("/proc/x", "cannot write /proc/x: No such file")):
        code, printed, error = udever(*COMMANDS[command](place, out))
        assert (code, printed, error.count("\n")) == (2, "", 1), error
        assert told in error
    (place / "recipe.toml").unlink(missing_ok=True)
    assert content(place) == before


@pytest.mark.parametrize("command", sorted(COMMANDS.keys() - {"index", "demo", "train"}))
def test_an_output_inside_an_input_is_refused(udever, place, command):
    code, _, error = udever(*COMMANDS[command](place, place / "in" / "new"))
    assert code == 2 and error.count("\n") == 1 and "lies in the input" in error, error
    assert not (place / "in" / "new").exists()


FILES = {
    "pairs": lambda f, out: ("pairs", f / "in" / "pairs.jsonl", f / "in" / "made.parquet", "-o", out),
    "negatives": lambda f, out: ("negatives", f / "in" / "made.parquet", "--mode", "words", "-o", out),
    "negatives, corpus": lambda f, out: (
        *("negatives", f / "in" / "pairs.jsonl", "--corpus", f / "in" / "made.parquet", "--mode", "words", "-o", out),
    ),
    "bits": lambda f, out: ("bits", f / "in" / "made.parquet", "-m", "seedling", "-o", out),
    "map": lambda f, out: ("map", f / "in" / "made.parquet", "-o", out),
    "map, before": lambda f, out: ("map", f / "in" / "pairs.jsonl", "--before", f / "in" / "made.parquet", "-o", out),
    "map, rows": lambda f, out: ("map", f / "in" / "pairs.jsonl", "--rows", f / "in" / "*.parquet", "-o", out),
    "export": lambda f, out: ("export", "-m", f / "in" / "made.parquet", "-o", out, "--format", "gguf"),
}


@pytest.mark.parametrize("name", ["in/made.parquet", "in/../in/made.parquet", "link.parquet", "hard.parquet"])
@pytest.mark.parametrize("command", sorted(FILES))
def test_a_file_does_not_replace_an_input(udever, place, command, name):
    made = place / "in" / "made.parquet"
    write_pairs([Pair("a", "b"), Pair("c", "d")], made)
    (place / "link.parquet").symlink_to(made)
    (place / "hard.parquet").hardlink_to(made)
    before = content(place)
    code, _, error = udever(*FILES[command](place, place / name))
    assert code == 2 and error.count("\n") == 1 and "it is the input" in error, error
    assert content(place) == before


IN_FOLDERS = {
    "bits": lambda f, out: ("bits", f / "in" / "ex.csv", "-m", f / "p", "-o", out),
    "map": lambda f, out: ("map", f / "p", "-o", out),
    "export": lambda f, out: ("export", "-m", f / "p", "-o", out, "--format", "gguf"),
}


@pytest.mark.parametrize("command", sorted(IN_FOLDERS))
def test_a_file_does_not_replace_one_of_an_input_folder(udever, place, command):
    before = content(place)
    code, _, error = udever(*IN_FOLDERS[command](place, place / "p" / "thesis.txt"))
    assert code == 2 and error.count("\n") == 1 and f"it is a file of the input {place / 'p'}" in error, error
    assert content(place) == before


def test_pairs_of_a_folder_may_lie_in_it(udever, place):
    (place / "in" / "a.py").write_text(
        'def halve(x):\n    """Divide a number by two."""\n    half = x / 2\n    return half\n'
    )
    for _ in range(2):
        code, _, error = udever("pairs", place / "in", "-o", place / "in" / "mined.parquet")
        assert code == 0, error


def test_a_recipe_does_not_replace_its_own_base_or_data(udever, place):
    code, _, error = udever("train", recipe(place, place / "in"))
    assert code == 2 and "lies in it" in error


def test_save_leaves_others_files_alone(place, decoders):
    embedder = Embedder.load(decoders("bloom"), dtype="float32", device="cpu")
    before = content(place / "p")
    with pytest.raises(OutputError, match="not an earlier output"):
        embedder.save(place / "p")
    assert content(place / "p") == before
    embedder.save(place / "new")
    (place / "link").symlink_to("new")
    embedder.save(place / "link")
    assert (place / "link").is_symlink()
    (place / "new" / "notes.md").write_text("mine")
    with pytest.raises(OutputError, match=r"did not write: notes\.md"):
        embedder.save(place / "link")
    assert (place / "new" / "notes.md").read_text() == "mine"

"""The English experiment: its data, its recipe and its table, on tables made here."""

import argparse
import json
import runpy
import sys
import tomllib
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from udever.evaluation.tasks import find_tasks
from udever.training.recipe import Recipe

RECIPE = Path(__file__).parents[2] / "recipes" / "language_model"


@pytest.fixture
def recipe(monkeypatch):
    """A script of the recipe as its names."""
    monkeypatch.syspath_prepend(str(RECIPE))
    for path in RECIPE.glob("*.py"):
        monkeypatch.delitem(sys.modules, path.stem, raising=False)
    return lambda name: runpy.run_path(str(RECIPE / f"{name}.py"))


def table(path, **columns):
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path)


@pytest.fixture
def folder(tmp_path, recipe):
    """A folder of public sets, a few rows each, half of them not English."""
    data = recipe("data")
    for source in data["SOURCES"]:
        table(
            tmp_path / "in" / "pairs" / f"{source.file}.parquet",
            anchor=["a question", "eine Frage"] * 3,
            positive=["its answer " * 200, "ihre Antwort"] * 3,
            negative=["no answer", None] * 3,
            anchor_language=["en", "de"] * 3,
            positive_language=["en", "en"] * 3,
            source=["s"] * 6,
            licence=["MIT"] * 6,
            score=[4.0, 1.0] * 3,
            group=["g"] * 6,
        )
    evaluation = tmp_path / "in" / "eval"
    for name in ["en", *data["LANGUAGES"]]:
        table(evaluation / f"xquad_r/{name}.corpus.parquet", id=["p"], title=[""], text=[f"passage {name}"])
        table(evaluation / f"xquad_r/{name}.queries.parquet", id=["q"], text=[f"question {name}"])
        table(evaluation / f"xquad_r/{name}.qrels.parquet", query_id=["q"], corpus_id=["p"], score=[1])
    for name in [*data["XTREME"], "ang"]:
        table(evaluation / f"tatoeba/{name}-eng.parquet", sentence1=["a"], sentence2=["b"])
    for name in ("de", "en", "es", "ru", "zh"):
        table(
            evaluation / f"stsb_multi/{name}.parquet",
            sentence1=["a", "c"],
            sentence2=["b", "d"],
            score=[1.0, 2.0],
            split=["test", "dev"],
        )
    languages = [*data["LANGUAGES"].values(), "eng-Latn"]
    tatoeba = [f"{name}-Latn" for name in [*data["XTREME"], "ang", "eng"]]
    specs = {
        "xquad_r": {"type": "retrieval", "languages": languages},
        "stsb_multi": {"type": "sts", "languages": ["eng-Latn"]},
        "tatoeba": {"type": "bitext", "languages": tatoeba},
    }
    for name, spec in specs.items():
        more = {"name": name, "licence": "MIT", "source_repo": "r", "source_commit": "c", "splits": {"test": {}}}
        (evaluation / name / "task.json").write_text(json.dumps(spec | more))
    return tmp_path / "in"


def test_only_english_pairs_are_taken_and_none_twice(folder, tmp_path, recipe):
    data = recipe("data")
    counts = data["write_pairs"](folder / "pairs", tmp_path / "pairs", graded=True)
    assert counts == {source.file: 3 for source in data["SOURCES"]}
    for source in data["SOURCES"]:
        rows = pq.read_table(tmp_path / "pairs" / f"{source.file}.parquet").to_pylist()
        assert {row["anchor"] for row in rows} == {"a question"}
        assert {row["kind"] for row in rows} == {source.kind}
        assert all(row["scores"] == ([0.8] if source.graded else None) for row in rows)
        assert all(
            len(row["positive"]) <= data["MAX_CHARACTERS"] and row["positive"].split()[-1] in ("its", "answer")
            for row in rows
        )


def test_graded_pairs_are_asked_of_nobody_who_does_not_train_on_them(folder, tmp_path, recipe):
    data, english = recipe("data"), recipe("english")
    (graded,) = (source for source in data["SOURCES"] if source.graded)
    (folder / "pairs" / f"{graded.file}.parquet").unlink()
    counts = data["write_pairs"](folder / "pairs", tmp_path / "pairs")
    assert graded.file not in counts and len(counts) == len(data["SOURCES"]) - 1
    options = argparse.Namespace(suffix="\nword:", steps=3, learning_rate=1e-3, temperature=0.03, memory_gb=2.0, seed=0)
    paths = {tmp_path / "pairs" / f"{name}.parquet": 1.0 for name in counts}
    assert "graded =" not in english["recipe"](options, "b", paths, tmp_path / "model")
    more = {**paths, tmp_path / f"{graded.file}.parquet": 0.1}
    with_grades = english["recipe"](options, "b", more, tmp_path / "model")
    (tmp_path / "recipe.toml").write_text(with_grades)
    read = Recipe.read(tmp_path / "recipe.toml")
    assert read.loss.graded == 1 and read.loss.temperature == 0.03
    assert read.model.suffix == "\nword:"
    options.suffix = ""
    (tmp_path / "recipe.toml").write_text(english["recipe"](options, "b", more, tmp_path / "model"))
    plain = Recipe.read(tmp_path / "recipe.toml").model
    assert (plain.base, plain.markers, plain.suffix) == ("b", "eos", "")
    assert [dataset.in_batch_negatives for dataset in read.data.datasets] == [True] * len(counts) + [False]


def test_of_translations_sides_are_in_languages_drawn_apart_and_know_their_group(tmp_path, recipe):
    every = recipe("all_languages")
    for wanted in every["SETS"]:
        parallel = wanted.file.startswith("parallel")
        grouped = parallel or wanted.file in ("nli_xnli_dev", "qa_mlqa_dev")
        languages = ["en", "de", "zh"]
        rows = [
            {
                "anchor": f"{'en' if parallel else language} says number {number} at some length",
                "positive": f"{language} means number {number} " + "on and on " * 60,
                "negative": f"{language} denies number {number}",
                "anchor_language": "en" if parallel else language,
                "positive_language": language,
                "group": f"g{number}" if grouped else None,
                "source": "s",
                "licence": "MIT",
            }
            for number in range(200)
            for language in languages[parallel:]
        ]
        (tmp_path / "in").mkdir(exist_ok=True)
        pq.write_table(pa.Table.from_pylist(rows), tmp_path / "in" / f"{wanted.file}.parquet")
    shares = every["write_all"](tmp_path / "in", tmp_path / "out")
    assert sum(shares.values()) == pytest.approx(1)
    for wanted in every["SETS"]:
        path = tmp_path / "out" / f"{wanted.file}.parquet"
        rows = pq.read_table(path).to_pylist()
        number = [row["anchor"].split(" number ")[1].split()[0] for row in rows]
        assert [row["positive"].split(" number ")[1].split()[0] for row in rows] == number
        assert all(row["anchor"].startswith(row["anchor_language"]) for row in rows)
        assert all(row["positive"].startswith(row["positive_language"]) for row in rows)
        assert all(text.startswith(row["positive_language"]) for row in rows for text in row["negatives"])
        assert max(len(row["positive"]) for row in rows if row["positive_language"] == "zh") <= 140
        mixed = sum(row["anchor_language"] != row["positive_language"] for row in rows)
        if rows[0]["group"] is None:
            assert len(rows) == 600 and not mixed
        else:
            assert [row["group"] for row in rows] == [f"g{n}" for n in number]
            assert len(rows) == 200 * wanted.draws and mixed > len(rows) / 2
            assert {row["anchor_language"] for row in rows} == {"en", "de", "zh"}


def test_questions_in_every_language_search_the_english_passages(folder, tmp_path, recipe):
    data = recipe("data")
    data["write_tasks"](folder / "eval", tmp_path / "tasks")
    [task] = find_tasks(tmp_path / "tasks" / "xquad_across")
    assert set(task.subsets) == {f"{name}-en" for name in data["LANGUAGES"]}
    assert list(task.subsets["zh-en"]) == ["zho-Hans", "eng-Latn"]
    assert task.read("de-en", "corpus")["text"] == ["passage en"]
    assert task.read("de-en", "queries")["text"] == ["question de"]
    assert len(find_tasks(tmp_path / "tasks" / "tatoeba")[0].subsets) == 36


def test_the_recipe_is_one_that_train_reads(tmp_path, recipe):
    english = recipe("english")
    filled = english["RECIPE"].format(
        base="b",
        closing='markers = "eos"',
        datasets='[[data.datasets]]\npath = "p.parquet"\n',
        graded="",
        steps=3,
        memory_gb=2.0,
        seed=1,
        output="out",
        learning_rate=1e-3,
        temperature=0.03,
    )
    (tmp_path / "recipe.toml").write_text(filled)
    read = Recipe.read(tmp_path / "recipe.toml")
    assert (read.model.base, read.training.max_steps, read.training.seed) == ("b", 3, 1)
    assert [dataset.path for dataset in read.data.all_datasets] == ["p.parquet"]


def test_the_table_is_of_the_newest_results_and_the_picture_has_every_bar(tmp_path, recipe):
    headline = recipe("headline")
    scores = [
        {"hf_subset": name, "main_score": value, "main_score_low": value - 0.1, "main_score_high": value + 0.1}
        for name, value in (("en", 0.9), ("de", 0.6), ("fr", 0.8))
    ]
    for model in ("ours", "other"):
        path = tmp_path / "results" / f"local__{model}" / "revision" / "xquad_r.json"
        path.parent.mkdir(parents=True)
        (path.parent / "model_meta.json").write_text(json.dumps({"name": f"local/{model}"}))
        path.write_text(json.dumps({"scores": {"validation": scores}}))
    headline["write_headline"](tmp_path / "results", tmp_path, ("ours", "other", "missing"))
    lines = (tmp_path / "table.md").read_text().splitlines()
    assert [line.split(" | ")[0] for line in lines[2:]] == ["| ours", "| other"]
    assert "| ours | 0.900 ± 0.100 | 0.700 ± 0.100 |" in lines[2]
    svg = (tmp_path / "english.svg").read_text()
    assert all(text in svg for text in (">0.90<", ">0.70<", ">ours<", ">other<", ">XQuAD, English<"))
    assert "missing" not in svg


@pytest.mark.parametrize("arguments", [[], ["--data", "/nowhere"]])
def test_without_data_the_sets_are_named(arguments, recipe, monkeypatch, capsys):
    monkeypatch.delenv("UDEVER_DATA", raising=False)
    monkeypatch.setattr(sys, "argv", ["english.py", *arguments])
    with pytest.raises(SystemExit) as stopped:
        recipe("english")["main"]()
    assert stopped.value.code == 2
    assert "qa_tydi" in capsys.readouterr().err


def test_what_the_scores_need_is_asked_for_before_the_training(folder, recipe, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["english.py", "--data", str(folder)])
    english = recipe("english")
    monkeypatch.setitem(english["_options"].__globals__, "find_spec", lambda name: None if name == "mteb" else object())
    with pytest.raises(SystemExit) as stopped:
        english["main"]()
    assert stopped.value.code == 2
    message = capsys.readouterr().err
    assert "error: mteb cannot be imported" in message and "pip install 'udever[gguf,eval,figures]'" in message


def test_development_tasks_hold_no_row_of_a_test_part(folder, tmp_path, recipe):
    data = recipe("data")
    mlqa = folder / "pairs" / "qa_mlqa_dev.parquet"
    rows = [
        {"anchor": f"{kind} {name} {number}", "positive": f"passage {name} {number}", "group": str(number)}
        | {"anchor_language": name, "positive_language": name}
        for kind in ("question",)
        for name in ("en", "ar", "de", "es", "hi", "vi", "zh")
        for number in range(2)
    ]
    pq.write_table(pa.Table.from_pylist(rows), mlqa)
    languages = list(recipe("development")["LANGUAGES"])
    long = ["a sentence of the course that is long enough " + name for name in languages]
    table(
        folder / "pairs" / "docs_courses_react.parquet",
        anchor=["heading"] * len(languages) + ["heading"],
        positive=[f"section {name}" for name in languages] + ["another section of the last one"],
        anchor_language=[*languages, languages[-1]],
    )
    table(
        folder / "pairs" / "parallel_beginner_courses.parquet",
        anchor=[*long, "short"],
        positive=[f"segment {name}" for name in languages] + ["short"],
        positive_language=[*languages, "zh"],
    )
    recipe("development")["write_development"](folder, tmp_path / "tasks")
    found = {task.name: task for task in find_tasks(tmp_path / "tasks")}
    assert set(found) == {"stsb_dev", "mlqa_dev", "mlqa_across", "headings", "segments"}
    assert pq.read_table(tmp_path / "tasks" / "stsb_dev" / "de.parquet")["sentence1"].to_pylist() == ["c"]
    assert found["mlqa_across"].read("zh-en", "corpus")["text"] == ["passage en 0", "passage en 1"]
    assert found["mlqa_across"].read("zh-en", "queries")["text"] == ["question zh 0", "question zh 1"]
    assert list(found["mlqa_dev"].subsets["hi"]) == ["hin-Deva", "hin-Deva"]
    assert set(found["headings"].subsets) == set(languages)
    assert found["headings"].read(languages[-1], "corpus")["text"] == [f"section {languages[-1]}"]
    assert set(found["segments"].subsets) == {f"{name}-en" for name in languages if name != "en"}
    zh = pq.read_table(tmp_path / "tasks" / "segments" / "zh-en.parquet").to_pylist()
    assert zh == [{"sentence1": "segment zh", "sentence2": long[languages.index("zh")]}]
    assert data["SOURCES"]


def test_an_arm_changes_the_lines_it_names_and_no_other(tmp_path, recipe):
    arms, english = recipe("arms"), recipe("english")
    filled = english["RECIPE"].format(
        base="b", closing='markers = "eos"',
        datasets='[[data.datasets]]\npath = "p.parquet"\n', steps=3, memory_gb=2.0, seed=1, output="out",
        learning_rate=1e-3, temperature=0.03, graded="",
    )  # fmt: skip
    for key, arm in arms["ARMS"].items():
        (tmp_path / "recipe.toml").write_text(arms["changed"](filled, arm.changes))
        read = Recipe.read(tmp_path / "recipe.toml")
        for name, value in arm.changes.items():
            section, field = name.split(".")
            assert getattr(getattr(read, section), field) == tomllib.loads(f"x = {value}")["x"], key
        assert read.model.base == "b"
        assert read.training.max_steps == int(arm.changes.get("training.max_steps", 3))


def test_profiles_after_pairs_in_two_languages_are_compared(tmp_path, recipe):
    for name, scores in (("en", [0.2, 0.4, 0.9]), ("es", [0.4, 0.8, 1.8]), ("zh", [0.9, 0.4, 0.2])):
        path = tmp_path / f"local__in_{name}-0" / "revision" / "segments.json"
        path.parent.mkdir(parents=True)
        rows = [{"hf_subset": f"{n}-en", "main_score": score} for n, score in enumerate(scores)]
        path.write_text(json.dumps({"scores": {"test": rows}}))
    said = recipe("arms")["tables"](tmp_path)
    assert "| en, es | 1.00 |" in said and "| es, zh | -0.88 |" in said and "fr," not in said


def test_a_base_of_the_first_layers_computes_as_the_base_does_up_to_there(tmp_path, recipe, make):
    import torch
    from transformers import AutoModel

    from udever import Embedder

    make.decoder("gemma3_text", tmp_path / "whole", num_hidden_layers=3)
    recipe("bases")["first_layers"](str(tmp_path / "whole"), tmp_path / "first", 1)
    with pytest.raises(SystemExit, match=r"4 layers of .*; expected 1 to 3"):
        recipe("bases")["first_layers"](str(tmp_path / "whole"), tmp_path / "more", 4)
    first = Embedder.load(tmp_path / "first", dtype="float32")
    theirs = AutoModel.from_pretrained(tmp_path / "whole").eval()
    theirs.layers = theirs.layers[:1]
    with torch.no_grad():
        hidden = theirs(torch.tensor([[5, 6, 7]])).last_hidden_state[:, -1]
        ours = first.embed_tokens([[5, 6, 7]])
    assert torch.allclose(ours, hidden, atol=0.01)  # written in bfloat16, as bases are loaded


def test_neighbours_are_counted_by_language_and_by_what_they_say(tmp_path, recipe):
    import numpy as np

    neighbours = recipe("neighbours")
    folder = tmp_path / "tasks" / "segments"
    for language in ("de", "zh"):
        table(
            folder / f"{language}-en.parquet",
            sentence1=[f"{language} one", f"{language} two"],
            sentence2=["one in English", "two in English"],
        )
    segments = neighbours["read"](folder)
    assert list(segments.languages) == ["de", "de", "zh", "zh", "en", "en"]
    meaning = np.eye(2, dtype=np.float32)[[0, 1, 0, 1, 0, 1]]
    language = np.eye(3, dtype=np.float32)[[0, 0, 1, 1, 2, 2]]
    assert neighbours["shares"](meaning, segments) == (1.0, 0.0)
    assert neighbours["shares"](language, segments) == (0.0, 1.0)
    shown = {"before": np.hstack([language, meaning]), "after": np.hstack([meaning, language])}
    neighbours["draw"](shown, segments, tmp_path / "picture.svg")
    svg = (tmp_path / "picture.svg").read_text()
    assert ">before<" in svg and ">after<" in svg and ">zh<" in svg


def test_languages_are_ordered_by_how_well_they_are_read(tmp_path, recipe):
    languages = recipe("languages")
    read = {"de": 1.1, "sw": 1.9, "hi": 1.4}
    scores = {
        "in_en": {"de-en": 0.9, "sw-en": 0.1, "hi-en": 0.4},
        "in_all": {"de-en": 0.9, "sw-en": 0.7, "hi-en": 0.8},
    }
    text = languages["tabulate"](read, scores)
    assert [line.split(" | ")[0] for line in text.splitlines()[2:5]] == ["| de", "| hi", "| sw"]
    assert "with English pairs: -1.00" in text and "with the gain: 1.00" in text
    assert languages["rank_correlation"]([1, 1, 2], [3, 3, 5]) == pytest.approx(1)
    languages["draw"](read, scores, tmp_path / "languages.svg")
    assert ">hi<" in (tmp_path / "languages.svg").read_text()


def test_random_weights_keep_shape_deviation_and_norms(tmp_path, recipe):
    import torch
    from safetensors.torch import load_file

    from udever import Embedder

    recipe("bases")["random_weights"]("seedling", tmp_path / "random")
    seedling = Embedder.load("seedling")
    seedling.save(tmp_path / "seedling")
    noise, real = (load_file(tmp_path / name / "model.safetensors") for name in ("random", "seedling"))
    assert noise.keys() == real.keys()
    for name, tensor in real.items():
        assert noise[name].shape == tensor.shape
        if tensor.dim() > 1:
            assert not torch.equal(noise[name], tensor)
            assert torch.isclose(noise[name].float().std(), tensor.float().std(), rtol=0.1)
        else:
            assert torch.equal(noise[name], tensor)

"""Distilling: plain texts, vectors that `udever embed` wrote, and every way in which they do not fit together."""

import json
import shutil
import tomllib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from udever import Embedder
from udever.corpus import Columns, EmbedStep, Reading, run_job
from udever.errors import DataError, RecipeError
from udever.training.batches import batch_texts
from udever.training.loop import Trainer
from udever.training.plan import plan
from udever.training.recipe import Recipe
from udever.training.run import open_recipe, train
from udever.training.validation import LeakWarning, held_out

TEXTS = [f"text number {i} of {'many' if i % 3 else 'few'}" for i in range(24)]
LANGUAGES = ["de" if i % 4 else "is" for i in range(24)]


def embed(base, texts, folder, **options):
    """Output of `udever embed` for these texts."""
    source = folder.with_suffix(".jsonl")
    source.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    step = EmbedStep(Embedder.load(str(base), dtype="float32", max_length=32), **options)
    run_job(step, Reading([str(source)], Columns("text", "id"), None, 8), folder, show_progress=False)
    return folder


@pytest.fixture(scope="module")
def vectors(base, tmp_path_factory):
    """All texts as the tiny base sees them, in half precision and as queries."""
    return embed(base, TEXTS, tmp_path_factory.mktemp("teacher") / "vectors", vector_type="float16", role="query")


@pytest.fixture
def texts(tmp_path):
    other = {"kind": ["question"] * 24, "split": ["all"] * 24, "label": [1.5] * 24}  # what pairs would call wrong
    pq.write_table(pa.table({"said": TEXTS, "lang": LANGUAGES, **other}), tmp_path / "texts.parquet")
    return tmp_path / "texts.parquet"


def recipe(tmp_path, base, texts, teacher, training="", more="", pairs=""):
    path = tmp_path / "distil.toml"
    named = json.dumps([str(t) for t in teacher] if isinstance(teacher, list) else str(teacher))
    path.write_text(f"""
[model]
base = "{base}"
max_length = 32

[[data.datasets]]
name = "texts"
path = "{texts}"
text = "said"
language = "lang"
teacher = {named}
{more}
{pairs}
[training]
tuning = "full"
precision = "float32"
batch_size = 8
{training}
[output]
folder = "{tmp_path / "out"}"
""")
    return Recipe.read(path)


def test_a_recipe_with_a_teacher_survives_the_round_trip(tmp_path, base, texts, vectors):
    before = recipe(tmp_path, base, texts, vectors, more="closeness = 0.5\ncentre = true\nskip_untaught = true")
    (tmp_path / "again.toml").write_text(before.to_toml())
    assert Recipe.read(tmp_path / "again.toml") == before


def test_a_batch_holds_each_text_once_in_the_teachers_role_with_its_own_vector(tmp_path, base, texts, vectors):
    _, mixture = open_recipe(recipe(tmp_path, base, texts, vectors, more="language_temperature = 0.0"))
    found = batch_texts(mixture.batch(0))
    assert {text.role for text in found.texts} == {"query"}
    assert sorted(LANGUAGES[TEXTS.index(text.text)] for text in found.texts) == ["de"] * 4 + ["is"] * 4
    expected = Embedder.load(str(base), dtype="float32", max_length=32).encode_query([t.text for t in found.texts])
    np.testing.assert_allclose(found.lesson.targets, expected, atol=1e-3)


def test_centre_takes_the_mean_of_all_of_the_teachers_vectors_off_each(tmp_path, base, texts, vectors):
    _, mixture = open_recipe(recipe(tmp_path, base, texts, vectors, more="centre = true"))
    found = batch_texts(mixture.batch(0))
    embedder = Embedder.load(str(base), dtype="float32", max_length=32)
    expected = embedder.encode_query([t.text for t in found.texts]) - embedder.encode_query(TEXTS).mean(axis=0)
    np.testing.assert_allclose(found.lesson.targets, expected, atol=1e-3)


def test_a_student_draws_near_its_teacher_beside_pairs(tmp_path, base, texts, vectors, tools):
    """A student with other weights: two commands, closeness and contrast in one run."""
    student = Embedder.load(str(base), dtype="float32", max_length=32)
    torch.manual_seed(1)
    for parameter in student.backbone.parameters():
        parameter.data.add_(0.3 * parameter.std() * torch.randn_like(parameter) if parameter.ndim > 1 else 0.0)
    student.save(tmp_path / "student")
    rows = [{"anchor": pair.anchor, "positive": pair.positive} for pair in tools.pairs]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    pairs = f'[[data.datasets]]\npath = "{tmp_path / "pairs.jsonl"}"\nweight = 1.0'
    given = recipe(tmp_path, tmp_path / "student", texts, vectors,
                  "max_steps = 40\nepochs = 40.0\nlearning_rate = 3e-3", "weight = 3.0", pairs=pairs)  # fmt: skip
    history = train(given, show_progress=False)
    assert {step.datasets for step in history.steps} == {"texts", "pairs"}
    wanted = Embedder.load(str(base), dtype="float32", max_length=32).encode_query(TEXTS)
    cosines = [
        (Embedder.load(str(folder), dtype="float32").encode_query(TEXTS) * wanted).sum(1).mean()
        for folder in (tmp_path / "student", tmp_path / "out")
    ]
    assert 1 - cosines[1] < 0.5 * (1 - cosines[0]), cosines


def test_vectors_of_other_texts_are_refused(tmp_path, base, texts):
    other = embed(base, ["another text", "and one more"], tmp_path / "other")
    with pytest.raises(DataError, match=r"dataset 'texts': .*other has no vector of any of its texts; embed these"):
        open_recipe(recipe(tmp_path, base, texts, other))


def test_texts_without_a_vector_are_an_error_or_are_counted_and_left_out(tmp_path, base, texts):
    some = embed(base, TEXTS[4:], tmp_path / "some")
    with pytest.raises(DataError, match=r"no vector of 4 of 24 texts \(the first is row 0, 'text number 0 of few'\)"):
        open_recipe(recipe(tmp_path, base, texts, some))
    _, mixture = open_recipe(recipe(tmp_path, base, texts, some, more="skip_untaught = true"))
    summary = mixture.describe()[0]
    assert (summary.num_pairs, summary.num_untaught) == (20, 4)
    assert {pair.anchor for number in range(2) for pair in mixture.batch(number).pairs} <= set(TEXTS[4:])


def test_the_plan_tells_texts_from_pairs(tmp_path, base, texts):
    some = embed(base, TEXTS[4:], tmp_path / "some")
    said = "\n".join(plan(recipe(tmp_path, base, texts, some, more="skip_untaught = true")).lines())
    assert "texts: 20 texts, 100.0% of the batches of 8, 0.0% of them repeated, 4 texts without a teacher's" in said
    assert "0.0% of a batch's texts repeated" in said


def test_texts_are_no_candidates_and_leak_like_training_rows(tmp_path, base, vectors, texts, tools):
    rows = [{"anchor": p.anchor, "positive": p.positive, "split": "held_out"} for p in tools.pairs[:9]]
    rows += [{"anchor": TEXTS[0], "positive": "an answer", "split": "held_out"}]
    rows += [{"anchor": p.anchor, "positive": p.positive} for p in tools.pairs[30:]]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    pairs = f'[[data.datasets]]\npath = "{tmp_path / "pairs.jsonl"}"'
    with pytest.warns(LeakWarning, match="1 of 10 held-out rows repeat texts of training rows"):
        found = held_out(recipe(tmp_path, base, texts, vectors, pairs=pairs))
    assert len(found.pairs) == 9
    assert not {pair.positive for pair in found.others} & set(TEXTS)


def test_vectors_of_another_size_cannot_come_close_but_lend_their_neighbours(tmp_path, base, texts):
    cut = embed(base, TEXTS, tmp_path / "cut", dimensions=16)
    with pytest.raises(DataError, match="16 dimensions and the model's 32, so they cannot come close; set closeness"):
        open_recipe(recipe(tmp_path, base, texts, cut))
    given = recipe(tmp_path, base, texts, cut, more="closeness = 0.0")
    embedder, mixture = open_recipe(given)
    step = Trainer.prepare(embedder, mixture, given.training, given.loss).step(0)
    assert step.loss > 0


@pytest.mark.parametrize(
    ("options", "says"),
    [({"role": "document"}, "its role is document"), ({"dimensions": 16, "role": "query"}, "its dimensions is 16")],
)
def test_vectors_of_two_kinds_are_refused(tmp_path, base, texts, vectors, options, says):
    other = embed(base, ["more"], tmp_path / "other", **options)
    with pytest.raises(DataError, match=rf"{says}, and that of .*; one dataset's vectors come from one model"):
        open_recipe(recipe(tmp_path, base, texts, [vectors, other]))


def test_vectors_of_another_fingerprint_are_refused(tmp_path, base, texts, vectors):
    model = Embedder.load(str(base), dtype="float32", max_length=32)
    model.backbone.ln_f.weight.data.mul_(2)
    model.save(tmp_path / "changed")
    other = embed(tmp_path / "changed", ["more"], tmp_path / "other", role="query")
    with pytest.raises(DataError, match="its fingerprint is "):
        open_recipe(recipe(tmp_path, base, texts, [vectors, other]))


def test_several_outputs_are_one_teacher(tmp_path, base, texts):
    parts = [embed(base, TEXTS[:10], tmp_path / "a"), embed(base, TEXTS[10:], tmp_path / "b", vector_type="float16")]
    _, mixture = open_recipe(recipe(tmp_path, base, texts, parts))
    _, same = open_recipe(recipe(tmp_path, base, texts, tmp_path / "[ab]"))
    assert same.fingerprint == mixture.fingerprint
    with pytest.raises(DataError, match=r"no folder matches .*c\*; give the output of a udever embed"):
        open_recipe(recipe(tmp_path, base, texts, tmp_path / "c*"))
    lesson = batch_texts(mixture.batch(0))
    expected = Embedder.load(str(base), dtype="float32", max_length=32).encode_document([t.text for t in lesson.texts])
    np.testing.assert_allclose(lesson.lesson.targets, expected, atol=1e-3)


def test_a_target_that_is_no_number_is_refused(tmp_path, base, texts, vectors):
    copy = shutil.copytree(vectors, tmp_path / "copy")
    open_recipe(recipe(tmp_path, base, texts, copy))
    (mapped,) = copy.glob(".vectors-*.npy")
    array = np.load(mapped, mmap_mode="r+")
    array[3, 2] = np.nan
    array.flush()
    with pytest.raises(DataError, match=r"copy: the vector of row 3 is not finite; embed the texts again"):
        open_recipe(recipe(tmp_path, base, texts, copy))


def test_an_output_that_is_none_or_has_not_ended_is_refused(tmp_path, base, texts, vectors):
    with pytest.raises(DataError, match="is its folder the output of a corpus job"):
        open_recipe(recipe(tmp_path, base, texts, tmp_path))
    copy = shutil.copytree(vectors, tmp_path / "copy")
    (copy / "_manifest.json").unlink()
    with pytest.raises(DataError, match="has not finished"):
        open_recipe(recipe(tmp_path, base, texts, copy))


def test_another_teacher_is_other_data(tmp_path, base, texts, vectors):
    fingerprints = {
        open_recipe(recipe(tmp_path, base, texts, teacher))[1].fingerprint
        for teacher in (vectors, embed(base, TEXTS, tmp_path / "again"))
    }
    assert len(fingerprints) == 2


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ("streaming = true", "streaming is for pairs; leave it out of a dataset of plain texts"),
        ('kind = "asymmetric"', "kind is for pairs; leave it out of a dataset of plain texts"),
        ("held_out = 0.1", "held_out is for pairs"),
        ("closeness = 0.0\nneighbours = 0.0", "closeness and neighbours are both 0"),
    ],
)
def test_what_plain_texts_cannot_have_is_one_line(tmp_path, more, says):
    with pytest.raises(RecipeError, match=says) as caught:
        recipe(tmp_path, "base", "texts.parquet", "vectors", more=more)
    assert "\n" not in str(caught.value)


def test_the_documented_datasets_are_a_recipes():
    page = (Path(__file__).parents[2] / "docs" / "training.md").read_text(encoding="utf-8")
    block = next(part for part in page.split("```toml\n") if 'path = "texts.parquet"' in part.partition("```")[0])
    Recipe.model_validate(tomllib.loads(block.partition("```")[0]))


def test_texts_want_a_teacher_and_a_teacher_texts(tmp_path):
    path = tmp_path / "a.toml"
    rest = '[model]\nbase = "b"\n[output]\nfolder = "out"\n[[data.datasets]]\npath = "a.parquet"\n'
    path.write_text(f'{rest}text = "said"\n')
    with pytest.raises(RecipeError, match="plain texts are no pairs to learn from; give teacher"):
        Recipe.read(path)
    path.write_text(f'{rest}teacher = "vectors"\n')
    with pytest.raises(RecipeError, match="teacher is for plain texts; name their column too"):
        Recipe.read(path)
    path.write_text(f'{rest}text = "said"\nteacher = "vectors"\n[data]\nmixed = true\n')
    with pytest.raises(RecipeError, match="plain texts are none: leave mixed out"):
        Recipe.read(path)

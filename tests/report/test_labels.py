import pytest

from udever.errors import DataError
from udever.report.labels import Label, apply_labels, label_of, read_labels

TOML = """
["organisation/model"]
name = "Model"
train_language = "fra-Latn"
kind = "both"
size = "560m"

[other]
tuning = "lora"
"""


def models(make_results):
    score = make_results.score("Task", "en", 0.5, "eng-Latn")
    return [
        make_results.model("organisation/model", score, size=7, tuning="full"),
        make_results.model("/runs/other", score),
    ]


def test_labels_of_toml_and_csv_are_the_same(tmp_path):
    (tmp_path / "labels.toml").write_text(TOML)
    (tmp_path / "labels.csv").write_text(
        "model,name,train_language,kind,size,tuning\norganisation/model,Model,fra-Latn,both,560m,\nother,,,,,lora\n"
    )
    labels = read_labels(tmp_path / "labels.toml")
    assert labels == read_labels(tmp_path / "labels.csv")
    assert labels["organisation/model"] == Label("Model", None, "fra-Latn", "both", None, 560_000_000)


def test_a_label_goes_over_what_the_results_say(tmp_path, make_results):
    (tmp_path / "labels.toml").write_text(TOML)
    found = apply_labels(models(make_results), read_labels(tmp_path / "labels.toml"))
    assert found[0] == Label("Model", None, "fra-Latn", "both", "full", 560_000_000)
    assert found[1] == Label(tuning="lora")


@pytest.mark.parametrize("key", ["organisation/model", "model", "organisation/model@" + "r" * 32])
def test_a_model_may_be_called_in_several_ways(make_results, key):
    assert apply_labels(models(make_results), {key: Label(kind="both")})[0].kind == "both"


def test_a_label_that_fits_no_model_names_the_nearest(make_results):
    with pytest.raises(DataError, match="did you mean 'other'"):
        apply_labels(models(make_results), {"othr": Label()})


def test_a_label_that_fits_two_revisions_is_refused(make_results):
    score = make_results.score("Task", "en", 0.5, "eng-Latn")
    two = [make_results.model("m", score, revision=revision) for revision in ("a" * 32, "b" * 32)]
    with pytest.raises(DataError, match="name@revision"):
        apply_labels(two, {"m": Label()})
    assert apply_labels(two, {"b" * 32: Label(name="second")})[1].name == "second"


def trained(make_results, *datasets, tuning=None, **details):
    model = make_results.model("m", make_results.score("Task", "en", 0.5, "eng-Latn"), size=5)
    model.meta["udever"] |= {"training": {"tuning": tuning, "datasets": list(datasets)}, **details}
    return label_of(model)


def dataset(kinds, languages):
    return {"kinds": dict.fromkeys(kinds, 3), "languages": dict.fromkeys(languages, 3)}


def test_what_training_left_is_the_default(make_results):
    recipe = {"model": {"base": "bigscience/bloom-560m"}, "training": {"tuning": "auto"}}
    rows = dataset(["symmetric"], ["fra-Latn -> fra-Latn"]), dataset(["asymmetric"], ["fra-Latn -> fra-Latn"])
    found = trained(make_results, *rows, tuning="bitfit", recipe=recipe)
    assert found == Label(None, "bloom", "fra-Latn", "both", "bitfit", 5)
    assert trained(make_results, recipe={**recipe, "training": {"tuning": "lora"}}).tuning == "lora"


@pytest.mark.parametrize(
    ("kinds", "kind"),
    [
        ([["symmetric"], ["symmetric"]], "symmetric"),
        ([["asymmetric"]], "asymmetric"),
        ([["asymmetric", "symmetric"]], "both"),
        ([["symmetric"], ["classification"]], None),
        ([["classification"]], None),
        ([["symmetric"], []], None),  # a stream, which nobody counted
    ],
)
def test_the_kind_is_known_where_every_dataset_is(make_results, kinds, kind):
    assert trained(make_results, *(dataset(one, ["eng-Latn -> eng-Latn"]) for one in kinds)).kind == kind


@pytest.mark.parametrize(
    ("languages", "train_language"),
    [
        ([["eng-Latn -> python-Code"]], "eng-Latn+python-Code"),
        ([["? -> python-Code"]], "python-Code"),
        ([["eng-Latn -> eng-Latn"], ["eng-Latn -> deu-Latn"]], "deu-Latn+eng-Latn"),
        ([["eng-Latn -> eng-Latn", "? -> ?"]], None),
        ([["eng-Latn -> eng-Latn"], []], None),
        ([[f"eng-Latn -> {code}" for code in ("deu-Latn", "fra-Latn", "tur-Latn", "rus-Cyrl")]], "5 languages"),
    ],
)
def test_the_languages_are_known_where_every_row_names_one(make_results, languages, train_language):
    assert trained(make_results, *(dataset(["symmetric"], one) for one in languages)).train_language == train_language


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("l.toml", "[m]\nkinds = 'both'", "did you mean 'kind'"),
        ("l.toml", "[m]\nkind = 'all'", "symmetric, asymmetric, both"),
        ("l.toml", "[m]\nsize = 'large'", "560m"),
        ("l.toml", "[m]\nsize = 0", "560m"),
        ("l.toml", "[m]\nname = 3", "expected a text"),
        ("l.toml", "m = 'both'", "table"),
        ("l.toml", "[m", "cannot be read"),
        ("l.csv", "kind\nboth\n", "no column model"),
        ("l.csv", "model,kind\nm,both,x\n", "line 2"),
        ("l.csv", "model,kind\n,both\n", "line 2"),
        ("l.csv", "model,kind\nm,both\nm,both\n", "twice"),
    ],
)
def test_broken_labels_are_named(tmp_path, name, content, told):
    (tmp_path / name).write_text(content)
    with pytest.raises(DataError, match=told):
        read_labels(tmp_path / name)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DataError, match=r"none\.toml"):
        read_labels(tmp_path / "none.toml")

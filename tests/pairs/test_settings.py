"""What a recipe may say of its data, and what it is told when it errs."""

import pytest
from pydantic import ValidationError

from udever.errors import RecipeError
from udever.pairs.settings import DatasetSettings, DataSettings
from udever.training.recipe import Recipe

RECIPE = """
[model]
base = "some/base"
[output]
folder = "out"
[data]
{data}
"""


def read(tmp_path, data):
    path = tmp_path / "recipe.toml"
    path.write_text(RECIPE.format(data=data))
    return Recipe.read(path)


GOOD = """
pairs = ["a.parquet"]
mixed = true
sampling_temperature = 0.5
[[data.datasets]]
path = ["b.jsonl", "c/*.jsonl"]
columns = { anchor = "query text", positive = "doc" }
languages = ["eng-Latn"]
instruction = 'say "this"'
[[data.datasets]]
hub = "org/name"
config = "en"
hub_split = "test"
revision = "abc"
num_negatives = 3
in_batch_negatives = false
"""


def test_data_survives_the_round_trip(tmp_path):
    recipe = read(tmp_path, GOOD)
    assert [dataset.name for dataset in recipe.data.all_datasets] == ["a", "b", "org/name"]
    path = tmp_path / "again.toml"
    path.write_text(recipe.to_toml())
    assert Recipe.read(path) == recipe


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (
            '[[data.datasets]]\npath = "a"\n[[data.datasets]]\npath = "b"\nwieght = 2',
            "'data.datasets.1.wieght'; did you mean 'weight'",
        ),
        ('pears = ["a"]', "unknown key 'data.pears'; did you mean 'pairs'"),
        ('[[data.datasets]]\npath = "a"\nweight = 0', "data.datasets.0.weight is 0;"),
        ('[[data.datasets]]\npath = "a"\nweight = inf', "data.datasets.0.weight is inf;"),
        ('[[data.datasets]]\npath = "a"\nweight = "3"', "data.datasets.0.weight is '3';"),
        ("[[data.datasets]]\npath = 3", "data.datasets.0.path is 3;"),
        ('[[data.datasets]]\npath = ["a", 3]', "data.datasets.0.path"),
        ('[[data.datasets]]\npath = "a"\ncap = 1', "data.datasets.0.cap is 1;"),
        ('[[data.datasets]]\npath = "a"\nkind = "pairs"', "data.datasets.0.kind is 'pairs';"),
        ('[[data.datasets]]\npath = "a"\ncolumns = { anchr = "q" }', "data.datasets.0: columns names 'anchr'"),
        ('[[data.datasets]]\npath = "a"\ncolumns = { anchor = 3 }', "data.datasets.0.columns.anchor is 3;"),
        ('[[data.datasets]]\nname = "a"', "data.datasets.0: a dataset comes from path or from hub"),
        ('[[data.datasets]]\npath = "a"\nheld_out = 1.0', "data.datasets.0.held_out is 1.0;"),
        ('[[data.datasets]]\npath = "a"\nheld_out_by = "file"', "give held_out, such as 0.1"),
        ('[[data.datasets]]\npath = "a"\nheld_out = 0.1\nstreaming = true', "no share of a stream can be held out"),
        ('[[data.datasets]]\nhub = "a"\nheld_out = 0.1\nheld_out_by = "file"', "a dataset of the hub, without files"),
        ('[[data.datasets]]\npath = "a"\nheldout = 0.1', "'data.datasets.0.heldout'; did you mean 'held_out'"),
        ('[[data.datasets]]\npath = "a"\nhub = "b"', "data.datasets.0: a dataset comes from path or from hub"),
        (
            '[[data.datasets]]\npath = "a"\nrevision = "b"',
            "data.datasets.0: config, hub_split and revision belong to hub",
        ),
        ("pairs = []", "there is no dataset; give data.pairs"),
        ("sampling_temperature = 2\npairs = ['a']", "data.sampling_temperature is 2;"),
        ('[[data.datasets]]\npath = "a"\nweight = 1\n[[data.datasets]]\npath = "b"', "dataset 'b' has no weight"),
        ('pairs = ["b"]\n[[data.datasets]]\npath = "a"\nweight = 1', "dataset 'b' has no weight"),
        (
            'sampling_temperature = 1.0\n[[data.datasets]]\npath = "a"\nweight = 1',
            "sampling_temperature stands beside weights",
        ),
        ('pairs = ["b"]\n[[data.datasets]]\npath = "a"\nstreaming = true', "the size of 'a' is unknown"),
        ('mixed = true\n[[data.datasets]]\npath = "a"\nbatch_size = 4', "leave their batch_size out"),
        (
            '[[data.datasets]]\nname = "x"\npath = "a"\n[[data.datasets]]\nname = "x"\npath = "b"',
            "2 datasets are named 'x'",
        ),
    ],
)
def test_what_is_wrong_is_said_in_one_line(tmp_path, data, says):
    with pytest.raises(RecipeError) as caught:
        read(tmp_path, data)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_names_of_files_that_are_called_alike():
    settings = DataSettings(pairs=["x/a.parquet", "y/a.parquet", "z/a.jsonl"])
    assert [dataset.name for dataset in settings.all_datasets] == ["a", "a-2", "a-3"]


def test_settings_do_not_change():
    with pytest.raises(ValidationError):
        DatasetSettings(path="a").weight = 3

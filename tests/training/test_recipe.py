"""Recipes: strict, and their errors name what to do."""

import pytest

from udever.errors import RecipeError
from udever.training.recipe import Recipe, TrainingSettings

GOOD = """
[model]
base = "some/base"

[data]
pairs = ["a.parquet"]

[training]
learning_rate = 2e-4

[output]
folder = "out"
"""


def write(tmp_path, text):
    path = tmp_path / "recipe.toml"
    path.write_text(text)
    return path


def test_a_recipe_keeps_its_defaults_and_survives_the_round_trip(tmp_path):
    recipe = Recipe.read(write(tmp_path, GOOD))
    assert recipe.training == TrainingSettings(learning_rate=2e-4)
    assert recipe.loss.temperature == 0.05
    again = Recipe.read(write(tmp_path, recipe.to_toml()))
    assert isinstance(again, Recipe)
    assert again == recipe


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (("learning_rate = 2e-4", "learning_rat = 2e-4"), "did you mean 'learning_rate'"),
        (("[training]", "[trainig]"), "did you mean 'training'"),
        (("learning_rate = 2e-4", 'schedule = "cosin"'), "schedule is 'cosin'; did you mean 'cosine'"),
        (("learning_rate = 2e-4", 'learning_rate = "high"'), "training.learning_rate is 'high'"),
        (("learning_rate = 2e-4", "batch_size = 1"), "training.batch_size is 1"),
        (("learning_rate = 2e-4", 'tuning = "all"'), "training.tuning is 'all'"),
        (("learning_rate = 2e-4", "learning_rate = ]"), "not valid TOML"),
        (('base = "some/base"', ""), "'model.base' is missing"),
        (("base =", "bse ="), "unknown key 'model.bse'; did you mean 'base'?"),
        (("[output]", "[outptu]"), "unknown key 'outptu'; did you mean 'output'?"),
        (('pairs = ["a.parquet"]', "pairs = []"), "data.pairs"),
    ],
)
def test_a_wrong_recipe_is_one_line_that_helps(tmp_path, change, says):
    with pytest.raises(RecipeError) as caught:
        Recipe.read(write(tmp_path, GOOD.replace(*change)))
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_recipe(tmp_path):
    with pytest.raises(RecipeError, match="is not a file"):
        Recipe.read(tmp_path / "none.toml")


def test_matryoshka_weights_go_with_matryoshka_dimensions():
    from udever.training.recipe import LossSettings

    with pytest.raises(ValueError, match="1 matryoshka_weights for 2 matryoshka dimensions"):
        LossSettings(matryoshka=[64, 32], matryoshka_weights=[1.0])
    with pytest.raises(ValueError, match="a number stands twice; give each once"):
        LossSettings(matryoshka=[64, 64])
    assert LossSettings(matryoshka=[64, 32], matryoshka_weights=[1.0, 0.5], margin=0.1).matryoshka == [64, 32]

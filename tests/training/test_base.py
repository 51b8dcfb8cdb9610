"""The base of a recipe: a backbone gets the recipe's contract, an embedder keeps its own but for what is asked."""

from udever.model.markers import NAMES
from udever.training.recipe import ModelSettings
from udever.training.run import load_base


def test_an_embedder_keeps_its_contract_though_its_tokenizer_knows_the_markers(embedders, tmp_path):
    embedder = embedders("bloom", max_length=48)
    embedder.save(tmp_path / "own")
    plain = load_base(ModelSettings(base=str(tmp_path / "own"), markers="keep")).contract
    assert plain == embedder.contract
    knowing = load_base(ModelSettings(base=str(tmp_path / "own"), markers="keep"))
    knowing.tokenizer.hf.add_special_tokens({"additional_special_tokens": list(NAMES)})
    knowing.save(tmp_path / "knowing")
    assert load_base(ModelSettings(base=str(tmp_path / "knowing"))).contract == embedder.contract


def test_what_the_recipe_names_is_changed(embedders, tmp_path):
    embedders("bloom", max_length=48).save(tmp_path / "own")
    for markers in ("auto", "keep"):
        settings = ModelSettings(base=str(tmp_path / "own"), markers=markers, pooling="mean")
        contract = load_base(settings).contract
        assert (contract.pooling, contract.max_length) == ("mean", 48)


def test_a_backbone_gets_the_contract_of_the_recipe(decoders):
    contract = load_base(ModelSettings(base=str(decoders("bloom")), max_length=20)).contract
    assert (contract.pooling, contract.max_length) == ("last", 20)

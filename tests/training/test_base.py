"""The base of a recipe: a backbone gets the recipe's contract, an embedder keeps its own but for what is asked.

And what is saved has the base's precision.
"""

import pytest
import torch
from safetensors import safe_open

from udever import Embedder, loading
from udever.errors import ModelError, RecipeError
from udever.merge import merge_models
from udever.model.markers import NAMES
from udever.pairs.files import write_pairs
from udever.training import Recipe, train, tuning
from udever.training.plan import plan
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


def test_a_sentence_transformers_folder_keeps_its_contract(embedders, tmp_path):
    embedders("bloom", pooling="mean", max_length=48).save(tmp_path / "own")
    (tmp_path / "own" / "udever.json").unlink()
    contract = load_base(ModelSettings(base=str(tmp_path / "own"))).contract
    assert contract == Embedder.load(tmp_path / "own").contract
    assert (contract.pooling, contract.max_length) == ("mean", 48)


def test_a_published_embedder_that_is_known_by_name_keeps_its_contract(decoders, monkeypatch):
    monkeypatch.setattr(loading.hub, "fetch", lambda *_, **__: decoders("bloom"))
    name = "bigscience/sgpt-bloom-7b1-msmarco"
    contract = load_base(ModelSettings(base=name)).contract
    assert contract == Embedder.load(name).contract
    assert (contract.pooling, contract.max_length) == ("weighted_mean", 300)


def test_the_saved_recipe_trains_the_same_embedder_again(embedders, tools, tmp_path):
    """What the recipe left to the base is written as the base has it, on the card too."""
    embedders("bloom", pooling="mean", max_length=48).save(tmp_path / "own")
    write_pairs(tools.pairs, tmp_path / "pairs.parquet")
    recipe = Recipe.model_validate(
        {
            "model": {"base": str(tmp_path / "own")},
            "data": {"pairs": [str(tmp_path / "pairs.parquet")]},
            "training": {"max_steps": 1, "batch_size": 8, "memory_gb": 0.05},
            "output": {"folder": str(tmp_path / "model")},
        }
    )
    train(recipe, show_progress=False)
    again = Recipe.read(tmp_path / "model" / "recipe.toml")
    assert load_base(again.model).contract == load_base(recipe.model).contract
    assert (again.model.pooling, again.model.max_length) == ("mean", 48)
    assert "texts were cut at 48 tokens" in (tmp_path / "model" / "README.md").read_text()


@pytest.mark.parametrize(("tuning", "says"), [("full", "'full'"), ("auto", "'auto', here all weights")])
def test_an_adapter_of_all_weights_is_refused_before_training(make, tools, tmp_path, tuning, says):
    recipe = a_run(make, tools, tmp_path, tuning=tuning)
    asked = recipe.model_copy(update={"output": recipe.output.model_copy(update={"save": "adapter"})})
    with pytest.raises(
        RecipeError, match=rf"output\.save is 'adapter'.*{says}.*set save = 'merged', or tuning = 'lora'"
    ):
        train(asked, show_progress=False)
    assert not (tmp_path / "model-checkpoints").exists()


def test_an_adapter_over_a_base_that_is_kept_nowhere_is_refused(make, tools, tmp_path):
    given = a_run(make, tools, tmp_path, tuning="lora").model_dump()
    recipe = Recipe.model_validate(
        {**given, "model": {"base": "fresh"}, "output": {**given["output"], "save": "adapter"}}
    )
    with pytest.raises(RecipeError, match="'fresh', which is kept nowhere; set save = 'merged'"):
        plan(recipe)


def test_what_the_recipe_names_is_changed(embedders, tmp_path):
    embedders("bloom", max_length=48).save(tmp_path / "own")
    for markers in ("auto", "keep"):
        settings = ModelSettings(base=str(tmp_path / "own"), markers=markers, pooling="mean")
        contract = load_base(settings).contract
        assert (contract.pooling, contract.max_length) == ("mean", 48)


def test_a_backbone_gets_the_contract_of_the_recipe(decoders):
    contract = load_base(ModelSettings(base=str(decoders("bloom")), max_length=20)).contract
    assert (contract.pooling, contract.max_length) == ("last", 20)


def precisions(folder):
    with safe_open(folder / "model.safetensors", "pt") as file:
        return {file.get_tensor(name).dtype for name in file.keys()}  # noqa: SIM118


@pytest.mark.parametrize("family", ["bloom", "qwen3", "gpt_neox"])
@pytest.mark.parametrize("stored", [torch.bfloat16, torch.float16])
def test_what_is_saved_has_the_precision_of_the_base_unless_another_is_asked_for(make, tools, tmp_path, family, stored):
    make.model(family).to(stored).save_pretrained(tmp_path / "base")
    make.tokenizer().save_pretrained(tmp_path / "base")
    write_pairs(tools.pairs, tmp_path / "pairs.parquet")

    def trained(**output):
        recipe = Recipe.model_validate(
            {
                "model": {"base": str(tmp_path / "base"), "max_length": 32},
                "data": {"pairs": [str(tmp_path / "pairs.parquet")]},
                "training": {"tuning": "lora", "max_steps": 1, "batch_size": 8, "learning_rate": 1e-2},
                "output": {"folder": str(tmp_path / "model"), **output},
            }
        )
        train(recipe, restart=True, show_progress=False)
        return precisions(tmp_path / "model"), Embedder.load(tmp_path / "model", dtype="float32")

    as_base, embedder = trained()
    assert as_base == {stored}
    asked, whole = trained(dtype="float32")
    assert asked == {torch.float32}
    texts = [pair.anchor for pair in tools.pairs]
    assert (embedder.encode(texts) * whole.encode(texts)).sum(1).min() > 0.999
    assert embedder.fingerprint != whole.fingerprint


def test_the_model_in_memory_is_the_one_that_was_saved(decoders, tmp_path):
    embedder = Embedder.load(decoders("bloom"), dtype="float32")
    embedder.save(tmp_path / "half", dtype=torch.bfloat16)
    again = Embedder.load(tmp_path / "half", dtype="float32")
    assert again.fingerprint == embedder.fingerprint
    assert again.encode(["hello world"]).tolist() == embedder.encode(["hello world"]).tolist()
    with torch.no_grad():
        next(embedder.backbone.parameters()).fill_(1e6)
    with pytest.raises(ModelError, match=r"does not fit into torch\.float16"):
        embedder.save(tmp_path / "none", dtype=torch.float16)
    assert not (tmp_path / "none").exists()


def a_run(make, tools, tmp_path, **training):
    make.model("qwen3").to(torch.bfloat16).save_pretrained(tmp_path / "base")
    make.tokenizer().save_pretrained(tmp_path / "base")
    write_pairs(tools.pairs, tmp_path / "pairs.parquet")
    return Recipe.model_validate(
        {
            "model": {"base": str(tmp_path / "base"), "max_length": 32},
            "data": {"pairs": [str(tmp_path / "pairs.parquet")]},
            "training": {"max_steps": 2, "batch_size": 8, "learning_rate": 1e-2, **training},
            "output": {"folder": str(tmp_path / "model")},
        }
    )


def test_lora_on_a_large_base_is_saved_as_an_adapter_that_one_command_merges(make, tools, tmp_path, monkeypatch):
    monkeypatch.setattr(tuning, "LARGE", 1000)
    train(a_run(make, tools, tmp_path), show_progress=False)
    assert not (tmp_path / "model" / "model.safetensors").exists()
    merge_models([str(tmp_path / "model")], tmp_path / "whole")
    assert precisions(tmp_path / "whole") == {torch.bfloat16}
    vectors = [Embedder.load(tmp_path / name, dtype="float32").encode(["a text"]) for name in ("model", "whole")]
    assert vectors[0] @ vectors[1].T > 0.999


@pytest.mark.parametrize(("embeddings", "large"), [("auto", 10_000), ("freeze", 10**9), ("train", 10_000)])
def test_a_large_table_stays_as_it_is_and_that_is_said(make, tools, tmp_path, monkeypatch, embeddings, large):
    monkeypatch.setattr(tuning, "LARGE_TABLE", large)
    recipe = a_run(make, tools, tmp_path, tuning="full", embeddings=embeddings)
    said = plan(recipe).lines()[0]
    history = train(recipe, show_progress=False)
    before, after = (Embedder.load(tmp_path / name).backbone.model for name in ("base", "model"))
    frozen = embeddings != "train"
    assert torch.equal(before.embed_tokens.weight, after.embed_tokens.weight) == frozen
    assert not torch.equal(before.layers[0].mlp.up_proj.weight, after.layers[0].mlp.up_proj.weight)
    assert ("full without the embedding table" in said) == history.table_frozen == frozen
    assert ("the embedding table not" in (tmp_path / "model" / "README.md").read_text()) == frozen


def test_a_base_without_spare_rows_for_the_markers_names_eos(make, tmp_path):
    from tokenizers import Tokenizer, models

    names = {name: place for place, name in enumerate(["<unk>", "<s>", "</s>", "<pad>", "a"])}
    tokenizer = make.wrap_tokenizer(Tokenizer(models.WordLevel(names, "<unk>")))
    make.decoder("qwen3", tmp_path / "base", tokenizer=tokenizer, vocab_size=len(names))
    with pytest.raises(ModelError, match="no four distinct spare rows for them; use markers = 'eos'"):
        load_base(ModelSettings(base=str(tmp_path / "base"), markers="roles"))
    assert load_base(ModelSettings(base=str(tmp_path / "base"))).contract.query.prefix_ids == ()


def test_words_close_a_text_where_a_recipe_has_them(decoders, tmp_path):
    base = str(decoders("qwen3"))
    asked = ModelSettings(base=base, suffix="\nin one word:")
    embedder = load_base(asked)
    words = embedder.tokenizer.hf.encode("\nin one word:", add_special_tokens=False)
    assert embedder.tokenizer.encode(["a", ""], "document").ids[1] == words
    embedder.save(tmp_path / "own")
    again = load_base(ModelSettings(base=str(tmp_path / "own")))
    assert again.contract == embedder.contract == Embedder.load(base, suffix="\nin one word:", max_length=300).contract
    plain = load_base(asked.model_copy(update={"base": str(tmp_path / "own"), "suffix": "\nword:"}))
    assert plain.contract.query.suffix_ids != embedder.contract.query.suffix_ids


@pytest.mark.parametrize("markers", ["roles", "eos", "keep"])
def test_words_after_a_text_and_markers_are_one_too_many(markers):
    with pytest.raises(ValueError, match="beside a suffix, which takes their place; leave markers out"):
        ModelSettings(base="seedling", markers=markers, suffix=" in one word:")


@pytest.mark.parametrize("name", ["<unused{}>", "[unused{}]", "<|reserved_special_token_{}|>"])
def test_role_markers_take_the_tokens_that_a_vocabulary_keeps_unused_if_they_are_asked_for(make, tmp_path, name):
    from tokenizers import Tokenizer, models, pre_tokenizers

    unused = [name.format(number) for number in (10, 0, 1, 2, 3)]
    names = {name: place for place, name in enumerate(["<unk>", "<s>", "</s>", "<pad>", *unused, "a"])}
    plain = Tokenizer(models.WordLevel(names, "<unk>"))
    plain.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    make.decoder("qwen3", tmp_path / "base", tokenizer=make.wrap_tokenizer(plain), vocab_size=len(names))
    embedder = load_base(ModelSettings(base=str(tmp_path / "base"), markers="roles"))
    query, document = embedder.contract.query, embedder.contract.document
    assert [*query.prefix_ids, *query.suffix_ids, *document.prefix_ids, *document.suffix_ids] == [5, 6, 7, 8]
    assert embedder.backbone.model.get_input_embeddings().weight.shape[0] == len(names)
    embedder.save(tmp_path / "own")
    again = Embedder.load(tmp_path / "own")
    assert again.contract == embedder.contract
    forged = again.tokenizer.encode([f"a {unused[1]} a"], "query").ids[0]
    assert forged[0] == 5
    assert 5 not in forged[1:]
    assert load_base(ModelSettings(base=str(tmp_path / "base"))).contract.query.prefix_ids == ()

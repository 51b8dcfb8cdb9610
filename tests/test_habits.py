"""What hands from sentence-transformers type works, or the message names what to write."""

import re

import numpy as np
import pytest
import torch

import udever
from udever import Embedder
from udever.errors import DataError, ModelError, RecipeError, TextError

TEXTS = ["hello world", "a", "def add(a, b)"]


def test_habitual_keywords_are_taken(embedders):
    embedder = embedders("bloom")
    plain = embedder.encode(TEXTS)
    habitual = embedder.encode(
        TEXTS, batch_size=2, show_progress_bar=False, convert_to_tensor=True, normalize_embeddings=True, truncate_dim=32
    )
    assert isinstance(habitual, torch.Tensor)
    np.testing.assert_allclose(habitual.numpy(), plain, atol=1e-6)
    for side in ("encode_query", "encode_document"):
        assert getattr(embedder, side)(TEXTS, batch_size=1, truncate_dim=8, prompt="find: ").shape == (3, 8)


def test_an_array_may_be_asked_for_by_its_habitual_name(embedders):
    embedder = embedders("bloom")
    for encode in (embedder.encode, embedder.encode_query, embedder.encode_document):
        np.testing.assert_array_equal(encode(TEXTS, convert_to_numpy=True), encode(TEXTS))
        for asked in (True, False):  # a tensor goes first, as over there
            assert isinstance(encode(TEXTS, convert_to_numpy=asked, convert_to_tensor=True), torch.Tensor)
        with pytest.raises(TypeError, match=r"convert_to_numpy is False; .* write convert_to_tensor=True"):
            encode(TEXTS, convert_to_numpy=False)


def test_a_prompts_name_is_a_role(embedders):
    embedder = embedders("bloom", known_as="izhx/udever-bloom-560m")
    for name, encode in (("query", embedder.encode_query), ("document", embedder.encode_document)):
        np.testing.assert_array_equal(embedder.encode(TEXTS, prompt_name=name), encode(TEXTS))
    assert not np.allclose(embedder.encode(TEXTS, prompt_name="document"), embedder.encode(TEXTS))


def test_a_batch_has_no_more_texts_than_asked_for(embedders, monkeypatch):
    embedder = embedders("bloom")
    sizes = []
    embed_tokens = embedder.embed_tokens

    def count(ids, *given, **named):
        sizes.append(len(ids))
        return embed_tokens(ids, *given, **named)

    monkeypatch.setattr(embedder, "embed_tokens", count)
    embedder.encode(["a"] * 5, batch_size=2)
    embedder.encode(["a"] * 5)
    assert sizes == [2, 2, 1, 5]


@pytest.mark.parametrize(
    ("keyword", "answer"),
    [
        ("batchsize", "did you mean 'batch_size'?"),
        ("show_progres_bar", "did you mean 'show_progress_bar'?"),
        ("dimensions", "write truncate_dim"),
        ("device", "Embedder.load(name, device=...)"),
        ("precision", "float32"),
        ("frobnicate", "expected texts, prompt_name, prompt"),
    ],
)
def test_a_keyword_that_does_not_exist_is_answered_with_the_right_one(keyword, answer, embedders):
    with pytest.raises(TypeError, match=rf"Embedder.encode has no option '{keyword}'; .*{re.escape(answer)}") as caught:
        embedders("bloom").encode(TEXTS, **{keyword: True})
    assert "\n" not in str(caught.value)


def test_the_role_of_a_method_is_not_named_again(embedders):
    with pytest.raises(TypeError, match="encode_query has no option 'prompt_name'; this method sets it"):
        embedders("bloom").encode_query(TEXTS, prompt_name="query")


@pytest.mark.parametrize(
    ("keyword", "answer"),
    [
        ("pooling_mode", "did you mean 'pooling'?"),
        ("truncate_dim", "write dimensions="),
        ("model_kwargs", "dtype="),
        ("query", "expected name_or_folder, dtype"),
    ],
)
def test_keywords_of_loading(keyword, answer, decoders):
    with pytest.raises(TypeError, match=rf"Embedder.load has no option '{keyword}'; .*{re.escape(answer)}"):
        Embedder.load(decoders("bloom"), **{keyword: "x"})


@pytest.mark.parametrize("options", [{}, {"device": "cpu"}])
def test_an_embedder_is_loaded_not_made(options):
    with pytest.raises(TypeError, match=r"write Embedder\.load\("):
        Embedder("seedling", **options)


def test_an_embedder_says_what_it_is(embedders, decoders):
    embedder = embedders("bloom", max_length=100, dimensions=9)
    assert repr(embedder) == (
        f"Embedder('{decoders('bloom')}': bloom, 9 dimensions, texts of at most 100 tokens, float32 on cpu, "
        f"fingerprint {embedder.fingerprint[:8]})"
    )
    assert (embedder.max_length, embedder.dimensions) == (100, 9)
    assert (embedder.dtype, embedder.device) == (torch.float32, torch.device("cpu"))


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("max_seq_length", "write .max_length"),
        ("get_sentence_embedding_dimension", "write .dimensions"),
        ("save_pretrained", "write .save(folder)"),
        ("encode_documents", "did you mean 'encode_document'?"),
        ("fingerprnt", "did you mean 'fingerprint'?"),
    ],
)
def test_an_attribute_that_does_not_exist_is_answered_with_the_right_one(name, answer, embedders):
    with pytest.raises(AttributeError, match=rf"no attribute '{name}'; {re.escape(answer)}"):
        getattr(embedders("bloom"), name)


@pytest.mark.parametrize("name", ["max_seq_length", "max_length", "device"])
def test_what_is_chosen_at_loading_cannot_be_set_without_effect(name, embedders):
    embedder = embedders("bloom")
    with pytest.raises(
        AttributeError, match=rf"{name} cannot be set; write Embedder\.load\(name, (max_length|device)="
    ):
        setattr(embedder, name, 3)
    assert embedder.max_length == 512


def test_similarity_takes_whatever_holds_vectors(embedders):
    import pandas

    embedder = embedders("bloom")
    vectors = embedder.encode(TEXTS)
    expected = embedder.similarity(vectors, vectors)
    column = pandas.Series(list(vectors), index=[5, 6, 7])
    for given in (vectors.tolist(), list(vectors), column, torch.tensor(vectors)):
        np.testing.assert_allclose(embedder.similarity(given, vectors), expected, atol=1e-6)


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        (TEXTS, TEXTS, "a holds texts; encode them first"),
        (np.ones((2, 3)), "text", "b holds texts"),
        (np.ones((2, 3)), np.ones((2, 4)), "a has vectors of 3 dimensions and b of 4"),
        (np.ones((2, 3, 4)), np.ones(3), "a has 3 axes"),
        ([[1.0, 2.0], [1.0]], np.ones(2), "a is list and holds no vectors of one length"),
        (None, np.ones(2), "a is NoneType"),
        ({"a": 1}, np.ones(2), "a holds texts|a is dict"),
    ],
)
def test_what_cannot_be_compared_is_said_in_one_line(a, b, message, embedders):
    with pytest.raises(DataError, match=message) as caught:
        embedders("bloom").similarity(a, b)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("seeding", "did you mean 'seedling'?"),
        ("Seedlng", "did you mean 'seedling'?"),
        ("gemma3-270", "did you mean 'gemma3-270m'?"),
        ("izhx/udever-bloom-560", "did you mean 'izhx/udever-bloom-560m'?"),
        ("runs/mine/modle", "did you mean runs/mine/model?"),
        ("./runs/mien/model", "did you mean runs/mine/model?"),
        ("runs/mine/model.guf", "did you mean runs/mine/model.gguf?"),
    ],
)
def test_a_mistyped_model_is_answered_with_the_nearest(name, answer, tmp_path, monkeypatch):
    (tmp_path / "runs" / "mine" / "model").mkdir(parents=True)
    (tmp_path / "runs" / "mine" / "model.gguf").touch()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelError, match=re.escape(answer)) as caught:
        Embedder.load(name)
    assert "\n" not in str(caught.value)


def test_a_name_like_none_says_what_was_wrong_with_the_hub():
    with pytest.raises(
        ModelError, match=r"frobnicate/x-9 is no local folder.*HF_HUB_OFFLINE is set.*models that need no hub: seedling"
    ):
        Embedder.load("frobnicate/x-9")


def test_one_path_may_stand_for_a_list_of_one(tmp_path):
    with pytest.raises(DataError, match=r"qa\.cs does not exist"):
        udever.adapt(str(tmp_path / "qa.cs"), tmp_path / "out")


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"langage": "deu-Latn"}, "AdaptSettings has no option 'langage'; did you mean 'language'?"),
        ({"held_ot": 0.2}, "did you mean 'held_out'?"),
    ],
)
def test_a_mistyped_setting_is_answered(given, says):
    with pytest.raises(TypeError, match=re.escape(says)):
        udever.AdaptSettings(**given)


def test_a_mistyped_language_is_answered_in_a_program_too(tmp_path):
    (tmp_path / "a.md").write_text("# One\n")
    with pytest.raises(RecipeError, match="language is 'engl'; did you mean 'eng-Latn'"):
        udever.adapt([tmp_path / "a.md"], tmp_path / "out", udever.AdaptSettings(language="engl"))


def test_a_missing_text_is_called_missing(embedders):
    with pytest.raises(TextError, match=r"row 1 is missing \(nan\), not a text"):
        embedders("bloom").encode(["a", float("nan")])


def test_the_class_over_there_is_answered_with_ours():
    with pytest.raises(AttributeError, match=r"no attribute 'SentenceTransformer'; write Embedder\.load\(name\)"):
        udever.SentenceTransformer  # noqa: B018

import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from udever import Embedder, TruncationWarning
from udever.errors import ContractError, ModelError, TextError, UdeverError
from udever.model import packing

HOSTILE = {
    "empty": "",
    "spaces": "   \n\t ",
    "nul": "\x00",
    "long": "x" * 1_000_000,
    "right to left": "مرحبا بالعالم שלום",
    "combining": "e" + "\u0301" * 50,
    "no words": "🤷‍♂️" * 9,
    "marker": "[EOQ] </s> [BOD]",
    "replacement": "\ufffd\uffff",
}
TEXTS = st.lists(
    st.text(max_size=40) | st.sampled_from([t for t in HOSTILE.values() if len(t) < 999]),
    min_size=1,
    max_size=5,
)


@pytest.mark.parametrize("family", ["bloom", "qwen3", "gemma3_text", "falcon"])
@pytest.mark.parametrize("pooling", ["last", "weighted_mean"])
def test_alone_is_batched_is_any_order(family, pooling, embedders):
    embedder = embedders(family, pooling=pooling)

    @settings(max_examples=5)
    @given(TEXTS, st.integers(1, 200), st.randoms(use_true_random=False))
    def check(texts, batch_tokens, random):
        alone = np.stack([embedder.encode(text, allow_empty=True) for text in texts])
        order = random.sample(range(len(texts)), len(texts))
        together = embedder.encode([texts[i] for i in order], batch_tokens=batch_tokens, allow_empty=True)
        np.testing.assert_allclose(together, alone[order], atol=2e-5)

    check()


@pytest.mark.filterwarnings("ignore::udever.TruncationWarning")
@pytest.mark.parametrize("family", ["bloom", "qwen3", "xglm"])
def test_hostile_texts_give_finite_unit_vectors_and_disturb_no_neighbour(family, embedders):
    embedder = embedders(family)
    plain = embedder.encode(["hello", "world"])
    vectors = embedder.encode(["hello", *HOSTILE.values(), "world"], allow_empty=True)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(vectors[[0, -1]], plain, atol=1e-5)
    cosines = vectors @ vectors.T - np.eye(len(vectors))
    assert cosines.max() < 1 - 1e-4, "two different texts have the same vector"


def test_a_marker_in_a_text_is_not_the_marker(embedders):
    embedder = embedders("bloom", known_as="izhx/udever-bloom-560m")
    forged, plain = embedder.encode_query(["hello[EOQ]", "hello"])
    assert forged @ plain < 0.9999
    assert 5 not in embedder.tokenize(["hello[EOQ]"], "query").ids[0][:-1]


def test_one_string_is_one_vector_and_nothing_is_no_vector(embedders):
    embedder = embedders("bloom")
    assert embedder.encode("hello").shape == (32,)
    assert embedder.encode(["hello"]).shape == (1, 32)
    assert embedder.encode([]).shape == (0, 32)
    assert embedder.encode("hello").dtype == np.float32
    assert embedder.dimensions == 32


def test_outputs(embedders):
    embedder = embedders("bloom")
    tensor = embedder.encode(["a", "b"], convert_to_tensor=True)
    assert isinstance(tensor, torch.Tensor)
    np.testing.assert_array_equal(tensor.numpy(), embedder.encode(["a", "b"]))


@given(dimensions=st.integers(1, 32))
def test_dimensions_are_cut_and_then_scaled(embedders, dimensions):
    embedder = embedders("bloom")
    whole, cut = embedder.encode(["a", "hello"]), embedder.encode(["a", "hello"], truncate_dim=dimensions)
    assert cut.shape == (2, dimensions)
    np.testing.assert_allclose(np.linalg.norm(cut, axis=1), 1, atol=1e-5)
    again = whole[:, :dimensions] / np.linalg.norm(whole[:, :dimensions], axis=1, keepdims=True)
    np.testing.assert_allclose(cut, again, atol=1e-5)


def test_length_is_left_where_it_is_asked_for(embedders):
    embedder = embedders("bloom")
    raw = embedder.encode(["a", "hello"], normalize_embeddings=False)
    lengths = np.linalg.norm(raw, axis=1)
    assert abs(lengths - 1).min() > 1e-2
    np.testing.assert_allclose(raw / lengths[:, None], embedder.encode(["a", "hello"]), atol=1e-6)
    np.testing.assert_allclose(embedders("bloom", normalize=False).encode(["a", "hello"]), raw, atol=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"truncate_dim": 0}, "1 to 32"),
        ({"truncate_dim": 33}, "1 to 32"),
        ({"batch_tokens": 0}, "at least 1"),
        ({"batch_size": 0}, "at least 1"),
        ({"prompt_name": "qury"}, "did you mean 'query'"),
        ({"prompt": "a", "instruction": "b"}, "both"),
    ],
)
def test_options_that_make_no_sense(embedders, options, message):
    with pytest.raises(TextError, match=message):
        embedders("bloom").encode(["a"], **options)


@pytest.mark.parametrize(
    ("texts", "message"),
    [(["a", "\udfff"], "row 1.*surrogate"), (["a", 3], "row 1 is int"), ([None], "row 0")],
)
def test_what_is_no_text_is_refused_with_its_row(embedders, texts, message):
    with pytest.raises(TextError, match=message):
        embedders("bloom").encode(texts)


@pytest.mark.parametrize("method", ["encode", "encode_query", "encode_document"])
@pytest.mark.parametrize("empty", ["", "  \n\t ", "\u3000\u00a0"])
def test_a_text_of_white_space_alone_is_refused_with_its_row(embedders, method, empty):
    encode = getattr(embedders("bloom"), method)
    with pytest.raises(TextError, match=r"row 1 \(2 in all\) is empty"):
        encode(["a", empty, "b", empty])
    with pytest.raises(TextError, match="row 0"):
        encode(empty, prompt="find: ")
    assert np.isfinite(encode(["a", empty], allow_empty=True)).all()


INSTRUCTION = "Given a question about numbers, find the function of this repository that answers it best"
QUESTIONS = ["add two numbers", "what is the sum", "x", "hello world, what is the sum of all those numbers?"]


@pytest.fixture
def laid_down(monkeypatch):
    """How many tokens each packed batch held."""
    from udever import embedder

    counts = []

    def note(*given):
        counts.append(len(packing.pack(*given).tokens))
        return packing.pack(*given)

    monkeypatch.setattr(embedder, "pack", note)
    return counts


@pytest.mark.parametrize("family", ["bloom", "qwen3", "gemma3_text", "mistral", "gpt_neox", "olmo2"])
def test_an_instruction_is_computed_once_a_batch(family, embedders, laid_down):
    embedder = embedders(family)
    alone = np.stack([embedder.encode_query(text, instruction=INSTRUCTION) for text in QUESTIONS])
    whole = sum(laid_down)
    laid_down.clear()
    together = embedder.encode_query(QUESTIONS, instruction=INSTRUCTION)
    np.testing.assert_allclose(together, alone, atol=1e-5)
    front = embedder.tokenize([INSTRUCTION], "query").ids[0]
    assert whole - sum(laid_down) > 0.9 * (len(QUESTIONS) - 1) * len(front)


@pytest.mark.parametrize("dtype", ["bfloat16", "int8"])
def test_a_shared_instruction_changes_little_in_other_precisions(dtype, decoders):
    embedder = Embedder.load(decoders("qwen3"), dtype=dtype, device="cpu")
    alone = np.stack([embedder.encode_query(text, instruction=INSTRUCTION) for text in QUESTIONS])
    together = embedder.encode_query(QUESTIONS, instruction=INSTRUCTION)
    assert (alone * together).sum(1).min() > 0.9995


@pytest.mark.parametrize(
    ("family", "changes"),
    [("qwen3", {"pooling": "mean"}), ("qwen3", {"attention": "bidirectional"}), ("falcon", {})],
    ids=["mean", "bidirectional", "padded"],
)
def test_a_front_that_is_not_the_same_for_all_is_not_shared(family, changes, embedders, laid_down):
    embedder = embedders(family, **changes)
    alone = np.stack([embedder.encode_query(text, instruction=INSTRUCTION) for text in QUESTIONS])
    whole = sum(laid_down)
    laid_down.clear()
    np.testing.assert_allclose(embedder.encode_query(QUESTIONS, instruction=INSTRUCTION), alone, atol=1e-5)
    assert sum(laid_down) == whole


def test_tokenized_texts_are_encoded_batch_by_batch(embedders):
    embedder = embedders("bloom")
    texts = ["hello world", "a", "def add(a, b)", "sum of numbers"]
    tokenized = embedder.tokenize(texts, "document")
    out = np.zeros((4, 8), np.float32)
    lengths = []
    for rows, vectors in embedder.encode_tokenized(tokenized, dimensions=8, batch_tokens=12):
        out[rows] = vectors.numpy()
        lengths += [len(tokenized.ids[row]) for row in rows]
    np.testing.assert_array_equal(out, embedder.encode_document(texts, truncate_dim=8, batch_tokens=12))
    assert lengths == sorted(map(len, tokenized.ids), reverse=True)


def test_truncation_is_counted_warned_of_once_and_told(embedders):
    embedder = embedders("bloom", max_length=10)
    with pytest.warns(TruncationWarning) as caught:
        cut = embedder.encode(["z" * 30, "ok", "q" * 9, "q" * 10], batch_tokens=8)
    assert len(caught) == 1
    assert "2 of 4 texts" in str(caught[0].message)
    assert "31" in str(caught[0].message)
    assert caught[0].filename == __file__
    assert embedder.last_truncation.truncated.tolist() == [True, False, False, True]
    assert embedder.last_truncation.num_tokens.tolist() == [31, 3, 10, 11]
    np.testing.assert_allclose(cut[3], cut[2], atol=1e-6)  # ten letters cut to nine
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        embedder.encode(["ok"])
    assert embedder.last_truncation.truncated.tolist() == [False]


def test_prompts_and_instructions(embedders):
    embedder = embedders("bloom", instruction="Task: {instruction}. ")
    by_hand = embedder.encode_query(["hello"], prompt="Task: find code. ")
    np.testing.assert_array_equal(embedder.encode_query(["hello"], instruction="find code"), by_hand)
    np.testing.assert_allclose(embedder.encode(["Task: find code. hello"]), by_hand, atol=1e-6)
    assert (by_hand @ embedder.encode_query("hello"))[0] < 0.9999
    np.testing.assert_array_equal(
        embedder.encode_query(["a"], instruction="{odd} %s {"),
        embedder.encode_query(["a"], prompt="Task: {odd} %s {. "),
    )


@pytest.mark.parametrize("template", ["no place", "{other}", "{", "{0}"])
def test_an_instruction_template_without_its_place_is_refused(decoders, template):
    with pytest.raises(UdeverError, match="instruction") as caught:
        Embedder.load(decoders("bloom"), dtype="float32", instruction=template).encode_query("a", instruction="b")
    assert "\n" not in str(caught.value)


def test_similarity_is_cosine(embedders):
    embedder = embedders("bloom")
    a, b = np.random.default_rng(0).normal(size=(2, 3, 8)).astype(np.float32)
    expected = (a / np.linalg.norm(a, axis=1, keepdims=True)) @ (b / np.linalg.norm(b, axis=1, keepdims=True)).T
    np.testing.assert_allclose(embedder.similarity(a, b), expected, atol=1e-6)
    assert isinstance(embedder.similarity(torch.tensor(a), b), torch.Tensor)
    assert embedder.similarity(a[0], b).shape == (1, 3)


def test_a_vector_that_is_not_finite_is_an_error_and_never_returned(decoders):
    embedder = Embedder.load(decoders("bloom"), dtype="float32", device="cpu")
    with torch.no_grad():
        embedder.backbone.word_embeddings.weight[embedder.tokenizer.hf.get_vocab()["Z"]] = float("nan")
    assert np.isfinite(embedder.encode(["a", "b"])).all()
    with pytest.raises(TextError, match=r"row 1 \(1 in all\)"):
        embedder.encode(["a", "Z", "b"])


def test_bfloat16_stays_near(decoders, embedders):
    texts = ["hello world", "def add(a, b)", "x" * 200]
    half = Embedder.load(decoders("bloom"), dtype="bfloat16", device="cpu").encode(texts)
    assert half.dtype == np.float32
    assert (half * embedders("bloom").encode(texts)).sum(1).min() > 0.99


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dtype": "float16"}, "float16"),
        ({"device": "nonsense"}, "device"),
        ({"pooling": "max"}, "pooling is 'max'; expected one of last, mean, weighted_mean"),
        ({"pooling": "maen"}, "pooling is 'maen'; did you mean 'mean'"),
        ({"dtype": "flaot32"}, "dtype is 'flaot32'; did you mean 'float32'"),
        ({"device": "cdua"}, "device is 'cdua'; did you mean 'cuda'"),
        ({"max_length": 1}, "max_length"),
        ({"max_length": "many"}, "max_length"),
        ({"dimensions": 0}, "dimensions"),
        ({"dimensions": 33}, "dimensions"),
        ({"attention": "none"}, "attention"),
    ],
)
def test_load_refuses_changes_that_do_not_exist(decoders, changes, message):
    options = {"device": "cpu", "dtype": "float32", **changes}
    with pytest.raises(ModelError, match=message) as caught:
        Embedder.load(decoders("bloom"), **options)
    assert "\n" not in str(caught.value)


@pytest.mark.filterwarnings("ignore::udever.TruncationWarning")
@pytest.mark.parametrize("family", ["gpt2", "opt"])
def test_a_length_beyond_the_models_positions_is_refused(make, family, tmp_path):
    limit = {"gpt2": "n_positions", "opt": "max_position_embeddings"}[family]
    folder = make.decoder(family, tmp_path / "model", **{limit: 64})
    assert Embedder.load(folder, dtype="float32").contract.max_length == 64
    Embedder.load(folder, dtype="float32").encode(["x" * 200])
    with pytest.raises(ModelError, match="64"):
        Embedder.load(folder, dtype="float32", max_length=65).encode(["x" * 200])


def test_a_tokenizer_with_more_entries_than_the_model_has_rows_is_refused(make, tmp_path):
    folder = make.decoder("llama", tmp_path / "model", vocab_size=300)
    with pytest.raises(UdeverError):
        Embedder.load(folder, dtype="float32").encode(["hello world", "add numbers"])


def test_fingerprints_tell_spaces_apart(make, decoders, embedders, tmp_path):
    plain = embedders("bloom").fingerprint
    assert plain == Embedder.load(decoders("bloom"), dtype="float32").fingerprint
    assert plain != embedders("bloom", max_length=10).fingerprint
    assert plain != embedders("bloom", pooling="mean").fingerprint
    assert plain != embedders("qwen3").fingerprint
    tokenizer = make.tokenizer()
    tokenizer.add_tokens(["another"])
    other = make.decoder("bloom", tmp_path / "other", tokenizer=tokenizer)
    assert plain != Embedder.load(other, dtype="float32").fingerprint
    changed = Embedder.load(decoders("bloom"), dtype="float32")
    with torch.no_grad():
        changed.backbone.ln_f.bias[0] += 1
    changed.weights_changed()
    assert changed.fingerprint != plain


def test_a_fingerprint_is_taken_once_for_the_same_weights_and_contract(embedders, monkeypatch):
    embedder = embedders("bloom")
    name = embedder.fingerprint
    monkeypatch.setattr("udever.model.artefact.fingerprint", None)
    assert embedder.fingerprint == name


def test_the_embedder_of_a_copy_of_its_weights_is_refused_nothing(embedders):
    """ContractError is a ModelError is a ValueError: one `except` catches what a caller can mend."""
    assert issubclass(ContractError, ModelError)
    assert issubclass(ModelError, ValueError)


def test_finish_is_what_encode_does_to_pooled_vectors(embedders):
    embedder = embedders("bloom")
    pooled = embedder.encode(["a", "b"], normalize_embeddings=False, convert_to_tensor=True)
    np.testing.assert_allclose(embedder.finish(pooled).numpy(), embedder.encode(["a", "b"]), atol=1e-6)
    small = embedder.finish(pooled, 8)
    np.testing.assert_allclose(small.numpy(), embedder.encode(["a", "b"], truncate_dim=8), atol=1e-6)
    np.testing.assert_array_equal(embedder.finish(pooled, 8, normalize=False).numpy(), pooled[:, :8].numpy())
    with pytest.raises(TextError, match="expected 1 to 32"):
        embedder.finish(pooled, 33)


@pytest.mark.parametrize("token", [-1, 420])
def test_tokens_the_model_does_not_have_are_named(token, embedders):
    with pytest.raises(TextError, match=f"row 1 has token {token}"):
        embedders("bloom").check_tokens([[1], [5, token]])

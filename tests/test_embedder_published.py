"""Published checkpoints' own procedures, written anew from their cards, against the path."""

import numpy as np
import pytest
import torch
from transformers import AutoModel, AutoTokenizer

from udever import Embedder
from udever.errors import ModelError
from udever.model.adapters import apply_tuning, save_adapter

TEXTS = [
    "hello world",
    "a",
    "def add(a, b):\n    return a + b",
    "sum of numbers " * 200,
    "مرحبا é 你好",
    "what is the sum of two numbers",
]

pytestmark = pytest.mark.filterwarnings("ignore::udever.TruncationWarning")


@pytest.fixture(scope="module")
def own(decoders):
    folder = decoders("bloom")
    return AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder, dtype=torch.float32).eval()


def card(own, texts, opening, closing):
    """izhx/udever-bloom-*: opening name before the text, cut to 299, closing id appended, last state."""
    tokenizer, model = own
    rows = [tokenizer(opening + text, truncation=True, max_length=299)["input_ids"] for text in texts]
    closing_id = tokenizer.convert_tokens_to_ids(closing)
    features = tokenizer.pad({"input_ids": [[*row, closing_id] for row in rows]}, padding=True, return_tensors="pt")
    with torch.inference_mode():
        hidden = model(**features).last_hidden_state
    lengths = features["attention_mask"].sum(1)
    vectors = hidden[torch.arange(len(texts)), lengths - 1]
    return torch.nn.functional.normalize(vectors, dim=-1).numpy()


@pytest.mark.filterwarnings("ignore:You're using a.*TokenizerFast tokenizer")
def test_udever_bloom(embedders, own):
    embedder = embedders("bloom", known_as="izhx/udever-bloom-560m")
    own[0].padding_side = "right"
    np.testing.assert_allclose(embedder.encode_query(TEXTS), card(own, TEXTS, "[BOQ]", "[EOQ]"), atol=2e-5)
    np.testing.assert_allclose(embedder.encode_document(TEXTS), card(own, TEXTS, "[BOD]", "[EOD]"), atol=2e-5)
    np.testing.assert_array_equal(embedder.encode(TEXTS), embedder.encode_query(TEXTS))
    assert embedder.last_truncation.truncated.tolist() == [len(text) > 2000 for text in TEXTS]


def sgpt(own, text, opening, closing):
    """sgpt-bloom-7b1-msmarco: brackets around 298 tokens, position-weighted mean (arXiv 2202.08904)."""
    tokenizer, model = own
    vocabulary = tokenizer.get_vocab()
    body = tokenizer(text, add_special_tokens=False)["input_ids"][:298]
    ids = torch.tensor([[vocabulary[opening], *body, vocabulary[closing]]])
    with torch.inference_mode():
        hidden = model(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state[0]
    vector = sum((place + 1) * state for place, state in enumerate(hidden)) / sum(range(1, len(hidden) + 1))
    return (vector / vector.norm()).numpy()


def test_sgpt_bloom(embedders, own):
    embedder = embedders("bloom", known_as="bigscience/sgpt-bloom-7b1-msmarco")
    queries = np.stack([sgpt(own, text, "[", "]") for text in TEXTS])
    documents = np.stack([sgpt(own, text, "{", "}") for text in TEXTS])
    np.testing.assert_allclose(embedder.encode_query(TEXTS), queries, atol=2e-5)
    np.testing.assert_allclose(embedder.encode_document(TEXTS), documents, atol=2e-5)


def test_brackets_in_an_sgpt_text_are_not_markers(embedders):
    """The brackets are ordinary tokens of the vocabulary; a text's own must still reach the model somehow."""
    embedder = embedders("bloom", known_as="bigscience/sgpt-bloom-7b1-msmarco")
    with_brackets, without = embedder.encode_document(["a[0] = {b}", "a0 = b"])
    assert with_brackets @ without < 0.9999


def test_brackets_in_an_sgpt_text_are_read_as_the_authors_do(embedders, own):
    embedder = embedders("bloom", known_as="bigscience/sgpt-bloom-7b1-msmarco")
    code = "a[0] = {b}"
    np.testing.assert_allclose(embedder.encode_document(code), sgpt(own, code, "{", "}"), atol=2e-5)


def test_a_published_model_that_is_not_known_is_answered_with_the_nearest(decoders):
    with pytest.raises(ModelError, match="did you mean 'izhx/udever-bloom-560m'") as caught:
        Embedder.load(decoders("bloom"), known_as="izhx/udever-bloom-560")
    assert "\n" not in str(caught.value)


def test_a_model_with_a_contract_of_its_own_is_no_published_one(embedders, tmp_path):
    embedder = embedders("bloom", max_length=77)
    embedder.save(tmp_path / "saved")
    base = str(tmp_path / "saved")
    adapted = Embedder.load(base)
    apply_tuning(adapted.backbone, "lora")
    save_adapter(adapted.backbone, tmp_path, base)
    for name in (base, str(tmp_path)):
        assert Embedder.load(name).contract == embedder.contract
        with pytest.raises(ModelError, match="brings its own contract; leave out known_as"):
            Embedder.load(name, known_as="izhx/udever-bloom-560m")


def test_a_vocabulary_without_the_markers_is_refused(make, tmp_path):
    from tokenizers import Tokenizer, models

    tokenizer = make.wrap_tokenizer(Tokenizer(models.WordLevel({"<unk>": 0, "<s>": 1, "</s>": 2, "<pad>": 3}, "<unk>")))
    folder = make.decoder("bloom", tmp_path / "model", tokenizer=tokenizer)
    for name in ("bigscience/sgpt-bloom-7b1-msmarco", "izhx/udever-bloom-560m"):
        with pytest.raises(ModelError):
            Embedder.load(folder, dtype="float32", known_as=name).encode_query("a")

import numpy as np
import pytest
from datasets import Dataset
from mteb.models import EncoderProtocol, SearchProtocol
from mteb.models.search_wrappers import SearchEncoderWrapper
from mteb.types import PromptType

from udever.errors import TextError
from udever.evaluation.mteb_model import as_mteb, best
from udever.evaluation.mteb_task import as_mteb_task
from udever.evaluation.tasks import FolderTask


@pytest.fixture
def meta_of(tmp_path, tiny):
    """kind -> the metadata of a tiny task of that kind."""
    return lambda kind, **spec: as_mteb_task(FolderTask(tiny.write(tmp_path / kind, kind, **spec))).metadata


@pytest.fixture
def encode(meta_of):
    def encode(model, texts, *, prompt_type=None, kind="sts", **spec):
        class Loader:
            dataset = Dataset.from_dict({"text": texts})

        return model.encode(
            Loader(), task_metadata=meta_of(kind, **spec), hf_split="test", hf_subset="en", prompt_type=prompt_type
        )

    return encode


def test_it_is_what_mteb_asks_for(mteb_model):
    assert isinstance(mteb_model(), EncoderProtocol) and isinstance(mteb_model(), SearchProtocol)


def test_each_distinct_text_is_embedded_once(mteb_model, bag_of_words, encode):
    model = mteb_model()
    first = encode(model, ["a", "b", "a", "c"])
    assert [texts for texts, _, _ in bag_of_words.calls] == [["a", "b", "c"]]
    second = encode(model, ["c", "d", "a"])
    assert [texts for texts, _, _ in bag_of_words.calls[1:]] == [["d"]]
    np.testing.assert_array_equal(second[[0, 2]], first[[3, 0]])
    np.testing.assert_array_equal(first[0], first[2])
    encode(model, ["a"], prompt_type=PromptType.query)
    assert bag_of_words.calls[-1] == (["a"], "query", None)
    assert model.num_embedded == 5


def test_what_is_remembered_is_bounded(mteb_model, bag_of_words, encode):
    model = mteb_model(remembered_bytes=3 * 64 * 4)
    encode(model, ["a", "b", "c", "d"])
    assert len(model._remembered._vectors) == 3
    found = encode(model, ["a", "b", "c", "d"])
    assert bag_of_words.calls[-1][0] == ["a"]
    np.testing.assert_array_equal(found, encode(mteb_model(), ["a", "b", "c", "d"]))


def test_embedding_ahead_fills_the_memory_and_no_more(mteb_model, bag_of_words, encode, meta_of):
    model = mteb_model(remembered_bytes=2 * 64 * 4)
    model.embed_ahead(["a", "b", "a", "c"], meta_of("sts"), "here")
    assert bag_of_words.calls == [(["a", "b"], "symmetric", None)]
    encode(model, ["b", "a"])
    assert len(bag_of_words.calls) == 1


@pytest.mark.parametrize(
    ("prompts", "expected"),
    [
        ({"retrieval": "name ", "Retrieval": "type ", "query": "role "}, "name "),
        ({"retrieval-query": "name and role ", "retrieval": "name "}, "name and role "),
        ({"Retrieval": "type ", "query": "role "}, "type "),
        ({"Retrieval-document": "other role ", "Retrieval": "type "}, "type "),
        ({"query": "role ", "STS": "no "}, "role "),
        ({"document": "no "}, None),
    ],
)
def test_the_most_special_prompt_wins(prompts, expected, mteb_model, bag_of_words, encode):
    encode(mteb_model(prompts=prompts), ["a"], prompt_type=PromptType.query, kind="retrieval")
    assert bag_of_words.calls[-1] == (["a"], "query", expected)


@pytest.mark.parametrize(
    ("prompts", "expected"),
    [
        ({"symmetric": "role ", "query": "no "}, "role "),
        ({"STS-symmetric": "type and role ", "STS": "type "}, "type and role "),
        ({"STS": "type ", "symmetric": "role "}, "type "),
    ],
)
def test_a_symmetric_text_has_the_prompt_of_its_role(prompts, expected, mteb_model, bag_of_words, encode):
    encode(mteb_model(prompts=prompts), ["a"])
    assert bag_of_words.calls[-1] == (["a"], "symmetric", expected)


def test_instructions_go_to_queries_and_to_both_sides_of_symmetric_tasks(mteb_model, bag_of_words, encode):
    model = mteb_model(instructions=True, template="[{instruction}] ")
    encode(model, ["a"], prompt="Find twins")
    assert bag_of_words.calls[-1][2] == "[Find twins] "
    encode(model, ["a"], kind="retrieval", prompt_type=PromptType.document, prompt="Find answers")
    assert bag_of_words.calls[-1][2] is None
    encode(model, ["a"], kind="retrieval", prompt_type=PromptType.query)
    assert "user query" in bag_of_words.calls[-1][2]


def test_many_texts_go_in_steps_the_longest_first_and_tell_how_far_they_are(
    mteb_model, bag_of_words, encode, monkeypatch
):
    texts = ["a", "b b b", "c c", "b b b", "d d d d", "e e e e e"]
    whole = encode(mteb_model(), texts)
    monkeypatch.setattr("udever.evaluation.mteb_model._STEP", 2)
    model = mteb_model()
    told = []
    model.watch = lambda: told.append(model.num_embedded)
    bag_of_words.calls.clear()
    np.testing.assert_array_equal(encode(model, texts), whole)
    assert [call[0] for call in bag_of_words.calls] == [["e e e e e", "d d d d"], ["b b b", "c c"], ["a"]]
    assert told == [2, 4, 5]


@pytest.mark.parametrize("step", [1, 2, 4096])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_vector_that_is_not_finite_names_place_row_and_text(bad, step, mteb_model, encode, monkeypatch):
    monkeypatch.setattr("udever.evaluation.mteb_model._STEP", step)

    def spoiled(texts, role, prompt):
        return np.array([[bad if text == "poison" else 1.0] for text in texts], dtype=np.float32)

    with pytest.raises(TextError, match=r"sts, test, en: row 3 \('poison'\).*not finite"):
        encode(mteb_model(embed=spoiled), ["a", "b", "a", "poison"])


def texts(prefix, count):
    return Dataset.from_dict(
        {"id": [f"{prefix}{n}" for n in range(count)], "text": [f"{prefix} {n % 7} w{n % 5} {n}" for n in range(count)]}
    )


def search(model, meta, *, top_k=5, top_ranked=None):
    options = {"task_metadata": meta, "hf_split": "test", "hf_subset": "en", "encode_kwargs": {}, "num_proc": None}
    corpus = texts("d", 50).add_column("title", ["head" if n % 2 else "" for n in range(50)])
    model.index(corpus, **options)
    return model.search(texts("q", 8), top_k=top_k, top_ranked=top_ranked, **options)


def test_search_is_mtebs_own_at_any_block_size(mteb_model, meta_of, monkeypatch):
    meta = meta_of("retrieval")

    class EncoderAlone:
        def __init__(self, model):
            self.encode, self.similarity, self.mteb_model_meta = model.encode, model.similarity, model.mteb_model_meta

    expected = search(SearchEncoderWrapper(EncoderAlone(mteb_model())), meta)
    for size in (1, 7, 50):
        monkeypatch.setattr("udever.evaluation.mteb_model._DOCUMENTS", size)
        found = search(mteb_model(), meta)
        for query, hits in expected.items():
            assert sorted(found[query].values()) == pytest.approx(sorted(hits.values()), abs=1e-6)


def test_reranking_scores_the_candidates_alone(mteb_model, meta_of):
    candidates = {f"q{n}": [f"d{n}", f"d{n + 9}"] for n in range(8)}
    everything = search(mteb_model(), meta_of("retrieval"), top_k=50)
    found = search(mteb_model(), meta_of("retrieval"), top_ranked=candidates)
    for query, hits in found.items():
        assert hits == pytest.approx({name: everything[query][name] for name in candidates[query]}, abs=1e-6)


def test_a_big_corpus_does_not_stay_in_memory(mteb_model, meta_of, monkeypatch):
    monkeypatch.setattr("udever.evaluation.mteb_model._DOCUMENTS", 10)
    sizes = []

    def watched(texts, role, prompt):
        sizes.append(len(texts))
        return np.ones((len(texts), 64), dtype=np.float32)

    model = mteb_model(embed=watched, remembered_bytes=12 * 64 * 4)
    search(model, meta_of("retrieval"))
    assert max(sizes) == 10 and len(model._remembered._vectors) <= 12


def test_fewer_documents_than_asked_for():
    found = best(np.eye(2, dtype=np.float32), ["a", "b"], iter([(["x"], np.eye(2, dtype=np.float32)[:1])]), 10)
    assert found == {"a": {"x": 1.0}, "b": {"x": 0.0}}


def test_an_embedder_in_its_roles(embedders, encode):
    embedder = embedders("bloom", known_as="izhx/udever-bloom-560m")
    model = as_mteb(embedder, name="org/tiny")
    words = ["sum of numbers", "a", "def add(a, b)"]
    np.testing.assert_allclose(encode(model, words), embedder.encode(words), atol=1e-6)
    for kind, own in ((PromptType.query, embedder.encode_query), (PromptType.document, embedder.encode_document)):
        np.testing.assert_allclose(encode(model, words, prompt_type=kind), own(words), atol=1e-6)
    prompted = as_mteb(embedder, prompts={"STS": "Same? "}, dimensions=8)
    found = encode(prompted, words)
    np.testing.assert_allclose(found, embedder.encode(words, prompt="Same? ", truncate_dim=8), atol=1e-6)


def test_the_revision_follows_all_that_changes_a_vector(embedders, decoders):
    from udever import Embedder

    embedder = embedders("llama")
    half = Embedder.load(decoders("llama"), dtype="bfloat16", device="cpu")
    pooled = embedders("llama", pooling="mean")
    models = [
        as_mteb(embedder),
        as_mteb(half),
        as_mteb(pooled),
        as_mteb(embedder, prompts={"STS": "x"}),
        as_mteb(embedder, prompts={"query": "x"}),
        as_mteb(embedder, instructions=True),
        as_mteb(embedder, dimensions=8),
    ]
    assert len({model.mteb_model_meta.revision for model in models}) == len(models)
    assert as_mteb(embedder, batch_tokens=64).mteb_model_meta.revision == models[0].mteb_model_meta.revision
    assert models[0].mteb_model_meta.n_parameters > 0 and models[0].mteb_model_meta.embed_dim == 32


def test_cut_texts_are_counted_and_no_warning_is_shown_for_each_call(embedders, encode):
    model = as_mteb(embedders("llama", max_length=8))
    encode(model, ["sum of numbers " * 20, "a"])
    assert (model.num_truncated, model.num_embedded) == (1, 2)

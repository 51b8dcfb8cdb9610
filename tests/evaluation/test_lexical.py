import numpy as np
import pytest

from udever.evaluation.lexical import NAMES, lexical_model
from udever.evaluation.mteb_task import as_mteb_task
from udever.evaluation.tasks import FolderTask

TABLES = {
    "en.corpus": [
        {"id": "a", "text": "the cat sat on the mat"},
        {"id": "b", "text": "dogs bark at night"},
        {"id": "c", "title": "Rivers", "text": "run to the sea"},
    ],
    "en.queries": [{"id": "1", "text": "a barking dog, dogs"}, {"id": "2", "text": "rivers"}],
    "en.qrels": [{"query_id": "1", "corpus_id": "b"}, {"query_id": "2", "corpus_id": "c"}],
}


@pytest.mark.parametrize("name", ["bm25", "char-tfidf"])
def test_words_in_common_are_found(name, tmp_path, tiny):
    tables = {**TABLES, "en.corpus": [{"title": "", **row} for row in TABLES["en.corpus"]]}
    task = as_mteb_task(FolderTask(tiny.write(tmp_path / "t", "retrieval", tables)))
    assert task.evaluate(lexical_model(name, "1"), encode_kwargs={})["en"]["ndcg_at_1"] == 1


def test_a_document_that_shares_no_word_is_not_found(tmp_path, tiny):
    queries = [{"id": "1", "text": "felines"}, {"id": "2", "text": "rivers"}]
    qrels = [{"query_id": "1", "corpus_id": "a"}, {"query_id": "2", "corpus_id": "c"}]
    tables = {
        "en.corpus": [{"title": "", **row} for row in TABLES["en.corpus"]],
        "en.queries": queries,
        "en.qrels": qrels,
    }
    task = as_mteb_task(FolderTask(tiny.write(tmp_path / "t", "retrieval", tables)))
    found = task.evaluate(lexical_model("bm25", "1"), encode_kwargs={})["en"]
    assert found["ndcg_at_10"] == found["recall_at_10"] == 0.5, "the first of the corpus is no answer to felines"


@pytest.mark.parametrize("name", NAMES)
def test_reranking_scores_the_candidates(name, tmp_path, tiny):
    rows = [{"query": f"apple {n}", "positives": [f"apple pie {n}"], "negatives": ["zzz", "qqq"]} for n in range(6)]
    task = as_mteb_task(FolderTask(tiny.write(tmp_path / "t", "reranking", {"en": rows})))
    found = task.evaluate(lexical_model(name, "1"), encode_kwargs={})["en"]["main_score"]
    assert found == 1 if name != "random" else 0.3 < found < 1


def test_rare_ngrams_weigh_more_once_the_task_was_seen(tmp_path, tiny):
    model = lexical_model("char-tfidf", "1")
    words = ["common alpha", "common beta", "rare beta"]

    def cosines():
        vectors = model.embed(words, "symmetric", None, "here")
        return vectors @ vectors.T

    before = cosines()
    model.embed_ahead([*words, *(f"common {n}" for n in range(40))], None, "here")
    after = cosines()
    assert after[1, 2] > before[1, 2] and after[0, 1] < before[0, 1]
    np.testing.assert_allclose(np.diag(after), 1, atol=1e-5)
    assert np.isfinite(model.embed([""], "symmetric", None, "here")).all()


def test_random_vectors_are_the_texts_own_and_unrelated():
    first, again = (lexical_model("random", "1").embed(["a", "b", "a"], "symmetric", None, "x") for _ in range(2))
    np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal(first[0], first[2])
    cosine = first[0] @ first[1] / np.linalg.norm(first[0]) / np.linalg.norm(first[1])
    assert abs(cosine) < 0.3

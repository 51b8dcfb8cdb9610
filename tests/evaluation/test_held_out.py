import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from udever.errors import DataError
from udever.evaluation.held_out import METRICS, read_questions, score_held_out, write_held_out
from udever.evaluation.lexical import FusedSearch, lexical_model
from udever.evaluation.models_under_test import ModelUnderTest
from udever.pairs.schema import Pair

WORDS = ["red", "green", "blue", "black", "white", "pink", "gold", "grey", "teal", "lime", "navy", "rust"]
PAIRS = [Pair(f"where is {word}", f"here is {word} {word}") for word in WORDS]


@pytest.fixture(scope="module")
def write(tmp_path_factory):
    return lambda pairs, **options: write_held_out(pairs, tmp_path_factory.mktemp("held") / "out", **options)


@pytest.fixture
def score(tmp_path):
    """Scores of one model; the results stay in a folder of their own."""

    def score(model, tasks):
        tested = ModelUnderTest("it", None, lambda: model)
        return score_held_out([tested], tasks, tmp_path / f"results-{len(list(tmp_path.iterdir()))}")["it"]

    return score


def read(task):
    """Queries with their answers, documents, and ids by text."""
    corpus, queries, qrels = (task.read("pairs", part) for part in ("corpus", "queries", "qrels"))
    documents = dict(zip(corpus["id"], corpus["text"], strict=True))
    asked = dict(zip(queries["id"], queries["text"], strict=True))
    answers = {text: set() for text in queries["text"]}
    for query, document in zip(qrels["query_id"], qrels["corpus_id"], strict=True):
        answers[asked[query]].add(documents[document])
    return answers, corpus["text"], (asked, documents)


def test_duplicates_merge_and_an_anchor_keeps_all_its_positives(write):
    (task,) = write([Pair("q1", "d1"), Pair("q2", "d1"), Pair("q1", "d2"), Pair("q1", "d1")])
    answers, documents, _ = read(task)
    assert (answers, documents) == ({"q1": {"d1", "d2"}, "q2": {"d1"}}, ["d1", "d2"])


def test_a_group_is_relevant_to_all_of_its_anchors(write):
    pairs = [Pair("q1", "d1", group="g"), Pair("q2", "d2", group="g"), Pair("q3", "d3"), Pair("q4", "d4")]
    answers, *_ = read(write(pairs)[0])
    assert answers == {"q1": {"d1", "d2"}, "q2": {"d1", "d2"}, "q3": {"d3"}, "q4": {"d4"}}


def test_kinds_do_not_mix(write):
    pairs = [Pair("s", "t", kind="symmetric"), Pair("q", "d"), Pair("x", "c", kind="classification", label="c")]
    asymmetric, classes, symmetric = write(pairs)
    assert (asymmetric.spec.symmetric, read(asymmetric)[1]) == (False, ["d"])
    assert (classes.spec.symmetric, read(classes)[1]) == (True, ["c"])
    assert (symmetric.spec.symmetric, read(symmetric)[1]) == (True, ["t"])


def test_the_query_itself_is_no_answer(write):
    (task,) = write([Pair("en", "es", group="g"), Pair("es", "fr", group="g"), Pair("OK", "OK")])
    answers, documents, (asked, found) = read(task)
    assert answers == {"en": {"es", "fr"}, "es": {"fr"}} and documents == ["es", "fr", "OK"]
    assert {asked[name] for name in asked.keys() & found.keys()} == {"es"}


def test_nothing_to_score(write):
    with pytest.raises(DataError, match="1 pairs make no query"):
        write([Pair("a", "a")])
    with pytest.raises(DataError, match="max_queries is 0"):
        write([Pair("a", "b")], max_queries=0)


KINDS = st.lists(
    st.builds(
        Pair,
        anchor=st.sampled_from("abcdefgh"),
        positive=st.sampled_from("efghijkl"),
        group=st.none() | st.sampled_from("xy"),
        kind=st.sampled_from(["symmetric", "asymmetric"]),
    ),
    min_size=1,
)


@settings(deadline=None, max_examples=40)
@given(pairs=KINDS, most=st.integers(1, 12), seed=st.integers(0, 3))
def test_every_pair_is_there_and_a_sample_keeps_corpus_and_answers(write, pairs, most, seed):
    try:
        whole = {task.name: read(task) for task in write(pairs)}
    except DataError:
        assert all(pair.anchor == pair.positive for pair in pairs)
        return
    for pair in pairs:
        if pair.anchor != pair.positive:
            assert pair.positive in whole[f"held_out_{pair.kind}"][0][pair.anchor]
    sample = {task.name: read(task) for task in write(pairs, max_queries=most, seed=seed)}
    assert sample == {task.name: read(task) for task in write(pairs, max_queries=most, seed=seed)}
    total = sum(len(answers) for answers, *_ in whole.values())
    assert sum(len(answers) for answers, *_ in sample.values()) == min(most, total)
    for name, (answers, documents, (asked, found)) in sample.items():
        assert documents == whole[name][1] and answers.items() <= whole[name][0].items()
        same = {asked[key] for key in asked.keys() & found.keys()}
        assert same == answers.keys() & set(documents)
        assert all(query not in answers[query] for query in answers)


def test_an_embedder_that_ranks_backwards_scores_lower(write, score, mteb_model, bag_of_words):
    tasks = write(PAIRS)

    def backwards(texts, role, prompt):
        return bag_of_words(texts, "", prompt) * (-1 if role == "query" else 1)

    forwards = score(mteb_model(embed=lambda texts, role, prompt: bag_of_words(texts, "", prompt)), tasks)
    lower = score(mteb_model(embed=backwards), tasks)
    assert forwards.means["mrr@10"] > 0.9 and (forwards.num_queries, forwards.num_documents) == (12, 12)
    assert all(lower.means[metric] < forwards.means[metric] for metric in ("mrr@10", "recall@1", "recall@5"))


def test_each_kind_is_embedded_its_way_and_queries_are_pooled(write, score, mteb_model, bag_of_words):
    pairs = [*PAIRS[:4], Pair("ein Haus", "a house", kind="symmetric"), Pair("x y", "x", kind="symmetric")]
    scores = score(mteb_model(), write(pairs))
    assert [(role, len(texts)) for texts, role, _ in bag_of_words.calls] == [
        ("query", 4), ("document", 4), ("symmetric", 2), ("symmetric", 2)
    ]  # fmt: skip
    assert (scores.num_queries, scores.num_documents) == (6, 6)
    assert all(len(scores.per_query[metric]) == 6 for metric in METRICS)


def test_the_query_itself_does_not_take_a_rank(write, score, mteb_model):
    """`two b x` is in the corpus as an answer; found first for itself, it would halve the score of `two b`."""
    tasks = write([Pair("one a", "two b x", kind="symmetric"), Pair("two b x", "two b", kind="symmetric")])
    assert score(mteb_model(), tasks).per_query["mrr@10"].max() == 1
    assert score(lexical_model("bm25", "1"), tasks).per_query["mrr@10"].max() == 1


def test_equal_scores_go_to_the_earlier_document(write, score, mteb_model):
    tasks = write([Pair("first", "one"), Pair("second", "two"), Pair("third", "three")])
    alike = mteb_model(embed=lambda texts, role, prompt: np.ones((len(texts), 4), np.float32))
    assert sorted(score(alike, tasks).per_query["mrr@10"]) == pytest.approx([1 / 3, 1 / 2, 1])


def naive(ranked, relevant):
    """One query at a time, as the definitions read."""
    first = next(rank for rank, document in enumerate(ranked, 1) if document in relevant)
    found = {f"recall@{k}": len(relevant.intersection(ranked[:k])) / len(relevant) for k in (1, 5, 20)}
    return {"mrr@10": 1 / first if first <= 10 else 0.0, **found}, first


def test_metrics_are_their_definitions(write, score, mteb_model):
    rng = np.random.default_rng(3)
    places = {text: rng.normal(size=8) for text in (f"{side}{n}" for side in "qd" for n in range(30))}
    pairs = [Pair(f"q{n}", f"d{m}") for n in range(20) for m in rng.choice(30, rng.integers(1, 14), replace=False)]
    pairs += [Pair("q0", f"d{n}") for n in range(30)]
    (task,) = write(pairs)
    scores = score(mteb_model(embed=lambda texts, *_: np.array([places[text] for text in texts])), [task])
    answers, documents, (asked, _) = read(task)
    for row, name in enumerate(sorted(asked)):
        query = places[asked[name]]
        cosines = [-(places[text] @ query) / np.linalg.norm(places[text]) for text in documents]
        expected, rank = naive([documents[place] for place in np.argsort(cosines)], answers[asked[name]])
        assert expected.keys() == METRICS.keys() and scores.ranks[row] == rank
        for metric, value in expected.items():
            assert scores.per_query[metric][row] == pytest.approx(value, abs=1e-6), metric


def test_splitting_identifiers_lifts_bm25_on_code(write, score):
    code = ["def parseHttpResponse(raw): ...", "def open_text_file(path): ...", "def sortNumberList(it): ..."]
    asked = ["parse the response", "open a file of text", "sort a list"]
    tasks = write([Pair(*pair) for pair in zip(asked, code, strict=True)])
    assert score(lexical_model("bm25", "1"), tasks).means["mrr@10"] == 1


def test_questions_search_what_else_there_is(write, score):
    pairs = [Pair("the red one", "a red thing", source="a.py", positive_language="python-Code")]
    pairs += [Pair("blau", "blue", kind="symmetric")]
    others = [Pair("b.py", text) for text in ("the red one, told better", "a red thing", "the blue one")]
    tasks = write(pairs, others=others)
    assert [read(task)[1] for task in tasks] == [["a red thing", "the red one, told better", "the blue one"], ["blue"]]
    (first, second) = read_questions(tasks)
    assert (first.text, first.group, first.source, first.answer) == (
        "the red one", "code, python-Code", "a.py", "a red thing"
    )  # fmt: skip
    assert second.group == "symmetric, ?"
    assert score(lexical_model("bm25", "1"), tasks).ranks.tolist() == [3, 0]


def test_a_question_with_several_answers_is_told_with_one_of_them(write):
    (question,) = read_questions(write([Pair("q", "d1"), Pair("q", "d2")]))
    assert question.answer in ("d1", "d2")


def test_joined_with_words_a_system_finds_what_only_one_of_them_finds(write, score, mteb_model):
    pairs = [Pair(f"where is {word}", f"{word} is here") for word in WORDS]
    blind = mteb_model(embed=lambda texts, role, prompt: np.ones((len(texts), 4), np.float32))
    tasks = write(pairs)
    alone, joined = score(blind, tasks), score(FusedSearch("both", blind), tasks)
    assert joined.means["recall@1"] > alone.means["recall@1"]
    assert joined.num_documents == alone.num_documents == len(WORDS)


def test_a_model_that_cannot_be_scored_is_named(write, score, mteb_model):
    broken = mteb_model(embed=lambda texts, role, prompt: np.full((len(texts), 4), np.nan, np.float32))
    with pytest.raises(DataError, match=r"it cannot be scored on held_out_asymmetric: .*not finite"):
        score(broken, write(PAIRS))


def test_other_positives_and_a_corpus_are_searched_too(write):
    pairs = [Pair("q", "d", group="g"), Pair("p", "c")]
    others = [Pair("r", "e", group="g"), Pair("s", "f"), Pair("x", "y", kind="symmetric"), Pair("p", "c2")]
    (task,) = write(pairs, others=others, corpus=["d", "text"])
    answers, documents, _ = read(task)
    assert documents == ["d", "c", "e", "f", "c2", "text"]
    assert answers == {"q": {"d", "e"}, "p": {"c", "c2"}}

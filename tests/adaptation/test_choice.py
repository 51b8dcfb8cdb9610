"""What `adapt` chooses by development questions, on embedders whose right answers are known."""

import numpy as np
import pytest
import torch

from udever.adaptation.choice import SHARES, WEIGHTS, WORDS_WEIGHT_ADAPTED, Trial, _weight, candidates, choose
from udever.embedder import Embedder
from udever.evaluation.held_out import write_held_out
from udever.evaluation.mteb_model import as_mteb
from udever.evaluation.statistics import Interval
from udever.pairs.schema import Pair

WORDS = [
    f"{first}{second}" for first in ("red", "blue", "gold", "grey") for second in ("stone", "leaf", "bird", "fish")
]


@pytest.fixture(scope="module")
def task(tmp_path_factory):
    pairs = [Pair(f"where is the {word}", f"def find_{word}(): return {word[::-1]}") for word in WORDS]
    return write_held_out(pairs, tmp_path_factory.mktemp("held") / "out")[0]


class Known:
    """An mteb model that knows how near each question is to its own answer, and nothing else."""

    def __init__(self, nearness):
        self.nearness = nearness

    def embed(self, texts, role, prompt, place):
        rows = np.zeros((len(texts), len(WORDS) + 1), np.float32)
        for row, text in enumerate(texts):
            number = next(n for n, word in enumerate(WORDS) if word in text)
            rows[row, number] = self.nearness if role == "query" else 1.0
            rows[row, -1] = 0.5
        return rows


def test_questions_are_scored_by_meaning_and_with_words(task):
    trial = Trial(task)
    good, blind, wrong = (trial.rankings(Known(nearness)) for nearness in (1.0, 0.0, -1.0))
    assert trial.num_questions == len(WORDS)
    assert trial.by_meaning(good).mean() == 1
    assert trial.by_meaning(wrong).mean() == 0
    assert 0 < trial.by_meaning(blind).mean() < 0.5
    assert trial.joined(good, 0.0).tolist() == trial.by_meaning(good).tolist()


@pytest.fixture
def two(make, tmp_path):
    """A base and a trained model of one shape."""
    return [Embedder.load(make.decoder("llama", tmp_path / str(seed), seed=seed), dtype="float32") for seed in (1, 2)]


def weights(embedder):
    return {name: tensor.clone() for name, tensor in embedder.backbone.state_dict().items()}


@pytest.mark.parametrize(("name", "share"), [("seedling", 0.75), ("fresh", 1.0), ("a/decoder", 1.0)])
def test_without_questions_the_trained_weights_are_taken_or_from_the_seedling_most_of_the_way(two, name, share):
    two[0].name = name
    choice = choose(two[0], two[1:], None)
    assert (choice.number, choice.share, choice.words_weight, choice.scores) == (0, share, WORDS_WEIGHT_ADAPTED, {})
    assert "too few questions" in choice.sentence(["alone"])


def test_candidates_lie_between_and_leave_the_base_as_it_was(two):
    base, trained = two
    start, end, fingerprint = weights(base), weights(trained), base.fingerprint
    seen = []
    for share, candidate in candidates(base, trained):
        seen.append(share)
        for name, tensor in weights(candidate).items():
            if tensor.is_floating_point():
                assert torch.allclose(tensor, start[name] * (1 - share) + end[name] * share, atol=1e-6)
    assert seen == [*SHARES, 1.0]
    assert all(torch.equal(tensor, start[name]) for name, tensor in weights(base).items())
    assert base.fingerprint == fingerprint


def test_of_models_that_cannot_be_blended_the_trained_one_is_tried(two, make, tmp_path):
    other = Embedder.load(make.decoder("qwen3", tmp_path / "other"), dtype="float32")
    assert [share for share, _ in candidates(two[0], other)] == [1.0]


def test_the_base_is_kept_where_nothing_is_better(two, task):
    base, _ = two
    choice = choose(base, [base], task)
    assert choice.share == 0 and choice.base_weight == choice.words_weight
    said = choice.sentence(["alone"])
    assert "the base as it was" in said and f"{len(WORDS)} development questions" in said


def test_what_the_base_embeds_to_choose_is_there_when_it_is_scored(two, task):
    base, trained = two
    scored = as_mteb(base, name="base")
    choose(base, [trained], task, scored)
    count = scored.num_embedded
    found, fresh = Trial(task).rankings(scored), Trial(task).rankings(as_mteb(base))
    assert scored.num_embedded == count > 0
    assert [[name for name, _ in ranking] for ranking in found] == [[name for name, _ in ranking] for ranking in fresh]


def known(monkeypatch, nearness):
    """Of models whose nearness is told, embeddings that have it."""
    monkeypatch.setattr("udever.adaptation.choice.as_mteb", lambda model, revision: Known(nearness.get(id(model), 0.0)))


def test_what_is_best_is_chosen_of_all_that_were_trained(two, task, make, tmp_path, monkeypatch):
    base, trained = two
    other = Embedder.load(make.decoder("llama", tmp_path / "other", seed=3), dtype="float32")
    known(monkeypatch, {id(trained): 1.0})
    choice = choose(base, (model for model in (other, trained)), task)
    assert (choice.number, choice.share, choice.scores[1, 1.0], choice.words_weight) == (1, 1.0, 1.0, WEIGHTS[0])
    assert choice.scores.keys() == {(0, 0.0), *((n, share) for n in (0, 1) for share in (*SHARES, 1.0))}
    said = choice.sentence(["as it stands", "with more"])
    assert "1 of the way from base to the weights trained with more" in said
    assert "base 0." in said and "0.5 of the way as it stands 0." in said and "1 of the way with more 1.000" in said
    alone = choose(base, [trained], task).sentence(["as it stands"])
    assert "0.5 of the way 0." in alone and alone.count("as it stands") <= 1


def test_the_best_of_several_has_to_be_the_surer_of_it(two, task, monkeypatch):
    base, trained = two
    seen = []

    def bootstrap(found, start, confidence):
        seen.append(confidence)
        return Interval(0.1, -0.1, 0.3, confidence, 100)

    monkeypatch.setattr("udever.adaptation.choice.paired_bootstrap", bootstrap)
    assert choose(base, [trained], task).share == 0
    assert choose(base, [trained] * 4, task).share == 0
    assert seen == [pytest.approx(0.8), pytest.approx(0.95)]


def test_a_weight_of_words_is_chosen_that_has_good_neighbours(task, monkeypatch):
    scores = [0.3, 0.5, 0.5, 0.5, 0.3, 0.3, 0.52]
    monkeypatch.setattr(Trial, "joined", lambda *given: np.array([scores[WEIGHTS.index(given[2])]]))
    assert _weight(Trial(task), []) == WEIGHTS[2]

"""InfoNCE and its masks against a loop that says the same in words."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from udever.losses import info_nce, known_positives, pair_loss


def spelled_out(queries, candidates, temperature, known):
    """The definition, one query and one candidate at a time."""
    losses = []
    for i, query in enumerate(queries):
        logits = [float(query @ c) / temperature for c in candidates]
        kept = [logit for j, logit in enumerate(logits) if not known[i][j]]
        losses.append(math.log(sum(map(math.exp, kept))) - logits[i])
    return sum(losses) / len(losses)


def unit_rows(rows, seed):
    generator = torch.Generator().manual_seed(seed)
    return torch.nn.functional.normalize(torch.randn(rows, 5, generator=generator, dtype=torch.float64), dim=1)


@given(pairs=st.integers(1, 6), extra=st.integers(0, 4), seed=st.integers(0, 99), data=st.data())
def test_info_nce_is_its_definition(pairs, extra, seed, data):
    queries, candidates = unit_rows(pairs, seed), unit_rows(pairs + extra, seed + 1000)
    known = torch.tensor([[data.draw(st.booleans()) and i != j for j in range(pairs + extra)] for i in range(pairs)])
    known = known.view(pairs, pairs + extra)
    loss = info_nce(queries, candidates, temperature=0.2, known=known)
    assert float(loss) == pytest.approx(spelled_out(queries, candidates, 0.2, known.tolist()))


def test_agrees_with_sentence_transformers_multiple_negatives_ranking_loss():
    from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss

    anchors, positives, negatives = unit_rows(4, 1), unit_rows(4, 2), unit_rows(4, 3)
    theirs = MultipleNegativesRankingLoss.compute_loss_from_embeddings(
        MultipleNegativesRankingLoss(torch.nn.Identity(), scale=20.0), [anchors, positives, negatives], None
    )
    nothing = torch.zeros(4, 8, dtype=torch.bool)
    ours = pair_loss(anchors, positives, negatives, temperature=0.05, known=nothing, both_ways=False)
    assert float(ours) == pytest.approx(float(theirs))


def test_both_ways_is_the_mean_of_the_two_directions():
    a, b, n = unit_rows(3, 1), unit_rows(3, 2), unit_rows(2, 3)
    known = torch.zeros(3, 5, dtype=torch.bool)
    known[0, 1] = True
    forward = info_nce(a, torch.cat((b, n)), temperature=0.1, known=known)
    backward = info_nce(b, a, temperature=0.1, known=known[:, :3].T)
    both = pair_loss(a, b, n, temperature=0.1, known=known, both_ways=True)
    assert float(both) == pytest.approx(float(forward + backward) / 2)


def reference_known(anchors, candidates, groups):
    """Which candidates may not count as negatives, by the docstring's words."""
    pairs = len(anchors)
    table = []
    for i in range(pairs):
        kin = [k for k in range(pairs) if anchors[k] == anchors[i] or (groups[k] == groups[i] and groups[i] >= 0)]
        texts = {candidates[k] for k in kin} | {anchors[i]}
        table.append([j != i and candidates[j] in texts for j in range(len(candidates))])
    return table


@given(pairs=st.integers(1, 6), extra=st.integers(0, 3), data=st.data())
def test_known_positives_are_what_the_words_say(pairs, extra, data):
    small = st.integers(0, 4)
    anchors = data.draw(st.lists(small, min_size=pairs, max_size=pairs))
    candidates = data.draw(st.lists(small, min_size=pairs + extra, max_size=pairs + extra))
    groups = data.draw(st.lists(st.integers(-1, 1), min_size=pairs, max_size=pairs))
    known = known_positives(torch.tensor(anchors), torch.tensor(candidates), torch.tensor(groups))
    assert known.tolist() == reference_known(anchors, candidates, groups)

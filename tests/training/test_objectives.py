"""The loss against a dense definition in plain words, every mask by a case that fails without it, and its memory."""

import math
import resource

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from udever.training import objectives
from udever.training.objectives import BatchIds, LossSettings, contrastive_loss

NONE = torch.tensor([], dtype=torch.int64)


def vectors(rows, seed, dim=6):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(rows, dim, generator=generator, dtype=torch.float64)


def make_ids(anchors, positives, own=(), *, groups=None, labels=None, symmetric=None, in_batch=None, teacher=None):
    """`own`: for each row its hard negatives' texts. Texts are small numbers."""
    pairs = len(anchors)
    own = own or [[] for _ in range(pairs)]
    distinct = list(dict.fromkeys(text for row in own for text in row))
    return BatchIds(
        anchors=torch.tensor(anchors),
        positives=torch.tensor(positives),
        negatives=torch.tensor(distinct, dtype=torch.int64),
        own_rows=torch.tensor([i for i, row in enumerate(own) for _ in row], dtype=torch.int64),
        own_ids=torch.tensor([text for row in own for text in row], dtype=torch.int64),
        groups=torch.tensor(groups or [-1] * pairs),
        labels=torch.tensor(labels or [-1] * pairs),
        symmetric=torch.tensor(symmetric or [False] * pairs),
        in_batch=torch.tensor(in_batch or [True] * pairs),
        teacher=None if teacher is None else torch.tensor(teacher, dtype=torch.float64),
    )


def kin(ids, i, k):
    """Whether pairs i and k say the same thing."""
    groups, labels = ids.groups.tolist(), ids.labels.tolist()
    same = ids.anchors[i] == ids.anchors[k]
    return bool(same) or (groups[i] >= 0 and groups[i] == groups[k]) or (labels[i] >= 0 and labels[i] == labels[k])


def known_texts(ids, i):
    pairs = range(len(ids.anchors))
    return {int(ids.positives[k]) for k in pairs if kin(ids, i, k)} | {int(ids.anchors[i])}


def spelled_out(anchors, positives, negatives, ids, options):
    """The loss as its docstring has it, one row and one candidate at a time, with gradients."""
    weights = dict(zip(options.matryoshka, options.matryoshka_weights or [1.0] * len(options.matryoshka), strict=True))
    weights.setdefault(anchors.shape[1], 1.0)
    total = 0
    for size, weight in weights.items():
        a, p, n = (torch.nn.functional.normalize(x[:, :size], dim=1) for x in (anchors, positives, negatives))
        total = total + weight * at_one_size(a, p, torch.cat((p, n)), ids, options)
    return total / sum(weights.values())


def at_one_size(a, p, c, ids, options):
    pairs, texts = len(a), ids.candidates.tolist()
    rows = []
    for i in range(pairs):
        target = a[i] @ p[i]
        own = set(ids.own_ids[ids.own_rows == i].tolist())

        def counted(scores, names, skip, forbidden, own=own, target=target, i=i):
            kept, seen = [], set()
            for j, (score, name) in enumerate(zip(scores, names, strict=True)):
                new = name not in seen
                seen.add(name)
                closed = not ids.in_batch[i] and name not in own
                above = options.margin is not None and score.item() > target.item() + options.margin
                if new and j != skip and not forbidden(j, name) and not closed and not above:
                    kept.append(score)
            return kept

        known = known_texts(ids, i)
        texts_of_anchors = ids.anchors.tolist()

        def not_anchor(j, name, i=i, known=known):
            return kin(ids, i, j) or name in known or int(ids.anchors[i]) in known_texts(ids, j)

        terms = [target, *counted([a[i] @ x for x in c], texts, i, lambda j, name, known=known: name in known)]
        no_own = set()
        if options.anchor_anchor:
            terms += counted([a[i] @ x for x in a], texts_of_anchors, None, not_anchor, own=no_own)
        if options.document_document:
            terms += counted([p[i] @ x for x in c], texts, None, lambda j, name, known=known: name in known, own=no_own)
        forward = focus(-target / options.temperature + total_of(terms, options), options)
        if not ids.symmetric[i]:
            rows.append(forward + taught(a, c, ids, i, options) + ordered(a, p, ids, i, options))
            continue
        positive = int(ids.positives[i])
        back = counted(
            [p[i] @ x for x in a],
            texts_of_anchors,
            i,
            lambda j, name, positive=positive: positive in known_texts(ids, j),
            own=no_own,
        )
        backward = focus(-target / options.temperature + total_of([target, *back], options), options)
        rows.append((forward + backward) / 2 + taught(a, c, ids, i, options) + ordered(a, p, ids, i, options))
    return sum(rows) / pairs


def total_of(terms, options):
    return torch.logsumexp(torch.stack(terms) / options.temperature, 0)


def focus(loss, options):
    return loss * (1 - math.exp(-loss.item())) ** options.focal_gamma if options.focal_gamma else loss


def taught(a, c, ids, i, options):
    if not options.distillation or ids.teacher is None:
        return 0.0
    columns = [i, *(ids.candidates.tolist().index(t) for t in ids.own_ids[ids.own_rows == i].tolist())]
    teacher = ids.teacher[i, : len(columns)]
    if len(columns) < 2 or not torch.isfinite(teacher).all():
        return 0.0
    model = torch.log_softmax(torch.stack([a[i] @ c[j] for j in columns]) / options.temperature, 0)
    wanted = torch.softmax(teacher / options.teacher_temperature, 0)
    return options.distillation * (wanted * (wanted.log() - model)).sum()


def is_graded(ids, i):
    return not ids.in_batch[i] and [bool(math.isfinite(score)) for score in ids.teacher[i].tolist()].count(True) == 1


def ordered(a, p, ids, i, options):
    if not options.graded or ids.teacher is None or not is_graded(ids, i):
        return 0.0
    lower = [j for j in range(len(a)) if is_graded(ids, j) and ids.teacher[j, 0] < ids.teacher[i, 0]]
    above = [torch.exp((a[j] @ p[j] - a[i] @ p[i]) / options.temperature) for j in lower]
    return options.graded * torch.log(1 + sum(above)) if above else 0.0


@st.composite
def batches(draw):
    pairs = draw(st.integers(1, 6))
    text, some = st.integers(0, 7), st.integers(-1, 1)
    each = lambda values: draw(st.lists(values, min_size=pairs, max_size=pairs))  # noqa: E731
    positives = each(st.integers(0, 11))
    # A row's hard negatives differ from each other and from its own positive.
    own = [
        [t for t in dict.fromkeys(row) if t != positives[i]] for i, row in enumerate(each(st.lists(text, max_size=3)))
    ]
    nan = float("nan")
    grade = st.sampled_from([0.9, 0.5, 0.2])
    scores = [[draw(grade), 0.6, 0.3, 0.1] if draw(st.booleans()) else [nan] * 4 for _ in own]
    teacher = [
        [score if k <= len(row) else nan for k, score in enumerate(line)] for line, row in zip(scores, own, strict=True)
    ]
    given = {
        "groups": each(some),
        "labels": each(some),
        "symmetric": each(st.booleans()),
        "in_batch": each(st.booleans()),
    }
    ids = {"anchors": each(text), "positives": positives, "own": own, "teacher": teacher, **given}
    options = {
        "temperature": draw(st.sampled_from([0.05, 0.5])),
        "margin": draw(st.sampled_from([None, 0.0, 0.3])),
        "anchor_anchor": draw(st.booleans()),
        "document_document": draw(st.booleans()),
        "matryoshka": draw(st.sampled_from([[], [6, 3], [2]])),
        "focal_gamma": draw(st.sampled_from([0.0, 0.5])),
        "distillation": draw(st.sampled_from([0.0, 0.7])),
        "graded": draw(st.sampled_from([0.0, 0.6])),
    }
    return ids, options, draw(st.integers(0, 1000))


def on_batch(ids, seed):
    """Leaves for anchors, positives and negatives; equal texts on one side have equal vectors."""
    table = vectors(12, seed)
    other = vectors(12, seed + 1)
    return [x.clone().requires_grad_() for x in (table[ids.anchors], other[ids.positives], other[ids.negatives])]


@given(batch=batches())
def test_value_and_gradient_are_those_of_the_definition(batch):
    ids, options, seed = make_ids(**batch[0]), LossSettings(**batch[1]), batch[2]
    ours, theirs = on_batch(ids, seed), on_batch(ids, seed)
    loss, expected = contrastive_loss(*ours, ids, options), spelled_out(*theirs, ids, options)
    assert loss.item() == pytest.approx(expected.item(), abs=1e-9)
    loss.backward()
    expected.backward()
    for x, y in zip(ours, theirs, strict=True):
        torch.testing.assert_close(x.grad, torch.zeros_like(x) if y.grad is None else y.grad, rtol=1e-6, atol=1e-9)


@given(batch=batches(), rows=st.integers(1, 3), columns=st.integers(1, 4), cut=st.integers(0, 6))
def test_chunked_and_shared_out_is_whole(batch, rows, columns, cut):
    """Any chunk sizes, and any sharing of the rows among processes, give the same value and gradient."""
    ids, options, seed = make_ids(**batch[0]), LossSettings(**batch[1]), batch[2]
    whole, parts = on_batch(ids, seed), on_batch(ids, seed)
    expected = contrastive_loss(*whole, ids, options)
    expected.backward()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(objectives, "_CHUNK_ROWS", rows)
        patch.setattr(objectives, "_CHUNK_COLUMNS", columns)
        every = torch.arange(len(ids.anchors))
        shares = [contrastive_loss(*parts, ids, options, part) for part in (every[:cut], every[cut:])]
        sum(shares).backward()
    assert sum(shares).item() == pytest.approx(expected.item(), abs=1e-12)
    for x, y in zip(parts, whole, strict=True):
        torch.testing.assert_close(x.grad, y.grad, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("weights", [[], [3.0, 5.0]])
def test_first_dimensions_are_trained_beside_all_of_them(weights):
    sides = on_batch(make_ids([0, 1], [2, 3]), 1)
    ids, given = make_ids([0, 1], [2, 3]), {"matryoshka": [4, 2], "matryoshka_weights": weights}
    contrastive_loss(*sides, ids, LossSettings(**given)).backward()
    assert all(side.grad[:, 4:].any() for side in sides[:2])
    shares = [3 / 9, 5 / 9, 1 / 9] if weights else [1 / 3] * 3
    assert LossSettings(**given).sizes(6) == list(zip((4, 2, 6), shares, strict=True))
    assert LossSettings(matryoshka=[6], matryoshka_weights=[2.0]).sizes(6) == [(6, 1.0)]


def test_no_rows_are_a_loss_of_nothing_with_a_gradient_of_nothing():
    ids = make_ids([0, 1], [2, 3], [[4], []], symmetric=[True, False], teacher=[[0.5, 0.1], [0.5, 0.2]])
    sides = on_batch(ids, 1)
    everything = LossSettings(anchor_anchor=True, document_document=True, margin=0.1, distillation=1.0, graded=1.0)
    loss = contrastive_loss(*sides, ids, everything, NONE)
    loss.backward()
    assert loss == 0 and not any(side.grad.any() for side in sides)


def test_gradients_by_finite_differences():
    ids = make_ids([0, 1, 2], [3, 4, 3], [[5], [6, 5], []], symmetric=[True, False, True])
    options = LossSettings(temperature=0.3, anchor_anchor=True, document_document=True, matryoshka=[6, 4])
    assert torch.autograd.gradcheck(lambda *x: contrastive_loss(*x, ids, options), on_batch(ids, 3))


def test_agrees_with_sentence_transformers_multiple_negatives_ranking_loss():
    from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss

    sides = [vectors(4, seed) for seed in (1, 2, 3)]
    ids = make_ids([0, 1, 2, 3], [4, 5, 6, 7], [[8], [9], [10], [11]])
    unit = [torch.nn.functional.normalize(x, dim=1) for x in sides]
    theirs = MultipleNegativesRankingLoss.compute_loss_from_embeddings(
        MultipleNegativesRankingLoss(torch.nn.Identity(), scale=20.0), unit, None
    )
    assert float(contrastive_loss(*sides, ids, LossSettings())) == pytest.approx(float(theirs))


def test_the_order_of_graded_pairs_agrees_with_sentence_transformers_cosent_loss():
    from sentence_transformers.sentence_transformer.losses import CoSENTLoss

    a, p = vectors(2, 1), vectors(2, 2)
    theirs = CoSENTLoss.compute_loss_from_embeddings(
        CoSENTLoss(torch.nn.Identity(), scale=20.0), [a, p], torch.tensor([0.9, 0.2])
    )
    ids = make_ids([0, 1], [2, 3], in_batch=[False] * 2, teacher=[[0.9], [0.2]])
    ours = contrastive_loss(a, p, a[:0], ids, LossSettings(graded=1.0))
    assert 2 * ours.item() == pytest.approx(theirs.item()), "of two pairs one row has the whole sum"


PLAIN = {"anchors": [0, 1, 2], "positives": [3, 4, 5]}
MASKED = {
    "a positive that another pair has too": {"positives": [3, 4, 3]},
    "the anchor's own text among the candidates": {"positives": [3, 0, 5]},
    "a positive of an equal anchor": {"anchors": [0, 0, 2]},
    "a positive of the same group": {"groups": [1, 1, -1]},
    "a positive of the same label": {"labels": [1, -1, 1]},
    "no in-batch negatives": {"in_batch": [False, True, True]},
}


@pytest.mark.parametrize("what", MASKED)
def test_every_mask_takes_something_out_of_the_first_rows_denominator(what):
    """All vectors alike: the loss of a row is the log of how many texts count."""
    ones = torch.ones(3, 4, dtype=torch.float64)
    nothing = ones[:0]
    first = torch.tensor([0])

    def count(ids):
        return math.exp(3 * float(contrastive_loss(ones, ones, nothing, ids, LossSettings(), first)))

    assert count(make_ids(**PLAIN)) == pytest.approx(3)
    masked = count(make_ids(**{**PLAIN, **MASKED[what]}))
    assert masked == pytest.approx(1 if what == "no in-batch negatives" else 2)


def test_a_hard_negative_two_rows_share_counts_once_and_the_margin_takes_out_what_scores_higher():
    ones = torch.ones(3, 4, dtype=torch.float64)
    ids = make_ids(**PLAIN, own=[[9], [9], []])
    loss = contrastive_loss(ones, ones, ones[:1], ids, LossSettings(), torch.tensor([2]))
    assert math.exp(3 * loss.item()) == pytest.approx(4)
    apart = torch.eye(4, dtype=torch.float64)
    near = apart[0] + 0.1 * apart[1]
    negatives = torch.stack([apart[0]])
    kept = contrastive_loss(ones[:1] * apart[0], near[None], negatives, make_ids([0], [3], [[9]]), LossSettings())
    left = contrastive_loss(
        ones[:1] * apart[0], near[None], negatives, make_ids([0], [3], [[9]]), LossSettings(margin=0.0)
    )
    assert kept.item() > 0.6
    assert left.item() == 0.0


def test_memory_is_linear_in_the_batch():
    """8,192 pairs: their matrix of scores alone would take 268 MB more than this may."""
    pairs, dim = 8192, 16
    a, p = (torch.randn(pairs, dim).requires_grad_() for _ in range(2))
    ids = make_ids(list(range(pairs)), list(range(pairs, 2 * pairs)))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    contrastive_loss(a, p, a[:0], ids, LossSettings()).backward()
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    assert grown < 200e6

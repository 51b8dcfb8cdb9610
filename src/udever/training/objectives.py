"""The objectives: pure functions of embeddings and of ids that say which texts are which.

One function, `contrastive_loss`, the sum of `TERMS`, whatever path the embeddings came by. It never holds the matrix of
all scores: rows and columns go through in chunks, forward and backward, so memory is linear in the batch.

What may not count as a negative of an anchor is worked out from ids (see `BatchIds`), never from positions:

* its own text, and every text that is a positive of an equal anchor, of its group or of its label;
* a text a second time: each distinct text counts once in a denominator;
* where `in_batch` is off, everything but its own hard negatives;
* with a `margin`, a candidate that scores above the positive by more than that.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from pydantic import Field, model_validator
from torch import Tensor

from udever.errors import ModelError
from udever.settings import Settings

_CHUNK_ROWS, _CHUNK_COLUMNS = 1024, 8192
_NONE = -1


class LossSettings(Settings):
    """What the loss is made of.

    `margin`: candidates that score above positive + margin are left out (Qwen3-Embedding, arXiv
    2506.05176, takes 0.1); None keeps all. `anchor_anchor` and `document_document` add the other anchors, and
    the positive's own scores with the candidates, to the denominator (GTE, arXiv 2308.03281). `matryoshka` trains
    the first dimensions of these numbers too (arXiv 2205.13147), each with its weight of `matryoshka_weights` (all 1
    where empty), beside all dimensions together (weight 1 unless listed); the losses are averaged. `focal_gamma`
    weights a row by (1 - p of its positive)^gamma.
    `distillation` is the weight of the divergence from the teacher's scores over a row's own candidates, softened by
    `teacher_temperature`. `graded` is the weight of the order of graded pairs: rows without in-batch negatives whose
    `scores` grade the pair alone.
    """

    temperature: float = Field(default=0.05, gt=0)
    margin: float | None = Field(default=None, ge=0)
    anchor_anchor: bool = False
    document_document: bool = False
    matryoshka: list[Annotated[int, Field(ge=1)]] = Field(default=[])
    matryoshka_weights: list[Annotated[float, Field(gt=0)]] = Field(default=[])
    focal_gamma: float = Field(default=0.0, ge=0)
    distillation: float = Field(default=0.0, ge=0)
    teacher_temperature: float = Field(default=0.05, gt=0)
    graded: float = Field(default=0.0, ge=0)

    @model_validator(mode="after")
    def _weights_fit(self) -> "LossSettings":
        if self.matryoshka_weights and len(self.matryoshka_weights) != len(self.matryoshka):
            raise ValueError(
                f"{len(self.matryoshka_weights)} matryoshka_weights for {len(self.matryoshka)} matryoshka "
                f"dimensions; give one each, or none"
            )
        if len(set(self.matryoshka)) < len(self.matryoshka):
            raise ValueError(f"matryoshka is {self.matryoshka}, where a number stands twice; give each once")
        return self

    def sizes(self, width: int) -> list[tuple[int, float]]:
        """The numbers of first dimensions that a loss is averaged over, all `width` among them, each with its share."""
        weights = dict(zip(self.matryoshka, self.matryoshka_weights or [1.0] * len(self.matryoshka), strict=True))
        weights.setdefault(width, 1.0)
        return [(size, weight / sum(weights.values())) for size, weight in weights.items()]

    def check_fits(self, width: int) -> None:
        """Raise ModelError where vectors of `width` dimensions are too short for `matryoshka`."""
        if max(self.matryoshka, default=0) > width:
            raise ModelError(
                f"loss.matryoshka has {max(self.matryoshka)} and the model {width} dimensions; give sizes below that"
            )


@dataclass(frozen=True)
class BatchIds:
    """Which texts of a batch are equal and which belong together, as numbers (equal numbers, equal texts).

    Pair i has the anchor `anchors[i]` and the positive `positives[i]`; `negatives` are the texts of all hard
    negatives, and (`own_rows[k]`, `own_ids[k]`) says that pair own_rows[k] brought the text own_ids[k].
    `groups` and `labels`, below 0 for none: rows with an equal one say the same thing. `symmetric` rows are
    trained both ways; rows without `in_batch` see their own negatives alone. `teacher[i]`: scores of the
    positive, then of the row's negatives in the order of `own_rows`; NaN where there is none.
    """

    anchors: Int[Tensor, "pairs"]
    positives: Int[Tensor, "pairs"]
    negatives: Int[Tensor, "negatives"]
    own_rows: Int[Tensor, "owned"]
    own_ids: Int[Tensor, "owned"]
    groups: Int[Tensor, "pairs"]
    labels: Int[Tensor, "pairs"]
    symmetric: Bool[Tensor, "pairs"]
    in_batch: Bool[Tensor, "pairs"]
    teacher: Float[Tensor, "pairs scores"] | None = None

    @cached_property
    def candidates(self) -> Int[Tensor, "candidates"]:
        """Text of every column: all positives, then the hard negatives."""
        return torch.cat((self.positives, self.negatives))

    @cached_property
    def keys(self) -> tuple["_Lookup", "_Lookup"]:
        """Key -> positive text, and pair -> key: a key is an anchor's text, a group or a label."""
        rows = torch.arange(len(self.anchors))
        known = [(rows, self.anchors, 0)]
        known += [
            (rows[ids >= 0], ids[ids >= 0], salt) for ids, salt in ((self.groups, 1), (self.labels, 2)) if len(ids)
        ]
        # Three kinds of key in one column of numbers: the lowest two bits say which.
        row = torch.cat([part[0] for part in known])
        key = torch.cat([(part[1] << 2) | part[2] for part in known])
        return _Lookup(key, self.positives[row]), _Lookup(row, key)


class _Lookup:
    """A many-to-many relation from numbers to numbers, by sorting."""

    def __init__(self, left: Tensor, right: Tensor) -> None:
        order = torch.argsort(left, stable=True)
        self.left, self.right = left[order], right[order]

    def find(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """For each of `values`, in order, what it is related to: (index into `values`, the other side)."""
        first = torch.searchsorted(self.left, values)
        count = torch.searchsorted(self.left, values, right=True) - first
        index = torch.repeat_interleave(torch.arange(len(values)), count)
        within = torch.arange(len(index)) - (count.cumsum(0) - count)[index]
        return index, self.right[first[index] + within]


def _chain(rows: Tensor, *lookups: _Lookup) -> tuple[Tensor, Tensor]:
    """Follow `lookups` one behind the other: (index into `rows`, where it leads)."""
    index, values = torch.arange(len(rows)), rows
    for lookup in lookups:
        step, values = lookup.find(values)
        index = index[step]
    return index, values


def _repeated(ids: Tensor) -> Bool[Tensor, "ids"]:
    """True for every id that stood there before."""
    order = torch.argsort(ids, stable=True)
    again = torch.zeros_like(ids, dtype=torch.bool)
    again[order[1:]] = ids[order[1:]] == ids[order[:-1]]
    return again


@dataclass(frozen=True)
class _Mask:
    """Which columns do not count for which rows, row chunk by row chunk, as short lists of places.

    `hidden` columns count for nobody. `paths` lead from a row to columns that do not count for it. Of a `closed` row
    only those columns count that `own` leads to. `targets`: each row's own column, which always counts; None where the
    columns hold no target.
    """

    hidden: Tensor
    paths: Sequence[tuple[Tensor, tuple[_Lookup, ...]]]
    closed: Tensor
    targets: Tensor | None = None
    own: tuple[_Lookup, ...] = ()

    def entries(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """What does not count for `rows` by the paths: (row in chunk, column), sorted by column."""
        parts = [_chain(start[rows], *path) for start, path in self.paths]
        row = torch.cat([index for index, _ in parts])
        column = torch.cat([columns for _, columns in parts])
        order = torch.argsort(column)
        return row[order], column[order]

    def block(self, rows: Tensor, entries: tuple[Tensor, Tensor], start: int, above: Tensor) -> Tensor:
        """[rows, columns from `start` on]: True where a column does not count; `above`: for other reasons."""
        row, column = entries
        stop = start + above.shape[1]
        block = self.hidden[start:stop].expand(len(rows), -1).clone()
        closed = self.closed[rows]
        if bool(closed.any()):
            block[closed] = True
            index, own = _chain(rows, *self.own) if self.own else (rows[:0], rows[:0])
            keep = closed[index] & (own >= start) & (own < stop)
            block[index[keep], own[keep] - start] = False
        first, last = torch.searchsorted(column, torch.tensor([start, stop])).tolist()
        block[row[first:last], column[first:last] - start] = True
        block = block.to(above.device) | above
        if self.targets is not None:
            target = self.targets[rows] - start
            inside = (target >= 0) & (target < stop - start)
            block[torch.nonzero(inside).flatten(), target[inside]] = False
        return block


def _by_text(ids: Tensor) -> _Lookup:
    """Text -> all columns that hold it."""
    return _Lookup(ids, torch.arange(len(ids)))


def _first_columns(ids: BatchIds) -> _Lookup:
    """Text -> the one column that counts for it."""
    first = torch.nonzero(~_repeated(ids.candidates)).flatten()
    return _Lookup(ids.candidates[first], first)


def _masks(ids: BatchIds, settings: LossSettings) -> dict[str, _Mask]:
    """The mask of every part of the denominator that `settings` ask for, by its name."""
    rows, closed = torch.arange(len(ids.anchors)), ~ids.in_batch
    to_text, to_key = ids.keys
    from_text, from_key = _Lookup(to_text.right, to_text.left), _Lookup(to_key.right, to_key.left)
    anchors, columns = _by_text(ids.anchors), _by_text(ids.candidates)
    again, hidden = _repeated(ids.anchors), _repeated(ids.candidates)
    known = [(rows, (to_key, to_text, columns)), (ids.anchors, (columns,))]
    own = (_Lookup(ids.own_rows, ids.own_ids), _first_columns(ids))
    masks = {"forward": _Mask(hidden, known, closed, rows, own)}  # rows are anchors, columns all candidates
    if bool(ids.symmetric.any()):  # rows are positives, columns anchors: the forward mask the other way round
        masks["backward"] = _Mask(
            again, [(ids.positives, (from_text, from_key)), (ids.positives, (anchors,))], closed, rows
        )
    if settings.anchor_anchor:  # equal anchors, those of one group or label, and one that is a positive of the other
        kin = [(rows, (to_key, from_key)), (rows, (to_key, to_text, anchors)), (ids.anchors, (from_text, from_key))]
        masks["anchor"] = _Mask(again, kin, closed)
    if settings.document_document:  # rows are positives: what the row's anchor may not see, and the positive itself
        masks["document"] = _Mask(hidden, known, closed)
    return masks


class _LogSumExp(torch.autograd.Function):
    """log of the sum of exp(score / temperature) over the columns that count, in chunks over both axes."""

    @staticmethod
    def forward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, queries: Tensor, columns: Tensor, which: Tensor, mask: _Mask, temperature: float, limit: Tensor | None
    ) -> Tensor:
        out = []
        with torch.no_grad():
            for _, parts in _chunks(queries, columns, which, mask, temperature, limit):
                out.append(torch.logsumexp(torch.stack([torch.logsumexp(x, dim=1) for _, x in parts]), dim=0))
        result = torch.cat(out) if out else queries.new_empty(0)  # of more processes than pairs some have no row
        ctx.save_for_backward(queries, columns, result)
        ctx.arguments = (which, mask, temperature, limit)
        return result

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        queries, columns, result = ctx.saved_tensors
        to_queries, to_columns = torch.zeros_like(queries), torch.zeros_like(columns)
        temperature = ctx.arguments[2]
        for first, parts in _chunks(queries, columns, *ctx.arguments):
            rows = slice(first, first + _CHUNK_ROWS)
            total, scale = result[rows, None], gradient[rows, None] / temperature
            total = total.masked_fill(total == float("-inf"), 0.0)  # a row without columns: every term is 0
            for start, logits in parts:
                share = torch.exp_(logits.sub_(total)).mul_(scale)
                to_queries[rows].addmm_(share, columns[start : start + _CHUNK_COLUMNS])
                to_columns[start : start + _CHUNK_COLUMNS].addmm_(share.T, queries[rows])
        return to_queries, to_columns, None, None, None, None


def _chunks(
    queries: Tensor, columns: Tensor, which: Tensor, mask: _Mask, temperature: float, limit: Tensor | None
) -> Any:
    """For each chunk of rows, (its first row, an iterator of (first column, logits))."""
    for first in range(0, len(queries), _CHUNK_ROWS):
        rows = slice(first, first + _CHUNK_ROWS)
        yield (
            first,
            _row_chunk(queries[rows], columns, which[rows], mask, temperature, None if limit is None else limit[rows]),
        )


def _row_chunk(
    queries: Tensor, columns: Tensor, which: Tensor, mask: _Mask, temperature: float, limit: Tensor | None
) -> Any:
    entries = mask.entries(which)
    for start in range(0, len(columns), _CHUNK_COLUMNS):
        scores = queries @ columns[start : start + _CHUNK_COLUMNS].T
        above = torch.zeros_like(scores, dtype=torch.bool) if limit is None else scores > limit[:, None]
        left_out = mask.block(which, entries, start, above)
        yield start, scores.div_(temperature).masked_fill_(left_out, float("-inf"))


@dataclass(frozen=True)
class Sides:
    """Unit vectors of one batch at one number of dimensions, and the masks between them."""

    anchors: Tensor
    positives: Tensor
    candidates: Tensor
    masks: dict[str, _Mask]


def _row_losses(sides: Sides, ids: BatchIds, settings: LossSettings, rows: Tensor) -> Tensor:
    """Each row's InfoNCE from its anchor (arXiv 1807.03748), and the mean of both directions where symmetric."""
    queries, own = sides.anchors[rows], sides.positives[rows]
    target = (queries * own).sum(1)
    limit = None if settings.margin is None else target.detach() + settings.margin
    which = rows.cpu()

    def log_sum(left: Tensor, right: Tensor, name: str) -> Tensor:
        return _LogSumExp.apply(left, right, which, sides.masks[name], settings.temperature, limit)  # pyright: ignore[reportReturnType]

    totals = [log_sum(queries, sides.candidates, "forward")]
    if settings.anchor_anchor:
        totals.append(log_sum(queries, sides.anchors, "anchor"))
    if settings.document_document:
        totals.append(log_sum(own, sides.candidates, "document"))
    total = totals[0] if len(totals) == 1 else torch.logsumexp(torch.stack(totals), dim=0)
    loss = total - target / settings.temperature
    loss = loss * _focus(loss, settings)
    if not bool(ids.symmetric[which].any()):
        return loss
    backward = log_sum(own, sides.anchors, "backward") - target / settings.temperature
    backward = backward * _focus(backward, settings)
    return torch.where(ids.symmetric[which].to(loss.device), (loss + backward) / 2, loss)


def _focus(loss: Tensor, settings: LossSettings) -> Tensor:
    if settings.focal_gamma == 0:
        return torch.ones_like(loss)
    return (1 - torch.exp(-loss.detach())).clamp_min(0) ** settings.focal_gamma


def _distillation(sides: Sides, ids: BatchIds, settings: LossSettings, rows: Tensor) -> Tensor | None:
    """Each row's cross-entropy between the teacher's and the model's scores of its own candidates, less the
    teacher's entropy (so that 0 is agreement), times its weight; 0 for rows without a teacher."""
    if not settings.distillation or ids.teacher is None:
        return None
    which = rows.cpu()
    places = torch.full(ids.teacher.shape, _NONE)
    places[:, 0] = torch.arange(len(ids.anchors))
    order = torch.argsort(ids.own_rows, stable=True)
    row = ids.own_rows[order]
    within = 1 + torch.arange(len(row)) - torch.searchsorted(row, row)  # its place among the row's own
    _, column = _first_columns(ids).find(ids.own_ids[order])
    fits = within < places.shape[1]
    places[row[fits], within[fits]] = column[fits]
    places, teacher = places[which].to(rows.device), ids.teacher[which].to(sides.anchors)
    there = (places >= 0) & torch.isfinite(teacher)
    scores = torch.einsum("rd,rkd->rk", sides.anchors[rows], sides.candidates[places.clamp_min(0)])
    model = F.log_softmax((scores / settings.temperature).masked_fill(~there, float("-inf")), dim=1)
    wanted = F.log_softmax((teacher / settings.teacher_temperature).masked_fill(~there, float("-inf")), dim=1)
    term = torch.where(there, wanted.exp() * (wanted - model.masked_fill(~there, 0.0)), 0.0)
    return settings.distillation * torch.where(there.sum(1) > 1, term.masked_fill(~there, 0.0).sum(1), 0.0)


def _graded(sides: Sides, ids: BatchIds, settings: LossSettings, rows: Tensor) -> Tensor | None:
    """For each graded row log(1 + the sum of exp((cosine of a row graded lower - its own) / temperature)); else 0.

    CoSENT's order of cosines (https://kexue.fm/archives/8847), row by row. A row is graded where it sees no negatives
    of the batch and has a score of its positive alone.
    """
    if not settings.graded or ids.teacher is None:
        return None
    known = torch.isfinite(ids.teacher)
    graded = ~ids.in_batch & known[:, 0] & ~known[:, 1:].any(1)
    own = torch.nonzero(graded).flatten()
    found = sides.anchors.new_zeros(len(rows))
    which = torch.nonzero(graded[rows.cpu()]).flatten()
    if not len(which):
        return found
    others, which = own.to(found.device), which.to(found.device)
    grades, cosines = ids.teacher[own].to(found)[:, 0], (sides.anchors[others] * sides.positives[others]).sum(1)
    at = torch.searchsorted(others, rows[which])
    above = (cosines[None, :] - cosines[at, None]) / settings.temperature
    above = above.masked_fill(grades[None, :] >= grades[at, None], float("-inf"))
    losses = torch.logsumexp(F.pad(above, (1, 0)), dim=1)  # the pad is the 1
    return settings.graded * found.index_put((which,), losses)


Term = Callable[[Sides, BatchIds, LossSettings, Tensor], Tensor | None]
"""Each chosen row's share of the loss at one number of dimensions; None where the settings do not ask for it."""

TERMS: tuple[Term, ...] = (_row_losses, _distillation, _graded)
"""What the loss of a row is the sum of."""


def contrastive_loss(
    anchors: Float[Tensor, "pairs dim"],
    positives: Float[Tensor, "pairs dim"],
    negatives: Float[Tensor, "negatives dim"],
    ids: BatchIds,
    settings: LossSettings,
    rows: Int[Tensor, "rows"] | None = None,
) -> Float[Tensor, ""]:
    """The sum of the losses of `rows` (all where None) over the number of pairs of the whole batch.

    Embeddings need not have length 1: they are cut to each of `settings.sizes` and scaled here. The
    shares that processes compute for disjoint rows of one batch add up to the loss of the batch.
    """
    pairs = len(anchors)
    rows = torch.arange(pairs, device=anchors.device) if rows is None else rows
    masks = _masks(ids, settings)
    total = anchors.new_zeros(())
    for size, share in settings.sizes(anchors.shape[1]):
        a, p, n = (F.normalize(x[:, :size], dim=1) for x in (anchors, positives, negatives))
        sides = Sides(a, p, torch.cat((p, n)), masks)
        found = [loss for term in TERMS if (loss := term(sides, ids, settings, rows)) is not None]
        total = total + share * sum(found[1:], found[0]).sum()
    return total / pairs

import numpy as np
import pytest
import torch
from torch import nn

from udever.training.averages import Averages
from udever.training.table_rows import TableRows

ROWS, WIDTH = 40, 6


def run(by_rows, steps=700, keep=0.9, settle_at=(), restart_at=None):
    """A table and what is trained on top of it, batches of few tokens, a rate that falls; dense AdamW or row by row."""
    torch.manual_seed(0)
    table, top = nn.Embedding(ROWS, WIDTH), nn.Linear(WIDTH, WIDTH)
    names = {"table": table.weight, "top": top.weight}
    optimizer = torch.optim.AdamW([*names.values()], lr=1e-2, betas=(0.9, 0.98), weight_decay=0.0)
    averages = Averages(names, keep)
    rows = TableRows(table, optimizer, averages) if by_rows else None
    draw = np.random.default_rng(1)
    goal = torch.from_numpy(draw.standard_normal((ROWS, WIDTH))).float()
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = 1e-2 * (1 - step / steps)
        few = ROWS if step == 0 else 3  # all rows have moved once
        tokens = torch.from_numpy(
            draw.choice(ROWS, few, replace=step > 0, p=np.arange(1, ROWS + 1) / 820 if step else None)
        )
        optimizer.zero_grad(set_to_none=True)
        (top(table(tokens)) - goal[tokens]).square().sum().backward()
        if rows:
            read = rows.gradient()
            optimizer.step()
            rows.step(*read)
        else:
            optimizer.step()
        averages.update(step)
        if rows and step in settle_at:
            rows.settle()
        if rows and step == restart_at:
            rows.settle()
            rows.restart()
    if rows:
        rows.close()
    return table.weight.detach(), averages.of(table.weight), optimizer.state[table.weight]


def test_rows_end_where_adamw_over_all_of_them_brings_them():
    (weight, average, state), (dense, dense_average, dense_state) = run(True), run(False)
    moved = (dense - nn.Embedding(ROWS, WIDTH).weight).abs().max()
    assert moved > 0.3
    torch.testing.assert_close(weight, dense, atol=2e-3, rtol=0)
    torch.testing.assert_close(average, dense_average, atol=2e-2, rtol=0)
    torch.testing.assert_close(state["exp_avg"], dense_state["exp_avg"], atol=1e-3, rtol=1e-2)
    assert state["step"] == dense_state["step"] == 700


@pytest.mark.parametrize("ways", [{"settle_at": range(0, 700, 7)}, {"restart_at": 350}])
def test_when_rows_are_brought_up_to_date_does_not_matter(ways):
    for found, plain in zip(run(True, **ways)[:2], run(True)[:2], strict=True):
        torch.testing.assert_close(found, plain, atol=2e-3, rtol=0)


def test_a_row_that_was_never_read_stays():
    torch.manual_seed(0)
    table = nn.Embedding(5, 4)
    before = table.weight.detach().clone()
    optimizer = torch.optim.AdamW([table.weight], weight_decay=0.0)
    rows = TableRows(table, optimizer)
    table(torch.tensor([1, 3, 1])).sum().backward()
    read, gradient = rows.gradient()
    assert read.tolist() == [1, 3] and gradient.tolist() == [[2.0] * 4, [1.0] * 4]
    rows.step(read, gradient)
    rows.close()
    assert torch.equal(table.weight[[0, 2, 4]], before[[0, 2, 4]])
    assert not torch.isclose(table.weight[[1, 3]], before[[1, 3]]).any()
    assert not table.sparse and not table._forward_pre_hooks


@pytest.mark.parametrize("keep", [None, 0.9])
def test_a_checkpoint_takes_the_rows_that_it_moves_alone_and_gives_them_back_bit_for_bit(keep):
    torch.manual_seed(0)
    table = nn.Embedding(1000, 4)
    optimizer = torch.optim.AdamW([table.weight], lr=1e-2, weight_decay=0.0)
    averages = Averages({"table": table.weight}, keep) if keep else None
    rows = TableRows(table, optimizer, averages)
    for step, tokens in enumerate(([1, 3, 5], [3, 7], [3])):
        table(torch.tensor(tokens)).square().sum().backward()
        rows.step(*rows.gradient())
        if averages:
            averages.update(step)

    def state():
        moments = optimizer.state[table.weight]
        parts = [table.weight, moments["exp_avg"], moments["exp_avg_sq"]]
        parts += [averages.of(table.weight)] if averages else []
        return [part.detach().clone() for part in parts]

    before = state()
    with rows.settled() as written:
        assert written["rows.index"].tolist() == [1, 5, 7]  # 3 is right already, no batch has read the others
        assert {len(written[f"rows.{name}"]) for name in ("weight", "exp_avg", "exp_avg_sq")} == {3}
        settled = state()
    assert all(torch.equal(a, b) for a, b in zip(state(), before, strict=True))
    rows.close()
    assert all(torch.equal(a, b) for a, b in zip(state(), settled, strict=True))
    changed = torch.stack([(a != b).any(1) for a, b in zip(before, settled, strict=True)]).any(0)
    assert changed.nonzero()[:, 0].tolist() == [1, 5, 7]

"""Losses on a teacher's scores beside an outside library (rax, in JAX), hand constants, and orders counted out."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from itertools import permutations
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from recdistill import losses


@pytest.fixture(scope="module")
def rax() -> Any:
    """Imported here: every worker of a run imports this file, and JAX takes its time."""
    import rax

    return rax


def lists(seed: int = 0, shape: tuple[int, int] = (6, 9)) -> tuple[Tensor, Tensor, Tensor]:
    """Student's and teacher's scores without ties, and a mask with one list of a single entry and one of none."""
    random = torch.Generator().manual_seed(seed)
    s, t = torch.randn(shape, generator=random) * 2, torch.randn(shape, generator=random) * 2
    where = torch.rand(shape, generator=random) < 0.7
    where[0] = True
    where[-2] = torch.arange(shape[1]) == 3
    where[-1] = False
    return s, t, where


def theirs(loss: Callable[..., Any], s: Tensor, t: Tensor, where: Tensor, **options: Any) -> list[float]:
    """What rax has for each list, by itself: its own means are over all pairs of a batch."""
    arrays = [np.asarray(x) for x in (s, t, where)]
    return [float(loss(a, b, where=w, **options)) for a, b, w in zip(*arrays, strict=True)]


def mean_of(values: list[float], active: Tensor) -> float:
    return sum(v for v, a in zip(values, active, strict=True) if a) / int(active.sum())


@pytest.mark.slow
def test_listwise_losses_equal_those_of_rax(rax: Any) -> None:
    s, t, where = lists()
    active = where.sum(1) >= 2
    assert losses.list_mle(s, t, where=where).item() == pytest.approx(
        mean_of(theirs(rax.listmle_loss, s, t, where), active), rel=1e-5
    )
    # Its labels are shares there, so the teacher's softmax is taken first.
    shares = t.masked_fill(~where, -math.inf).softmax(1).masked_fill(~where, 0.0)
    assert losses.softmax_distillation(s, t, where=where).item() == pytest.approx(
        mean_of(theirs(rax.softmax_loss, s, shares, where), active), rel=1e-5
    )


@pytest.mark.slow
def test_pairwise_losses_equal_those_of_rax(rax: Any) -> None:
    s, t, where = lists(1)
    active = where.sum(1) >= 2
    for ours, other in (
        (losses.ranknet, rax.pairwise_logistic_loss),
        (losses.pairwise_hinge, rax.pairwise_hinge_loss),
    ):
        assert ours(s, t, where=where).item() == pytest.approx(mean_of(theirs(other, s, t, where), active), rel=1e-5)
    # There over all n² ordered pairs, those of an entry with itself among them.
    count = where.sum(1).tolist()
    values = theirs(rax.pairwise_mse_loss, s, t, where)
    whole = [v * n / (n - 1) if n > 1 else 0.0 for v, n in zip(values, count, strict=True)]
    assert losses.margin_mse(s, t, where=where).item() == pytest.approx(mean_of(whole, active), rel=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("k", [None, 3])
def test_lambda_rank_equals_that_of_rax(rax: Any, k: int | None) -> None:
    s, t, where = lists(2)
    t = t.abs()
    active = where.sum(1) >= 2
    weights = partial(rax.dcg_lambdaweight, normalize=True, topn=k, gain_fn=lambda x: x)
    values = theirs(rax.pairwise_logistic_loss, s, t, where, lambdaweight_fn=weights, reduce_fn=np.sum)
    # It scales its weights by the length of the list.
    expected = mean_of(values, active) / s.shape[1]
    assert losses.lambda_rank(s, t, where=where, gain="linear", k=k).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("gain", ["linear", "exponential"])
def test_approx_ndcg_equals_that_of_rax(rax: Any, gain: Any) -> None:
    s, t, where = lists(3)
    t = t.abs()
    active = where.sum(1) >= 2
    from jax.nn import sigmoid

    smooth = partial(rax.utils.approx_ranks, step_fn=lambda x: sigmoid(x / 0.3))
    options = {} if gain == "exponential" else {"gain_fn": lambda x: x}
    # Not its NDCG, whose best order has smooth ranks as well.
    expected = 0.0
    for b in torch.nonzero(active)[:, 0].tolist():
        g = t[b][where[b]] if gain == "linear" else 2 ** t[b][where[b]] - 1
        best = (g.sort(descending=True).values / torch.log2(torch.arange(len(g)) + 2.0)).sum().item()
        smooth_dcg = float(
            rax.dcg_metric(np.asarray(s[b]), np.asarray(t[b]), where=np.asarray(where[b]), rank_fn=smooth, **options)
        )
        expected += (1 - smooth_dcg / best) / int(active.sum())
    got = losses.approx_ndcg(s, t, where=where, gain=gain, smoothing=0.3).item()
    assert got == pytest.approx(expected, rel=1e-4)


def test_cross_entropy_and_kl_equal_those_of_torch() -> None:
    s, t, _ = lists(4)
    where = torch.ones_like(s, dtype=torch.bool)
    cross = torch.nn.functional.cross_entropy(s, t.softmax(1))
    assert losses.softmax_distillation(s, t, where=where).item() == pytest.approx(cross.item(), rel=1e-5)
    kl = torch.nn.functional.kl_div(s.log_softmax(1), t.log_softmax(1), log_target=True, reduction="batchmean")
    assert losses.kl_distillation(s, t, where=where).item() == pytest.approx(kl.item(), rel=1e-4)
    margin = torch.nn.functional.margin_ranking_loss(s[:, 0], s[:, 1], (t[:, 0] - t[:, 1]).sign(), margin=0.5)
    assert losses.pairwise_hinge(s[:, :2], t[:, :2], where=where[:, :2], margin=0.5).item() == pytest.approx(
        margin.item(), rel=1e-5
    )


def test_hand_constants() -> None:
    s, where = torch.tensor([[math.log(3.0), 0.0]]), torch.ones(1, 2, dtype=torch.bool)
    t = torch.tensor([[0.0, 0.0]])
    # The teacher says 1/2 each, the student 3/4 and 1/4.
    cross = -(math.log(3 / 4) + math.log(1 / 4)) / 2
    assert losses.softmax_distillation(s, t, where=where).item() == pytest.approx(cross)
    assert losses.kl_distillation(s, t, where=where).item() == pytest.approx(cross - math.log(2))
    second = torch.tensor([[0.0, 1.0]])
    assert losses.list_mle(s, second, where=where).item() == pytest.approx(math.log(4))
    assert losses.ranknet(s, second, where=where).item() == pytest.approx(math.log(4))
    assert losses.pairwise_hinge(s, second, where=where).item() == pytest.approx(1 + math.log(3))
    assert losses.margin_mse(s, second, where=where).item() == pytest.approx((math.log(3) + 1) ** 2)


def test_a_temperature_divides_both_scores() -> None:
    s, t, where = torch.tensor([[2.0, 0.0, 1.0]]), torch.tensor([[0.0, 4.0, 2.0]]), torch.ones(1, 3, dtype=torch.bool)
    hot = losses.softmax_distillation(s, t, where=where, temperature=2.0)
    assert float(hot) == pytest.approx(4 * float(losses.softmax_distillation(s / 2, t / 2, where=where)))


@pytest.mark.parametrize("k", [None, 2])
def test_drawn_orders_have_the_mean_of_all_orders_by_their_probability(k: int | None) -> None:
    s, t, temperature = [0.5, -1.0, 1.5], [1.0, 0.0, 2.0], 1.5
    where = torch.ones(1, 3, dtype=torch.bool)
    expected = spread = 0.0
    for order in permutations(range(3)):
        falling = torch.tensor([[-float(order.index(i)) for i in range(3)]])
        by_teacher = losses.list_mle(torch.tensor([t]) / temperature, falling, where=where).item()
        by_student = losses.list_mle(torch.tensor([s]), falling, where=where, k=k).item()
        expected += math.exp(-by_teacher) * by_student
        spread += math.exp(-by_teacher) * by_student**2
    generator, samples = torch.Generator().manual_seed(0), 20_000
    got = losses.rank_distil(
        torch.tensor([s]),
        torch.tensor([t]),
        where=where,
        generator=generator,
        samples=samples,
        k=k,
        temperature=temperature,
    ).item()
    assert abs(got - expected) < 4 * math.sqrt((spread - expected**2) / samples)


def test_drawn_orders_keep_to_the_form() -> None:
    s = torch.tensor([[0.5, -1.0, 1.5], [9.0, math.nan, 1.0]], dtype=torch.float64, requires_grad=True)
    t, where = torch.tensor([[1.0, 0.0, 2.0]] * 2).double(), torch.tensor([[True, False, True], [False] * 3])

    def loss(s: Tensor, t: Tensor = t, where: Tensor = where) -> Tensor:
        return losses.rank_distil(s, t, where=where, generator=torch.Generator().manual_seed(1), samples=3)

    first = loss(s)
    first.backward()
    assert s.grad is not None
    assert torch.equal(s.grad == 0, ~where)
    assert loss(s.detach()).item() == first.item()  # the generator alone decides
    assert torch.autograd.gradcheck(lambda x: loss(torch.cat([x, s.detach()[1:]])), (s.detach()[:1].requires_grad_(),))
    assert loss(s.detach().float(), t.float()).dtype == torch.float32
    nothing = torch.zeros_like(where)
    assert loss(s, t, nothing).item() == 0.0
    assert math.isnan(loss(s[:1], torch.tensor([[1.0, 0.0, math.nan]]).double(), where[:1]).item())


def test_a_cold_teacher_draws_its_order() -> None:
    s, t, where = lists(5)
    cold = losses.rank_distil(s, t, where=where, generator=torch.Generator().manual_seed(0), temperature=1e-6)
    assert cold.item() == pytest.approx(losses.list_mle(s, t, where=where).item(), rel=1e-5)


def test_equal_teacher_scores_go_by_place() -> None:
    s, t, where = torch.tensor([[3.0, 1.0]]), torch.tensor([[5.0, 5.0]]), torch.ones(1, 2, dtype=torch.bool)
    assert losses.list_mle(s, t, where=where).item() == pytest.approx(math.log1p(math.exp(-2)))


@pytest.mark.slow
def test_a_cold_ndcg_is_ndcg(rax: Any) -> None:
    s, t, where = lists(6)
    t = t.abs()
    smooth = losses.approx_ndcg(s, t, where=where, gain="linear", smoothing=1e-6).item()
    values = theirs(partial(rax.ndcg_metric, gain_fn=lambda x: x), s, t, where)
    assert smooth == pytest.approx(1 - mean_of(values, where.sum(1) >= 2), rel=1e-4)

"""Each loss: fast == naive, a hand constant, all-masked == 0 with a zero gradient, gradcheck, both precisions."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from recdistill.train import losses

Loss = Callable[..., Tensor]
TEACHER: list[Loss] = [losses.softmax_distillation, losses.kl_distillation]
LABEL: list[Loss] = [losses.softmax_labels, losses.binary_labels]


def softmax(values: list[float]) -> list[float]:
    top = max(values)
    shares = [math.exp(v - top) for v in values]
    return [s / sum(shares) for s in shares]


def naive_distillation(s: list[float], t: list[float], temperature: float) -> float | None:
    if len(s) < 2:
        return None
    q, p = softmax([x / temperature for x in s]), softmax([x / temperature for x in t])
    return -(temperature**2) * sum(a * math.log(b) for a, b in zip(p, q, strict=True))


def naive_kl(s: list[float], t: list[float], temperature: float) -> float | None:
    cross = naive_distillation(s, t, temperature)
    entropy = naive_distillation(t, t, temperature)
    return None if cross is None or entropy is None else cross - entropy


def naive_softmax_labels(s: list[float], y: list[float], _: float) -> float | None:
    if sum(y) == 0:
        return None
    q = softmax(s) if s else []
    return -sum(a * math.log(b) for a, b in zip(y, q, strict=True) if a) / sum(y)


def naive_binary(s: list[float], y: list[float], _: float) -> float | None:
    if not s:
        return None
    terms = [a * math.log1p(math.exp(-x)) if a else math.log1p(math.exp(x)) for x, a in zip(s, y, strict=True)]
    return sum(terms) / len(terms)


NAIVE = {
    "softmax_distillation": naive_distillation,
    "kl_distillation": naive_kl,
    "softmax_labels": naive_softmax_labels,
    "binary_labels": naive_binary,
}


def call(loss: Loss, s: Tensor, other: Tensor, where: Tensor, weights: Tensor | None, temperature: float) -> Tensor:
    extra = {"temperature": temperature} if loss in TEACHER else {}
    return loss(s, other, where=where, weights=weights, **extra)


@pytest.mark.parametrize("loss", TEACHER + LABEL, ids=lambda f: f.__name__)
@settings(max_examples=50, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    lists=st.integers(1, 5),
    length=st.integers(1, 7),
    temperature=st.sampled_from([0.5, 1.0, 3.0]),
    weighted=st.booleans(),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)
def test_equals_the_naive_form(
    loss: Loss, seed: int, lists: int, length: int, temperature: float, weighted: bool, dtype: torch.dtype
) -> None:
    random = torch.Generator().manual_seed(seed)
    s = torch.randn(lists, length, generator=random, dtype=dtype) * 3
    other = torch.randn(lists, length, generator=random, dtype=dtype) * 3
    if loss in LABEL:
        other = (other > 1).to(dtype) * (1 + torch.rand(lists, length, generator=random, dtype=dtype))
    where = torch.rand(lists, length, generator=random) < 0.7
    weights = torch.rand(lists, generator=random, dtype=dtype) + 0.1 if weighted else None

    total = share = 0.0
    for b in range(lists):
        keep = [i for i in range(length) if where[b, i]]
        value = NAIVE[loss.__name__]([float(s[b, i]) for i in keep], [float(other[b, i]) for i in keep], temperature)
        if value is not None:
            weight = 1.0 if weights is None else float(weights[b])
            total, share = total + weight * value, share + weight
    expected = total / share if share else 0.0
    got = call(loss, s, other, where, weights, temperature)
    assert got.dtype == dtype
    assert float(got) == pytest.approx(expected, rel=1e-4 if dtype == torch.float32 else 1e-10, abs=2e-6)


def test_hand_constants() -> None:
    s, where = torch.tensor([[math.log(3.0), 0.0]]), torch.ones(1, 2, dtype=torch.bool)
    t = torch.tensor([[0.0, 0.0]])
    # The teacher says 1/2 each, the student 3/4 and 1/4.
    assert float(losses.softmax_distillation(s, t, where=where)) == pytest.approx(
        -(math.log(3 / 4) + math.log(1 / 4)) / 2
    )
    assert float(losses.kl_distillation(s, t, where=where)) == pytest.approx(
        -(math.log(3 / 4) + math.log(1 / 4)) / 2 - math.log(2)
    )
    y = torch.tensor([[0.0, 2.0]])
    assert float(losses.softmax_labels(s, y, where=where)) == pytest.approx(math.log(4))
    assert float(losses.binary_labels(s, y, where=where)) == pytest.approx((math.log(4) + 2 * math.log(2)) / 2)


def test_a_temperature_divides_both_scores() -> None:
    s, t, where = torch.tensor([[2.0, 0.0, 1.0]]), torch.tensor([[0.0, 4.0, 2.0]]), torch.ones(1, 3, dtype=torch.bool)
    hot = losses.softmax_distillation(s, t, where=where, temperature=2.0)
    assert float(hot) == pytest.approx(4 * float(losses.softmax_distillation(s / 2, t / 2, where=where)))


def test_a_normaliser_over_the_catalogue_stands_in_for_the_list() -> None:
    catalogue = torch.tensor([[0.5, -1.0, 2.0, 0.0, 1.0]])
    labels = torch.tensor([[0.0, 1.0, 0.0, 0.0, 0.0]])
    whole = losses.softmax_labels(catalogue, labels, where=torch.ones(1, 5, dtype=torch.bool))
    part = losses.softmax_labels(
        catalogue[:, :2], labels[:, :2], where=torch.ones(1, 2, dtype=torch.bool), log_normaliser=catalogue.logsumexp(1)
    )
    assert float(part) == pytest.approx(float(whole))


def test_scores_of_a_catalogue() -> None:
    random = torch.Generator().manual_seed(5)
    shapes = ((4, 3), (9, 3), (9,))
    parameters = [torch.randn(s, generator=random, dtype=torch.float64).mul_(3).requires_grad_() for s in shapes]
    places = torch.tensor([[0, 3], [8, 8], [1, 2], [5, 0]])
    hidden = torch.tensor([0, 3, 9, 10, 11, 35])
    mask = torch.zeros(36, dtype=torch.bool)
    mask[hidden] = True

    def ours(users: Tensor, vectors: Tensor, biases: Tensor) -> tuple[Tensor, Tensor]:
        return losses.catalogue_scores(users, vectors, biases, places_BL=places, hidden=hidden)

    def naive(users: Tensor, vectors: Tensor, biases: Tensor) -> tuple[Tensor, Tensor]:
        scores = users @ vectors.T + biases
        return scores.gather(1, places), scores.masked_fill(mask.view(4, 9), -math.inf).logsumexp(-1)

    for got, expected in zip(ours(*parameters), naive(*parameters), strict=True):
        assert torch.allclose(got, expected, rtol=1e-12)
    assert torch.autograd.gradcheck(ours, parameters)


@pytest.mark.parametrize("loss", TEACHER + LABEL, ids=lambda f: f.__name__)
def test_nothing_real_is_zero_with_a_zero_gradient(loss: Loss) -> None:
    # What is masked may hold anything: padding, a score that never came.
    s = torch.tensor([[1.0, 1e30], [3.0, -1e30]], requires_grad=True)
    got = loss(s, torch.ones(2, 2), where=torch.zeros(2, 2, dtype=torch.bool))
    got.backward()
    assert got.item() == 0.0
    assert s.grad is not None
    assert torch.equal(s.grad, torch.zeros(2, 2))


@pytest.mark.parametrize("loss", TEACHER + LABEL, ids=lambda f: f.__name__)
def test_a_masked_list_beside_a_real_one_changes_nothing(loss: Loss) -> None:
    where = torch.tensor([[True, True], [False, False]])
    s = torch.tensor([[1.0, 2.0], [9.0, -9.0]], requires_grad=True)
    other = torch.tensor([[1.0, 0.0], [5.0, 5.0]])
    both = loss(s, other, where=where)
    assert both.item() == pytest.approx(loss(s[:1], other[:1], where=where[:1]).item())
    both.backward()
    assert s.grad is not None
    assert torch.equal(s.grad[1], torch.zeros(2))
    assert s.grad[0].abs().min() > 0


@pytest.mark.parametrize("loss", TEACHER + LABEL, ids=lambda f: f.__name__)
def test_a_real_nan_is_not_hidden(loss: Loss) -> None:
    s = torch.tensor([[float("nan"), 1.0]])
    assert math.isnan(float(loss(s, torch.tensor([[1.0, 0.0]]), where=torch.ones(1, 2, dtype=torch.bool))))


@pytest.mark.parametrize("loss", TEACHER + LABEL, ids=lambda f: f.__name__)
def test_extreme_scores_stay_finite(loss: Loss) -> None:
    s = torch.tensor([[1e4, -1e4, 0.0]], requires_grad=True)
    got = loss(s, torch.tensor([[0.0, 1e4, 0.0]]), where=torch.ones(1, 3, dtype=torch.bool))
    got.backward()
    assert math.isfinite(got.item())
    assert s.grad is not None
    assert s.grad.isfinite().all()


@pytest.mark.parametrize("loss", TEACHER + LABEL, ids=lambda f: f.__name__)
def test_gradients(loss: Loss) -> None:
    random = torch.Generator().manual_seed(3)
    s = torch.randn(3, 5, generator=random, dtype=torch.float64, requires_grad=True)
    other = torch.tensor([[0.0, 1.0, 0.0, 2.0, 0.0]], dtype=torch.float64).expand(3, 5)
    where = torch.tensor([[True] * 5, [True, True, False, False, True], [False] * 5])
    weights = torch.tensor([1.0, 0.3, 2.0], dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda x: call(loss, x, other, where, weights, 1.5), (s,))


def test_no_gradient_reaches_the_teacher() -> None:
    s, t = torch.randn(2, 3, requires_grad=True), torch.randn(2, 3, requires_grad=True)
    for loss in TEACHER:
        loss(s, t, where=torch.ones(2, 3, dtype=torch.bool)).backward()
    assert t.grad is None

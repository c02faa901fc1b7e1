"""What holds for every loss on lists: fast == naive, all-masked == 0 with a zero gradient, gradcheck, precisions."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import permutations
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support.tries import tries
from torch import Tensor

from recdistill import losses
from recdistill.errors import ConfigError

List = list[float]
Naive = Callable[..., float | None]


def softmax(values: List) -> List:
    top = max(values)
    shares = [math.exp(v - top) for v in values]
    return [s / sum(shares) for s in shares]


def softplus(x: float) -> float:
    return max(x, 0.0) + math.log1p(math.exp(-abs(x)))


def log_sum(values: List) -> float:
    return math.log(sum(math.exp(v) for v in values))


def falling(values: List) -> list[int]:
    """Places by falling value, the earlier first of equals."""
    return sorted(range(len(values)), key=lambda i: -values[i])


def mean(values: List) -> float | None:
    return sum(values) / len(values) if values else None


def plackett_luce(s: List, order: list[int], k: int | None = None, others: list[int] | None = None) -> float:
    """−log of drawing `order` place by place, k times, each time among what is left of it and the others."""
    total = 0.0
    for r in range(len(order) if k is None else min(k, len(order))):
        total += log_sum([s[i] for i in order[r:] + (others or [])]) - s[order[r]]
    return total


def naive_distillation(s: List, t: List, temperature: float = 1.0) -> float | None:
    if len(s) < 2:
        return None
    q, p = softmax([x / temperature for x in s]), softmax([x / temperature for x in t])
    return -(temperature**2) * sum(a * math.log(b) for a, b in zip(p, q, strict=True))


def naive_kl(s: List, t: List, temperature: float) -> float | None:
    cross, entropy = naive_distillation(s, t, temperature), naive_distillation(t, t, temperature)
    return None if cross is None or entropy is None else cross - entropy


def naive_list_mle(s: List, t: List, k: int | None = None) -> float | None:
    return None if len(s) < 2 else plackett_luce(s, falling(t), k)


def naive_margin_mse(s: List, t: List) -> float | None:
    return mean([((s[i] - s[j]) - (t[i] - t[j])) ** 2 for i in range(len(s)) for j in range(i)])


def naive_ranknet(s: List, t: List, temperature: float | None = None) -> float | None:
    if temperature is None:
        return mean([softplus(s[j] - s[i]) for i in range(len(s)) for j in range(len(s)) if t[i] > t[j]])
    each = []
    for i in range(len(s)):
        for j in range(i):
            p = 1 / (1 + math.exp(-(t[i] - t[j]) / temperature))
            each.append(p * softplus(s[j] - s[i]) + (1 - p) * softplus(s[i] - s[j]))
    return mean(each)


def naive_hinge(s: List, t: List, margin: float) -> float | None:
    return mean([max(0.0, margin - (s[i] - s[j])) for i in range(len(s)) for j in range(len(s)) if t[i] > t[j]])


def dcg(gains: List, k: int | None = None) -> float:
    """Of gains in their order."""
    return sum(g / math.log2(r + 2) for r, g in enumerate(gains) if k is None or r < k)


def naive_lambda_rank(s: List, t: List, temperature: float, k: int | None) -> float | None:
    """By what an exchange of two entries really does to NDCG."""
    if len(set(t)) < 2:
        return None
    g = softmax([x / temperature for x in t])
    order, best = falling(s), dcg(sorted(g, reverse=True), k)
    total = 0.0
    for i in range(len(s)):
        for j in range(len(s)):
            if g[i] > g[j]:
                other = [{i: j, j: i}.get(x, x) for x in order]
                change = abs(dcg([g[x] for x in other], k) - dcg([g[x] for x in order], k)) / best
                total += change * softplus(s[j] - s[i])
    return total


def naive_approx_ndcg(s: List, t: List, temperature: float, smoothing: float) -> float | None:
    if len(s) < 2:
        return None
    g = softmax([x / temperature for x in t])
    total = 0.0
    for i in range(len(s)):
        above = sum(1 / (1 + math.exp((s[i] - s[j]) / smoothing)) for j in range(len(s)) if j != i)
        total += g[i] / math.log2(2 + above)
    return 1 - total / dcg(sorted(g, reverse=True))


def naive_rrd(s: List, t: List, ranked: list[bool], k: int | None = None) -> float | None:
    if len(s) < 2 or not any(ranked):
        return None
    order = [i for i in falling(t) if ranked[i]]
    return plackett_luce(s, order, k, [j for j in range(len(s)) if not ranked[j]])


def naive_rd(s: List, t: List, decay: float, sharpness: float, student_ranks: List | None = None) -> float | None:
    weighed = []
    for r, i in enumerate(falling(t), 1):
        w = math.exp(-r / decay)
        if student_ranks is not None:
            w *= math.tanh(max(sharpness * (student_ranks[i] - r), 0))
        weighed.append((w, softplus(-s[i])))
    total = sum(w for w, _ in weighed)
    return sum(w / total * x for w, x in weighed) if total > 0 else None


def naive_cd(s: List, t: List, temperature: float, bias: float) -> float | None:
    q = [1 / (1 + math.exp(-(x + bias) / temperature)) for x in t]
    return mean([a * softplus(-x) + (1 - a) * softplus(x) for a, x in zip(q, s, strict=True)])


def naive_unkd(s: List, t: List, groups: list[int]) -> float | None:
    n = range(len(s))
    return mean([softplus(s[j] - s[i]) for i in n for j in n if t[i] > t[j] and groups[i] == groups[j]])


def naive_hetcomp(s: List, t: List, ranked: list[bool], stage: str) -> float | None:
    if len(s) < 2 or not any(ranked):
        return None
    others = [j for j in range(len(s)) if not ranked[j]]
    if stage == "overall":
        return sum(log_sum([s[j] for j in [i, *others]]) - s[i] for i in range(len(s)) if ranked[i])
    half, tenth = (naive_rrd(s, t, ranked, max(1, sum(ranked) // part)) for part in (2, 10))
    assert half is not None
    assert tenth is not None
    return (half + tenth) / 2


def naive_rce(
    s: List,
    t: List,
    student_top: list[bool],
    teacher_top: list[bool],
    sampled: list[bool],
    beta: float,
    temperature: float,
) -> float | None:
    n = range(len(s))
    own = [i for i in n if student_top[i]]
    company = sorted({i for i in n if sampled[i]} | {i for i in n if teacher_top[i] and not student_top[i]})
    if len(own) < 2:
        return None
    theirs = [i for i in n if teacher_top[i]]
    overlap = sum(sampled[i] for i in theirs) / len(theirs) if theirs else 0.0
    w = math.exp(-beta * overlap)
    first = naive_distillation([s[i] for i in own], [t[i] for i in own], temperature)
    second = naive_distillation([s[i] for i in company], [t[i] for i in company], temperature)  # of one entry it is 0
    return (1 - w) * (first or 0.0) + w * (second or 0.0)


def naive_softmax_labels(s: List, y: List) -> float | None:
    if sum(y) == 0:
        return None
    q = softmax(s) if s else []
    return -sum(a * math.log(b) for a, b in zip(y, q, strict=True) if a) / sum(y)


def naive_sampled_softmax(s: List, y: List, log_q: List) -> float | None:
    return naive_softmax_labels([a - b for a, b in zip(s, log_q, strict=True)], y)


def naive_binary(s: List, y: List) -> float | None:
    return mean([a * softplus(-x) if a else softplus(x) for x, a in zip(s, y, strict=True)])


def naive_bpr(s: List, y: List) -> float | None:
    pairs = [(y[i], softplus(s[j] - s[i])) for i in range(len(s)) for j in range(len(s)) if y[i] > 0 and y[j] == 0]
    return sum(w * x for w, x in pairs) / sum(w for w, _ in pairs) if pairs else None


@dataclass
class Case:
    """One loss with options; `per_entry` makes what it takes for each entry beside the scores."""

    loss: Callable[..., Tensor]
    naive: Naive
    options: dict[str, Any] = field(default_factory=dict)
    per_entry: dict[str, Callable[[torch.Generator, tuple[int, ...]], Tensor]] = field(default_factory=dict)

    @property
    def labels(self) -> bool:
        return self.loss in LABEL


def mask(random: torch.Generator, shape: tuple[int, ...]) -> Tensor:
    return torch.rand(shape, generator=random) < 0.6


def small(random: torch.Generator, shape: tuple[int, ...]) -> Tensor:
    return torch.randint(0, 2, shape, generator=random)


def rank(random: torch.Generator, shape: tuple[int, ...]) -> Tensor:
    return torch.randint(1, 20, shape, generator=random)


def log_q(random: torch.Generator, shape: tuple[int, ...]) -> Tensor:
    return torch.rand(shape, generator=random, dtype=torch.float64).log()


LABEL = [losses.softmax_labels, losses.binary_labels, losses.bpr, losses.sampled_softmax]
RCE = {"student_top": mask, "teacher_top": mask, "sampled": mask}
CASES = {
    "softmax_distillation": Case(losses.softmax_distillation, naive_distillation, {"temperature": 1.5}),
    "kl_distillation": Case(losses.kl_distillation, naive_kl, {"temperature": 0.5}),
    "list_mle": Case(losses.list_mle, naive_list_mle),
    "list_mle, k": Case(losses.list_mle, naive_list_mle, {"k": 2}),
    "margin_mse": Case(losses.margin_mse, naive_margin_mse),
    "ranknet": Case(losses.ranknet, naive_ranknet),
    "ranknet, soft": Case(losses.ranknet, naive_ranknet, {"temperature": 2.0}),
    "pairwise_hinge": Case(losses.pairwise_hinge, naive_hinge, {"margin": 2.0}),
    "lambda_rank": Case(losses.lambda_rank, naive_lambda_rank, {"temperature": 2.0, "k": None}),
    "lambda_rank, k": Case(losses.lambda_rank, naive_lambda_rank, {"temperature": 2.0, "k": 2}),
    "approx_ndcg": Case(losses.approx_ndcg, naive_approx_ndcg, {"temperature": 2.0, "smoothing": 0.5}),
    "rrd": Case(losses.rrd, naive_rrd, {}, {"ranked": mask}),
    "rrd, k": Case(losses.rrd, naive_rrd, {"k": 1}, {"ranked": mask}),
    "dcd": Case(losses.dcd, naive_rrd, {}, {"ranked": mask}),
    "rd": Case(losses.rd, naive_rd, {"decay": 2.0, "sharpness": 0.1}),
    "rd, hybrid": Case(losses.rd, naive_rd, {"decay": 2.0, "sharpness": 0.1}, {"student_ranks": rank}),
    "cd": Case(losses.cd, naive_cd, {"temperature": 2.0, "bias": 0.5}),
    "unkd": Case(losses.unkd, naive_unkd, {}, {"groups": small}),
    "hetcomp, overall": Case(losses.hetcomp, naive_hetcomp, {"stage": "overall"}, {"ranked": mask}),
    "hetcomp, order": Case(losses.hetcomp, naive_hetcomp, {"stage": "order"}, {"ranked": mask}),
    "rce": Case(losses.rce, naive_rce, {"beta": 1.0, "temperature": 2.0}, dict(RCE)),
    "softmax_labels": Case(losses.softmax_labels, naive_softmax_labels),
    "sampled_softmax": Case(losses.sampled_softmax, naive_sampled_softmax, {}, {"log_q": log_q}),
    "binary_labels": Case(losses.binary_labels, naive_binary),
    "bpr": Case(losses.bpr, naive_bpr),
}
EVERY = pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())


def extras(case: Case, shape: tuple[int, ...], dtype: torch.dtype) -> dict[str, Tensor]:
    """Nearly all that is real is chosen, so that every list has something to say."""
    made = {name: make(torch.Generator().manual_seed(1), shape) for name, make in case.per_entry.items()}
    made = {name: x.to(dtype) if x.is_floating_point() else x for name, x in made.items()}
    if "student_ranks" in made:
        made["student_ranks"] = made["student_ranks"] + 20
    for name in ("student_top", "teacher_top", "sampled", "ranked"):
        if name in made:
            made[name] = torch.ones(shape, dtype=torch.bool)
    if "ranked" in made:
        made["ranked"][..., 0] = False
    if "groups" in made:
        made["groups"] = torch.zeros(shape, dtype=torch.int64)
    return made


def call(case: Case, s: Tensor, other: Tensor, where: Tensor, weights: Tensor | None = None) -> Tensor:
    return case.loss(s, other, where=where, weights=weights, **case.options, **extras(case, s.shape, s.dtype))


@EVERY
@tries(20)
@given(
    seed=st.integers(0, 2**31),
    lists=st.integers(1, 4),
    length=st.integers(1, 7),
    weighted=st.booleans(),
    tied=st.booleans(),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)
def test_equals_the_naive_form(
    case: Case, seed: int, lists: int, length: int, weighted: bool, tied: bool, dtype: torch.dtype
) -> None:
    random = torch.Generator().manual_seed(seed)
    shape = (lists, length)
    s = torch.randn(shape, generator=random, dtype=dtype) * 3
    other = torch.randn(shape, generator=random, dtype=dtype) * 3
    if case.labels:
        other = (other > 1).to(dtype) * (1 + torch.rand(shape, generator=random, dtype=dtype))
    elif tied:
        other = other.round()
    where = torch.rand(shape, generator=random) < 0.7
    weights = torch.rand(lists, generator=random, dtype=dtype) + 0.1 if weighted else None
    aux = {name: make(random, shape) for name, make in case.per_entry.items()}

    total = share = 0.0
    for b in range(lists):
        keep = [i for i in range(length) if where[b, i]]
        mine = {name: [values[b, i].item() for i in keep] for name, values in aux.items()}
        value = case.naive([float(s[b, i]) for i in keep], [float(other[b, i]) for i in keep], **case.options, **mine)
        if value is not None:
            weight = 1.0 if weights is None else float(weights[b])
            total, share = total + weight * value, share + weight
    expected = total / share if share else 0.0
    typed = {name: x.to(dtype) if x.is_floating_point() else x for name, x in aux.items()}
    got = case.loss(s, other, where=where, weights=weights, **case.options, **typed)
    assert got.dtype == dtype
    assert float(got) == pytest.approx(expected, rel=1e-4 if dtype == torch.float32 else 1e-9, abs=5e-6)


@EVERY
def test_nothing_real_is_zero_with_a_zero_gradient(case: Case) -> None:
    # What is masked may hold anything: padding, a score that never came.
    s = torch.tensor([[1.0, 1e30, math.nan], [3.0, -1e30, math.inf]], requires_grad=True)
    other = torch.tensor([[1.0, math.nan, 0.0], [math.inf, 1.0, -1e30]])
    got = call(case, s, other, torch.zeros(2, 3, dtype=torch.bool))
    got.backward()
    assert got.item() == 0.0
    assert s.grad is not None
    assert torch.equal(s.grad, torch.zeros(2, 3))


@EVERY
def test_what_is_masked_changes_nothing(case: Case) -> None:
    real = torch.tensor([[1.0, 2.0, -1.0]]), torch.tensor([[1.0, 0.0, 0.0]])
    alone = call(case, *real, torch.ones(1, 3, dtype=torch.bool))
    s = torch.tensor([[1.0, 2.0, -1.0, math.nan, 1e30], [9.0, -9.0, math.inf, 1.0, 2.0]], requires_grad=True)
    other = torch.tensor([[1.0, 0.0, 0.0, math.nan, 5.0], [5.0, 5.0, math.nan, 1.0, 0.0]])
    where = torch.tensor([[True, True, True, False, False], [False] * 5])
    options = {
        name: x[:, :1].expand(2, 5) if name == "log_q" else x for name, x in extras(case, (2, 5), s.dtype).items()
    }
    if "log_q" in options:
        alone = case.loss(*real, where=torch.ones(1, 3, dtype=torch.bool), log_q=options["log_q"][:1, :3])
    if "student_ranks" in options:
        alone = case.loss(*real, where=where[:1, :3], **case.options, student_ranks=options["student_ranks"][:1, :3])
    both = case.loss(s, other, where=where, **case.options, **options)
    assert both.item() == pytest.approx(alone.item())
    both.backward()
    assert s.grad is not None
    assert torch.equal(s.grad[1], torch.zeros(5))
    assert torch.equal(s.grad[0, 3:], torch.zeros(2))
    assert s.grad[0, :3].isfinite().all()
    assert s.grad[0, :3].abs().max() > 0


@EVERY
def test_a_real_nan_is_not_hidden(case: Case) -> None:
    where, labels = torch.ones(1, 2, dtype=torch.bool), torch.tensor([[1.0, 0.0]])
    assert math.isnan(float(call(case, torch.tensor([[math.nan, 1.0]]), labels, where)))
    # HetComp's first stage takes nothing of the teacher's scores but which are on top.
    if not case.labels and case.options.get("stage") != "overall":
        assert math.isnan(float(call(case, torch.tensor([[0.0, 1.0]]), torch.tensor([[1.0, math.nan]]), where)))


@EVERY
def test_extreme_scores_stay_finite(case: Case) -> None:
    s = torch.tensor([[1e4, -1e4, 0.0]], requires_grad=True)
    got = call(case, s, torch.tensor([[0.0, 1e4, 0.0]]), torch.ones(1, 3, dtype=torch.bool))
    got.backward()
    assert math.isfinite(got.item())
    assert s.grad is not None
    assert s.grad.isfinite().all()


@EVERY
def test_gradients(case: Case) -> None:
    random = torch.Generator().manual_seed(3)
    s = torch.randn(3, 5, generator=random, dtype=torch.float64, requires_grad=True)
    other = torch.tensor([[0.0, 1.0, 0.0, 2.0, 0.0]], dtype=torch.float64).expand(3, 5)
    where = torch.tensor([[True] * 5, [True, True, False, False, True], [False] * 5])
    weights = torch.tensor([1.0, 0.3, 2.0], dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda x: call(case, x, other, where, weights), (s,))


@EVERY
def test_a_gradient_by_hand_in_both_precisions(case: Case) -> None:
    # One step down the gradient lowers the loss, in float32 as in float64.
    for dtype in (torch.float32, torch.float64):
        s = torch.tensor([[0.3, -0.2, 0.1, 0.0]], dtype=dtype, requires_grad=True)
        other, where = torch.tensor([[0.0, 1.0, 0.0, 2.0]], dtype=dtype), torch.ones(1, 4, dtype=torch.bool)
        before = call(case, s, other, where)
        (grad,) = torch.autograd.grad(before, s)
        assert grad.dtype == dtype
        assert call(case, s - 0.01 * grad, other, where) < before


@EVERY
def test_no_gradient_reaches_the_other_side(case: Case) -> None:
    s, t = torch.randn(2, 3, requires_grad=True), torch.rand(2, 3, requires_grad=True)
    where = torch.ones(2, 3, dtype=torch.bool)
    if case.labels:
        t = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    call(case, s, t, where).backward()
    assert t.grad is None


@EVERY
def test_leading_axes_are_lists(case: Case) -> None:
    s, other = torch.randn(2, 3, 4), (torch.rand(2, 3, 4) > 0.5).float()
    where = torch.rand(2, 3, 4) < 0.8
    deep = case.loss(s, other, where=where, **case.options, **extras(case, (2, 3, 4), s.dtype))
    flat_extras = {name: x.view(6, 4) for name, x in extras(case, (2, 3, 4), s.dtype).items()}
    flat = case.loss(s.view(6, 4), other.view(6, 4), where=where.view(6, 4), **case.options, **flat_extras)
    assert deep.item() == pytest.approx(flat.item())


def test_every_order_of_a_list_has_its_share() -> None:
    s = torch.tensor([0.3, -1.0, 2.0], dtype=torch.float64)
    orders = torch.tensor(list(permutations([3.0, 2.0, 1.0])), dtype=torch.float64)
    where = torch.ones(1, 3, dtype=torch.bool)
    shares = [math.exp(-float(losses.list_mle(s[None], t[None], where=where))) for t in orders]
    assert sum(shares) == pytest.approx(1.0)


def test_names() -> None:
    named = {name for name in losses.__all__ if callable(getattr(losses, name))}
    modules = {"DE", "FitNet", "annealed", "by_name", "catalogue_scores", "scores_of_places"}
    for name in named - modules:
        assert losses.by_name(name) is getattr(losses, name)
    with pytest.raises(ConfigError, match="'list_mle'"):
        losses.by_name("listmle")
    with pytest.raises(ConfigError, match="approx_ndcg, binary_labels"):
        losses.by_name("")
    on_lists = {case.loss.__name__ for case in CASES.values()} | {"rank_distil"}
    assert on_lists | {"catalogue_distillation", "ftd", "htd"} == named - modules

"""Losses on vectors: against loops over rows and pairs, masks, gradients, and what a fit reaches."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn

from recdistill.losses import DE, FitNet, annealed, ftd, htd

GROUPS = torch.tensor([0, 2, 0, 2, 5, 0])
WHERE = torch.tensor([True, True, True, True, True, False])


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def rows(dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    random = seeded(1)
    s, t = (torch.randn(6, d, generator=random, dtype=torch.float64).to(dtype) for d in (2, 4))
    return s.requires_grad_(), t


def fitnet(dtype: torch.dtype = torch.float64) -> FitNet:
    return FitNet(2, 4, generator=seeded(2)).to(dtype)


def de(dtype: torch.dtype = torch.float64) -> DE:
    return DE(2, 4, experts=3, generator=seeded(2)).to(dtype)


def fitnet_loss(s: Tensor, t: Tensor, where: Tensor, weights: Tensor | None = None) -> Tensor:
    loss: Tensor = fitnet(s.dtype)(s, t, where=where, weights=weights)
    return loss


def de_loss(s: Tensor, t: Tensor, where: Tensor, weights: Tensor | None = None) -> Tensor:
    loss: Tensor = de(s.dtype)(s, t, where=where, weights=weights, temperature=0.7, generator=seeded(3))
    return loss


def htd_loss(s: Tensor, t: Tensor, where: Tensor, weights: Tensor | None = None) -> Tensor:
    return htd(s, t, where=where, weights=weights, groups=GROUPS[: len(s)])


def htd_prototypes_loss(s: Tensor, t: Tensor, where: Tensor, weights: Tensor | None = None) -> Tensor:
    return htd(s, t, where=where, weights=weights, groups=GROUPS[: len(s)], level="prototypes")


def ftd_loss(s: Tensor, t: Tensor, where: Tensor, weights: Tensor | None = None) -> Tensor:
    return ftd(s, t, where=where, weights=weights)


Hint = Callable[..., Tensor]
HINTS = [fitnet_loss, de_loss, ftd_loss, htd_loss, htd_prototypes_loss]
EVERY = pytest.mark.parametrize("hint", HINTS)


def cosine(a: Tensor, b: Tensor) -> float:
    return float(a @ b) / math.sqrt(float(a @ a) * float(b @ b))


def gap(s: tuple[Tensor, Tensor], t: tuple[Tensor, Tensor]) -> float:
    return (cosine(*s) - cosine(*t)) ** 2


@pytest.mark.parametrize("weights", [None, torch.tensor([1.0, 0.5, 2.0, 1.0, 3.0, 9.0], dtype=torch.float64)])
def test_topology_equals_loops(weights: Tensor | None) -> None:
    s, t = (x.detach() for x in rows())
    real = range(5)
    w = [1.0] * 5 if weights is None else weights[:5].tolist()

    def mean(each: list[float]) -> float:
        return sum(a * b for a, b in zip(w, each, strict=True)) / sum(w)

    full = [sum(gap((s[i], s[j]), (t[i], t[j])) for j in real) for i in real]
    assert ftd(s, t, where=WHERE, weights=weights).item() == pytest.approx(mean(full), rel=1e-12)

    members = {int(g): [i for i in real if GROUPS[i] == g] for g in GROUPS[:5].unique()}
    means = {g: (s[ids].mean(0), t[ids].mean(0)) for g, ids in members.items()}
    within = [sum(gap((s[i], s[j]), (t[i], t[j])) for j in members[int(GROUPS[i])]) for i in real]
    upper = [sum(gap((s[i], a), (t[i], b)) for a, b in means.values()) for i in real]
    got = htd(s, t, where=WHERE, weights=weights, groups=GROUPS)
    assert got.item() == pytest.approx(mean([a + b for a, b in zip(within, upper, strict=True)]), rel=1e-12)

    part = {g: sum(gap((a, c), (b, d)) for c, d in means.values()) / len(members[g]) for g, (a, b) in means.items()}
    got = htd(s, t, where=WHERE, weights=weights, groups=GROUPS, level="prototypes")
    expected = mean([a + part[int(GROUPS[i])] for i, a in enumerate(within)])
    assert got.item() == pytest.approx(expected, rel=1e-12)


def test_a_map_equals_a_loop() -> None:
    s, t = rows()
    hint = fitnet()
    each = [((s[b] @ hint.weight + hint.bias - t[b]) ** 2).sum().item() for b in range(5)]
    assert hint(s, t, where=WHERE).item() == pytest.approx(sum(each) / 5)


def test_experts_equal_a_loop() -> None:
    s, t = rows()
    hint, temperature = de(), 0.7
    noise = -torch.empty(6, 3, dtype=torch.float64).exponential_(generator=seeded(3)).log()
    total = 0.0
    for b in range(5):
        shares = (t[b] @ hint.gate + hint.gate_bias).softmax(0)
        z = ((shares.log() + noise[b]) / temperature).softmax(0)
        mapped = torch.zeros(4, dtype=torch.float64)
        for m in range(3):
            hidden = (s[b] @ hint.first[m] + hint.first_bias[m, 0]).relu()
            mapped = mapped + z[m] * (hidden @ hint.second[m] + hint.second_bias[m])
        total += ((t[b] - mapped) ** 2).sum().item()
    assert de_loss(s, t, WHERE).item() == pytest.approx(total / 5)


@pytest.mark.slow
def test_cold_experts_are_chosen_by_their_share() -> None:
    hint, t = de(torch.float32), torch.ones(1, 4)
    shares = (t @ hint.gate + hint.gate_bias).softmax(1)[0]
    # Each expert answers with its own number, so the loss tells which one was chosen.
    with torch.no_grad():
        hint.first.zero_()
        hint.first_bias.zero_()
        hint.second_bias.copy_(torch.arange(1, 4)[:, None].expand(3, 4))
    counts, generator, where = [0, 0, 0], seeded(4), torch.ones(1, dtype=torch.bool)
    draws = 2000
    for _ in range(draws):
        loss = hint(torch.ones(1, 2), t, where=where, temperature=1e-10, generator=generator).item()
        counts[round(math.sqrt(loss / 4))] += 1
    for count, share in zip(counts, shares.tolist(), strict=True):
        assert abs(count / draws - share) < 4 * math.sqrt(share * (1 - share) / draws)
    assert hint.groups(t).item() == shares.argmax()


@EVERY
def test_masked_rows_change_nothing(hint: Hint) -> None:
    s, t = rows()
    alone = hint(s[:5], t[:5], WHERE[:5])
    s_bad, t_bad = s.detach().clone(), t.clone()
    s_bad[5], t_bad[5] = math.nan, math.inf
    s_bad.requires_grad_()
    both = hint(s_bad, t_bad, WHERE)
    # The experts' noise is drawn for all rows in turn, so the first rows have the same.
    assert both.item() == pytest.approx(alone.item())
    both.backward()
    assert s_bad.grad is not None
    assert torch.equal(s_bad.grad[5], torch.zeros(2, dtype=torch.float64))
    assert s_bad.grad[:5].isfinite().all()
    assert s_bad.grad[:5].abs().sum() > 0


@EVERY
def test_nothing_real_is_zero_with_a_zero_gradient(hint: Hint) -> None:
    s, t = rows(torch.float32)
    loss = hint(s, t, torch.zeros(6, dtype=torch.bool))
    loss.backward()
    assert loss.item() == 0.0
    assert s.grad is not None
    assert torch.equal(s.grad, torch.zeros_like(s))


@EVERY
def test_gradients_in_both_precisions(hint: Hint) -> None:
    s, t = rows()
    weights = torch.tensor([1.0, 0.5, 2.0, 1.0, 3.0, 9.0], dtype=torch.float64)
    if hint is htd_loss:
        # The means take no gradient, so the finite differences are of a loss with fixed means: one group of one row.
        s = s[:1].detach().requires_grad_()
        assert hint(s, t[:1], WHERE[:1]).item() == pytest.approx(0.0, abs=1e-12)
    else:
        assert torch.autograd.gradcheck(lambda x: hint(x, t, WHERE, weights), (s,))
    s, t = rows(torch.float32)
    t.requires_grad_()
    loss = hint(s, t, WHERE)
    loss.backward()
    assert loss.dtype == torch.float32
    assert t.grad is None
    assert s.grad is not None
    assert s.grad.dtype == torch.float32


def test_the_gradient_of_htd_is_that_of_fixed_means() -> None:
    s, t = rows()
    htd_loss(s, t, WHERE).backward()
    fixed = {int(g): s.detach()[:5][GROUPS[:5] == g].mean(0) for g in GROUPS[:5].unique()}
    t_means = {g: t[:5][GROUPS[:5] == g].mean(0) for g in fixed}
    x = s.detach().requires_grad_()
    total = torch.zeros((), dtype=torch.float64)
    for i in range(5):
        for j in range(5):
            if GROUPS[i] == GROUPS[j]:
                total = total + (torch.cosine_similarity(x[i], x[j], 0) - cosine(t[i], t[j])) ** 2
        for g, mean in fixed.items():
            total = total + (torch.cosine_similarity(x[i], mean, 0) - cosine(t[i], t_means[g])) ** 2
    (total / 5).backward()
    assert s.grad is not None
    assert x.grad is not None
    assert torch.allclose(s.grad, x.grad, atol=1e-12)


def test_a_zero_row_has_no_direction() -> None:
    s, t = rows()
    s_zero = s.detach().clone()
    s_zero[5] = 0.0
    s_zero.requires_grad_()
    loss = ftd(s_zero, t, where=torch.ones(6, dtype=torch.bool))
    assert loss.item() == pytest.approx(ftd(s, t, where=WHERE).item())
    loss.backward()
    assert s_zero.grad is not None
    assert s_zero.grad.isfinite().all()


@pytest.mark.parametrize("hint", [ftd_loss, htd_loss, htd_prototypes_loss])
def test_a_turned_and_stretched_teacher_has_nothing_left_to_learn(hint: Hint) -> None:
    s, _ = rows()
    angle = 0.7
    turn = torch.tensor([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]], dtype=torch.float64)
    assert hint(s, 3 * s.detach() @ turn, WHERE).item() == pytest.approx(0.0, abs=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["fitnet", "de"])
def test_what_is_a_map_of_the_student_is_learnt(name: str) -> None:
    random = seeded(6)
    s = torch.randn(64, 2, generator=random)
    t, where = s @ torch.randn(2, 4, generator=random), torch.ones(64, dtype=torch.bool)
    hint: nn.Module = fitnet(torch.float32) if name == "fitnet" else de(torch.float32)
    noise = {} if name == "fitnet" else {"temperature": 0.1, "generator": random}
    optimizer = torch.optim.Adam(hint.parameters(), lr=0.05)
    values = []
    for _ in range(300):
        optimizer.zero_grad()
        loss = hint(s, t, where=where, **noise)
        loss.backward()
        optimizer.step()
        values.append(loss.item())
    assert values[-1] < 0.1 * values[0]


def test_first_weights_come_from_the_generator() -> None:
    for make in (fitnet, de):
        first, second = make(), make()
        assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    assert not torch.equal(fitnet().weight, FitNet(2, 4, generator=seeded(9)).to(torch.float64).weight)


def test_the_temperature_falls_by_the_same_factor() -> None:
    steps = [annealed(i / 10) for i in range(11)]
    assert steps[0] == 1.0
    assert steps[-1] == pytest.approx(1e-10)
    ratios = [b / a for a, b in pairwise(steps)]
    assert ratios == pytest.approx([0.1] * 10)

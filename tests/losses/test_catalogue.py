"""The whole-catalogue softmax, whole and in chunks, against plain torch; and that chunks keep memory flat."""

from __future__ import annotations

import math
import subprocess
import sys

import pytest
import torch
from torch import Tensor

from recdistill import losses

PLACES = torch.tensor([[0, 3], [8, 8], [1, 2], [5, 0]])
HIDDEN = torch.tensor([0, 35, 3, 9, 10, 11])


def parameters(dtype: torch.dtype = torch.float64) -> list[Tensor]:
    random = torch.Generator().manual_seed(5)
    shapes = ((4, 3), (9, 3), (9,))
    return [torch.randn(s, generator=random, dtype=torch.float64).mul_(3).to(dtype).requires_grad_() for s in shapes]


@pytest.mark.many
@pytest.mark.parametrize("hidden", [HIDDEN, torch.zeros(0, dtype=torch.int64)], ids=["hidden", "nothing hidden"])
@pytest.mark.parametrize("form", ["places", "mask"])
@pytest.mark.parametrize("chunk", [None, 1, 4, 9, 100])
def test_scores_of_a_catalogue(chunk: int | None, form: str, hidden: Tensor) -> None:
    mask = torch.zeros(36, dtype=torch.bool)
    mask[hidden] = True
    if form == "mask":
        hidden = mask.view(4, 9)

    def ours(users: Tensor, vectors: Tensor, biases: Tensor) -> tuple[Tensor, Tensor]:
        return losses.catalogue_scores(users, vectors, biases, places_BL=PLACES, hidden=hidden, chunk=chunk)

    def naive(users: Tensor, vectors: Tensor, biases: Tensor) -> tuple[Tensor, Tensor]:
        scores = users @ vectors.T + biases
        return scores.gather(1, PLACES), scores.masked_fill(mask.view(4, 9), -math.inf).logsumexp(-1)

    for got, expected in zip(ours(*parameters()), naive(*parameters()), strict=True):
        assert torch.allclose(got, expected, rtol=1e-12)
    assert torch.autograd.gradcheck(ours, parameters())
    for got, expected in zip(ours(*parameters(torch.float32)), naive(*parameters(torch.float32)), strict=True):
        assert got.dtype == torch.float32
        assert torch.allclose(got, expected, rtol=1e-5)


@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_distillation_over_a_catalogue_equals_a_loop(temperature: float) -> None:
    users, vectors, biases = (x.detach() for x in parameters())
    teacher = torch.tensor([[2.0, 1.0], [0.0, 0.0], [-1.0, 1.0], [5.0, 9.0]], dtype=torch.float64)
    where = torch.tensor([[True, True], [False, False], [True, False], [True, True]])
    places = PLACES.masked_fill(~where, -1)
    weights = torch.tensor([1.0, 7.0, 0.5, 2.0], dtype=torch.float64)

    def ours(users: Tensor, vectors: Tensor, biases: Tensor) -> Tensor:
        return losses.catalogue_distillation(
            users,
            vectors,
            biases,
            places_BM=places,
            teacher_scores_BM=teacher,
            where=where,
            weights=weights,
            temperature=temperature,
            hidden=HIDDEN,
            chunk=4,
        )

    total = 0.0
    for b in (0, 2, 3):
        s = [(float(users[b] @ vectors[j]) + float(biases[j])) / temperature for j in range(9)]
        z = math.log(sum(math.exp(s[j]) for j in range(9) if b * 9 + j not in HIDDEN))
        keep = [m for m in range(2) if where[b, m]]
        mass = [math.exp(float(teacher[b, m]) / temperature) for m in keep]
        shares = [m / sum(mass) for m in mass]
        loss = sum(p * (z - s[int(places[b, m])]) for p, m in zip(shares, keep, strict=True))
        total += float(weights[b]) * temperature**2 * loss
    assert ours(users, vectors, biases).item() == pytest.approx(total / 3.5, rel=1e-12)
    assert torch.autograd.gradcheck(ours, parameters())


def test_a_teacher_of_the_whole_catalogue_is_softmax_distillation() -> None:
    users, vectors, biases = (x.float() for x in parameters())
    teacher = torch.randn(4, 9, generator=torch.Generator().manual_seed(1))
    everything, where = torch.arange(9).expand(4, 9), torch.ones(4, 9, dtype=torch.bool)
    ours = losses.catalogue_distillation(
        users, vectors, biases, places_BM=everything, teacher_scores_BM=teacher, where=where, temperature=2.0, chunk=2
    )
    theirs = losses.softmax_distillation(users @ vectors.T + biases, teacher, where=where, temperature=2.0)
    assert ours.item() == pytest.approx(theirs.item(), rel=1e-5)


def test_nothing_real_is_zero_with_a_zero_gradient() -> None:
    users, vectors, biases = parameters(torch.float32)
    nothing = torch.zeros(4, 2, dtype=torch.bool)
    loss = losses.catalogue_distillation(
        users,
        vectors,
        biases,
        places_BM=torch.full((4, 2), -1),
        teacher_scores_BM=torch.full((4, 2), math.nan),
        where=nothing,
    )
    loss.backward()
    assert loss.item() == 0.0
    for parameter in (users, vectors, biases):
        assert parameter.grad is not None
        assert torch.equal(parameter.grad, torch.zeros_like(parameter))


def test_the_item_side_is_the_transposed_call() -> None:
    users, vectors, _ = parameters()
    teacher, biases = torch.randn(9, 4, dtype=torch.float64), torch.zeros(4, dtype=torch.float64)
    where = torch.ones(9, 4, dtype=torch.bool)
    ours = losses.catalogue_distillation(
        vectors, users, biases, places_BM=torch.arange(4).expand(9, 4), teacher_scores_BM=teacher, where=where
    )
    theirs = losses.softmax_distillation((users @ vectors.T).T, teacher, where=where)
    assert ours.item() == pytest.approx(theirs.item())


def test_extreme_scores_stay_finite() -> None:
    users, vectors = torch.tensor([[1e4], [-1e4]], requires_grad=True), torch.tensor([[1.0], [-1.0], [0.0]])
    loss = losses.catalogue_distillation(
        users,
        vectors,
        torch.zeros(3),
        places_BM=torch.tensor([[0], [0]]),
        teacher_scores_BM=torch.tensor([[1e4], [-1e4]]),
        where=torch.ones(2, 1, dtype=torch.bool),
        chunk=1,
    )
    loss.backward()
    assert loss.item() == pytest.approx(1e4)  # the second list's: 0 − 2e4 for its entry, over two lists
    assert users.grad is not None
    assert users.grad.isfinite().all()


MEMORY = """
import torch
from recdistill import losses
torch.set_num_threads(1)
def peak():
    # Not getrusage: its maximum begins at that of the process that started this one.
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))
def step(count, chunk):
    users, vectors = torch.randn(512, 8, requires_grad=True), torch.randn(count, 8, requires_grad=True)
    biases, places = torch.zeros(count, requires_grad=True), torch.randint(count, (512, 20))
    where = torch.ones(512, 20, dtype=torch.bool)
    losses.catalogue_distillation(
        users, vectors, biases, places_BM=places, teacher_scores_BM=torch.randn(512, 20), where=where, chunk=chunk
    ).backward()
step(1000, 1000)
for chunk in (2048, 100_000):
    before = peak()
    step(100_000, chunk)
    print(peak() - before)
"""


@pytest.mark.slow
def test_memory_stays_flat() -> None:
    """512 lists of 100,000 items are 205 MB of scores in one piece."""
    run = subprocess.run([sys.executable, "-c", MEMORY], capture_output=True, text=True, check=True)
    chunks, at_once = map(int, run.stdout.split())
    scores = 512 * 100_000 * 4
    assert chunks < scores / 5  # the vectors, their gradient and its parts are 15 MB
    # What the imports needed for a moment and gave back hides some of what a step takes.
    assert chunks + at_once > scores / 2

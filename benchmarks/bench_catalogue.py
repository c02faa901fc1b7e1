"""How fast is distillation over the whole catalogue, beside plain torch, and how does it grow?

One step, forward and backward, has 256 lists, the teacher's best M items of each, a softmax over all N items, and
vectors of D dimensions. `plain` is the same mathematics, written in the usual way: scores, log_softmax, gather. `whole`
and `chunked` are `catalogue_distillation`: `whole` forms the scores of all items at once, `chunked` of 2,048 items at a
time. Steps a second are medians of several rounds, in which the ways take turns. The ratio is to `plain` in the same
round. The last column is what a step adds to the peak memory.

    python -m benchmarks.bench_catalogue
    python -m benchmarks.bench_catalogue --items 25000,100000 --dims 20,64 --lists 100,300
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from statistics import median

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.forms import Options
from recdistill.losses import catalogue_distillation
from recdistill.losses.catalogue import CHUNK

Step = Callable[[], Tensor]


def problem(batch: int, items: int, dim: int, length: int) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    random = torch.Generator().manual_seed(0)
    users = (0.3 * torch.randn(batch, dim, generator=random)).requires_grad_()
    vectors = (0.3 * torch.randn(items, dim, generator=random)).requires_grad_()
    biases = torch.zeros(items, requires_grad=True)
    places = torch.randint(items, (batch, length), generator=random)
    return users, vectors, biases, places, torch.randn(batch, length, generator=random)


def plain(users: Tensor, vectors: Tensor, biases: Tensor, places: Tensor, teacher: Tensor) -> Tensor:
    log_q = F.log_softmax(users @ vectors.T + biases, 1).gather(1, places)
    return -(teacher.softmax(1) * log_q).sum(1).mean()


def ours(chunk: int) -> Callable[..., Tensor]:
    def loss(users: Tensor, vectors: Tensor, biases: Tensor, places: Tensor, teacher: Tensor) -> Tensor:
        return catalogue_distillation(
            users,
            vectors,
            biases,
            places_BM=places,
            teacher_scores_BM=teacher,
            where=torch.ones_like(places, dtype=torch.bool),
            chunk=chunk or len(vectors),
        )

    return loss


WAYS = {"plain": plain, "whole": ours(0), "chunked": ours(CHUNK)}


def timed(way: Callable[..., Tensor], given: tuple[Tensor, ...]) -> float:
    began = time.perf_counter()
    way(*given).backward()
    return time.perf_counter() - began


def peak(way: str, batch: int, items: int, dim: int, length: int) -> float:
    """Megabytes that one step adds to the peak memory of a process of its own."""
    code = f"""
from benchmarks import bench_catalogue as bench
given = bench.problem({batch}, {items}, {dim}, {length})
def peak():
    # Not getrusage: its maximum begins at that of the process that started this one.
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))
before = peak()
bench.WAYS[{way!r}](*given).backward()
print((peak() - before) / 1024)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return float(done.stdout)


def options() -> Options:
    """What it can be told."""
    parser = Options(__doc__, items="25000", dims="20", lists="100", rounds=2)
    parser.add_argument("--items", default="25000,100000")
    parser.add_argument("--dims", default="20,64")
    parser.add_argument("--lists", default="100,300", metavar="M[,M…]", help="how many of the teacher's best")
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=5)
    return parser


def main() -> None:
    chosen = options().parse_args()
    print(f"{'items':>8}{'dim':>5}{'M':>5}  {'':8}{'steps/s':>9}{'ratio':>8}{'peak MB':>9}")
    for items in map(int, chosen.items.split(",")):
        for dim in map(int, chosen.dims.split(",")):
            for length in map(int, chosen.lists.split(",")):
                given = problem(chosen.batch, items, dim, length)
                expected = plain(*given)
                for way in WAYS.values():
                    torch.testing.assert_close(way(*given), expected, rtol=1e-4, atol=1e-4)
                    timed(way, given)
                seconds: dict[str, list[float]] = {name: [] for name in WAYS}
                for _ in range(chosen.rounds):
                    for name, way in WAYS.items():
                        seconds[name].append(timed(way, given))
                for name in WAYS:
                    ratio = median(a / b for a, b in zip(seconds["plain"], seconds[name], strict=True))
                    added = peak(name, chosen.batch, items, dim, length)
                    where = f"{items:>8,}{dim:>5}{length:>5}"
                    print(f"{where}  {name:8}{1 / median(seconds[name]):>9.1f}{ratio:>8.2f}{added:>9.0f}", flush=True)


if __name__ == "__main__":
    main()

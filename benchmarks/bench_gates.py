"""Does the gate keep what its policy names, over whole years, and what traffic does it need?

A team makes 20 candidates a day. Each is judged on the newest held-out lists, and looked at again twice where there was
not enough evidence. Nothing here runs a student: figures of lists are drawn with the deviations that were measured on
real students, and go through the gate's own bounds and its own allowance of error.

| deviation of NDCG@10 a list | measured between |
| --- | --- |
| .076 | a student and its neighbour, which began from its weights |
| .177 | two students trained apart |
| .128 | a student and its teacher |

The base is .185. Lists of one user are alike: with `--alike` as the correlation inside a user, and 20 lists a user, the
variance of a mean grows by 1 + 19 · `--alike`.

- **Years**: every candidate is exactly as bad as the policy forbids. In which share of years is any of them promoted?
  `apart`: the errors of candidates are independent, which gives the most chances. `alike`: they share nine tenths.
- **Loss**: each candidate is .001 worse than the champion of its day. How much is lost against the fresh teacher when
  the last of a year is promoted? With drift a champion that stays loses .06 a year by itself.
- **Equal**: how often is a student not passed that is as good as the other, with a half of the window and the whole?
- **Cover**: in how many of many simulations does a 95% interval hold the truth, at 20 lists a user?
- **Power**: how many lists a verdict needs, as a picture, with the time that they take.

    python -m benchmarks.bench_gates
    python -m benchmarks.bench_gates --picture docs/gate-power.svg
    python -m benchmarks.bench_gates --window 10000 --retention 0.9     # fewer lists, and less is asked
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import special

from benchmarks.forms import Options
from recdistill import metrics
from recdistill.config import PromoteSettings
from recdistill.judge import Asked, Try, allowed
from recdistill.judge.bounds import quantile
from recdistill.judge.slice_checks import FAMILY

Floats = NDArray[np.float64]

NEIGHBOUR, APART, TEACHER, BASE = 0.076, 0.177, 0.128, 0.185
TRIES: Final = 20
"""A day."""

USER: Final = 20
"""Lists of a user."""

HELD: Final = 0.05 * 0.10
"""Share of the lists that are held out and labelled: of 5% of the users, one list in ten."""

LOOKS: Final = 3
DRIFT: Final = 0.06
"""What a champion that stays loses in a year."""

CREEP: Final = 0.001
"""What each candidate is worse than the champion of its day."""

ASKED: Final = Asked()
MARGIN: Final = (1 - ASKED.champion) * BASE
BEGINS: Final = datetime(2026, 1, 1, tzinfo=UTC)
HIDDEN: Final = (0.39, 0.5, 0.63, 1.0)
"""Steps of NDCG: what one place more or less is worth."""


class Traffic(NamedTuple):
    """What a stream gives.

    Attributes:
        rate: Lists a second.
        lists: How many are judged.
        overlap: Which share of them a look shares with the look before, 4 hours earlier.
    """

    rate: int
    lists: int
    overlap: float


def options() -> Options:
    """What it can be told."""
    parser = Options(__doc__, years=40, simulations=500)
    parser.add_argument("--years", type=int, default=1000, help="simulated")
    parser.add_argument("--simulations", type=int, default=10_000, help="of intervals")
    parser.add_argument(
        "--window", type=int, default=PromoteSettings().held_out, help="held-out lists that are judged at most"
    )
    parser.add_argument("--retention", type=float, default=ASKED.retention, help="of the teacher, that is asked")
    parser.add_argument("--alike", type=float, default=0.05, help="correlation of the lists of one user")
    parser.add_argument("--picture", type=Path, help="write the power curves to this SVG file")
    parser.add_argument("--seed", type=int, default=0)
    return parser


def main() -> None:
    """Prints the tables."""
    args = options().parse_args()
    began = time.process_time()
    random = np.random.default_rng(args.seed)
    lag = (1 - args.retention) * BASE  # how far below the teacher a student may be
    grows = 1 + (USER - 1) * args.alike
    levels = allotted(days=2 * 365)
    total = levels[: 365 * TRIES].sum()
    print(f"the policy allows {ASKED.error_a_year}; candidates of the first year get {total:.4f} in all, the first")
    print(
        f"{levels[0]:.2e}, one after a year {levels[-1]:.2e}: its bound lies "
        f"{quantile(levels[-1] / 2, 1000):.2f} errors away"
    )

    print(f"\nyears with a false promotion, of {args.years}, exactly at the margin")
    print(
        f"{'lists/s':>8}{'judged':>9}{'drift':>7}" + "".join(f"{name:>20}" for name in ("champion", "apart", "teacher"))
    )
    for traffic in _traffic(args.window):
        for drift in (0.0, DRIFT):
            cells = [
                years(traffic, deviation, levels, years=args.years, grows=grows, drift=drift, random=random)
                for deviation in (NEIGHBOUR, APART, TEACHER)
            ]
            told = "".join(f"{f'{one:.4f} / {alike:.4f}':>20}" for one, alike in cells)
            print(f"{traffic.rate:>8}{traffic.lists:>9,}{drift:>7}{told}")

    print(f"\nloss against the fresh teacher at the promotion that lost most in a year; one margin is {MARGIN:.5f}")
    print(f"{'lists/s':>8}{'drift':>7}{'point, not below':>20}{'champion alone':>20}{'champion, teacher':>20}")
    for traffic in _traffic(args.window):
        for drift in (0.0, DRIFT):
            many = max(20, args.years // 20)
            lost = losses(traffic, levels, years=many, grows=grows, drift=drift, random=random, lag=lag)
            told = "".join(f"{f'{np.mean(one):.4f}, most {np.max(one):.4f}':>20}" for one in lost)
            print(f"{traffic.rate:>8}{drift:>7}{told}")

    print("\nnot passed though as good as the other, by how many paired lists are judged (first look; after three)")
    columns = (args.window // 2, args.window)
    print(f"{'':12}" + "".join(f"{lists:>20,}" for lists in columns))
    for name, deviation, gap in (("neighbour", NEIGHBOUR, MARGIN), ("apart", APART, MARGIN), ("teacher", TEACHER, lag)):
        missed = [
            [1 - power(deviation, lists, levels[-1], grows, gap=gap, looks=looks) for looks in (1, LOOKS)]
            for lists in columns
        ]
        print(f"{name:12}" + "".join(f"{f'{first:.4f}; {last:.4f}':>20}" for first, last in missed))

    print(f"\n95% intervals that hold the truth, of {args.simulations:,}, {USER} lists a user")
    for name, held in cover(args.simulations, random).items():
        print(f"{name:34}{held:>8.4f}")

    print("\nlists for which a verdict is right nine times in ten, and how long they take at 10, 100, 1,000 lists/s")
    curves = _curves(levels[-1], grows, lag)
    for name, curve in curves.items():
        needed = next((n for n in _axis() if curve(n) >= 0.9), math.inf)
        times = ", ".join(_duration(needed / (rate * HELD)) for rate in (10, 100, 1000))
        print(f"{name:44}{needed:>12,.0f}   {times}")
    for name, deviation in (("neighbour", NEIGHBOUR), ("apart", APART)):
        print(f"10% lost in a slice of 2%, {name}, 20,000 lists: refused in {slice_power(deviation, 400):.3f}")
    if args.picture is not None:
        args.picture.write_text(picture(curves), encoding="utf-8")
        print(f"\nthe picture is in {args.picture}")
    print(f"\n{time.process_time() - began:.0f} s of processor time")


def _traffic(window: int) -> list[Traffic]:
    """The three streams. A look comes 4 hours after the last one."""
    found = []
    for rate in (10, 100, 1000):
        fresh = rate * HELD * 4 * 3600
        found.append(Traffic(rate, min(window, round(rate * HELD * 30 * 86_400)), max(0.0, 1 - fresh / window)))
    return found


def allotted(*, days: int) -> Floats:
    """The error of each candidate of so many days, as the gate gives it. Some of them are held against the gate."""
    count = days * TRIES
    gap = timedelta(days=1) / TRIES
    given = np.zeros(count)
    for n in range(count):
        year, month = max(0, n - 365 * TRIES + 1), max(0, n - 28 * TRIES + 1)
        left = max(0.0, ASKED.error_a_year - given[year:n].sum())
        given[n] = left / max(ASKED.tries_a_year, 13 * (1 + n - month))
    for n in (0, 7, 600, 7299, 9000):
        if n < count:
            tries = [Try(content_hash=str(k), at=BEGINS + k * gap, allotted=float(given[k])) for k in range(n)]
            own = allowed(tries, "now", BEGINS + n * gap, a_year=ASKED.error_a_year, least=ASKED.tries_a_year)
            assert math.isclose(own.allotted, given[n], rel_tol=1e-9), (n, own.allotted, given[n])
    return given


def years(
    traffic: Traffic,
    deviation: float,
    levels: Floats,
    *,
    years: int,
    grows: float,
    drift: float,
    random: np.random.Generator,
) -> tuple[float, float]:
    """The share of years, the second of two, in which any candidate at the margin passes: apart, and alike."""
    users = traffic.lists // USER
    error = deviation * math.sqrt(grows / traffic.lists)
    given = levels[-365 * TRIES :]
    # A candidate that is looked at later has aged: against the fresh teacher it lies below the margin by then.
    aged = [drift / 365 / 6 * look / error for look in range(LOOKS)]
    bounds = [np.array([-special.stdtrit(users - 1, given / 2 ** (look + 1))]).ravel() for look in range(LOOKS)]
    shares = []
    for common in (0.0, math.sqrt(0.9)):
        wrong = 0
        for _ in range(years):
            passed = np.zeros(len(given), bool)
            shared = _wander(len(given), traffic.overlap ** (1 / 3.3), random) if common else 0.0
            before = random.standard_normal(len(given))
            spread = np.sqrt(random.chisquare(users - 1, len(given)) / (users - 1))
            for look in range(LOOKS):
                if look:
                    fresh = random.standard_normal(len(given))
                    before = traffic.overlap * before + math.sqrt(1 - traffic.overlap**2) * fresh
                drawn = common * shared + math.sqrt(1 - common**2) * before
                passed |= (drawn - aged[look]) / spread >= bounds[look]
            wrong += bool(passed.any())
        shares.append(wrong / years)
    return shares[0], shares[1]


def _wander(count: int, keeps: float, random: np.random.Generator) -> Floats:
    """Normal numbers, each sharing a part with the one before: what candidates on the same lists have in common."""
    from scipy.signal import lfilter

    drawn = random.standard_normal(count)
    drawn[1:] *= math.sqrt(1 - keeps**2)
    return np.asarray(lfilter([1.0], [1.0, -keeps], drawn), np.float64)


def losses(
    traffic: Traffic, levels: Floats, *, years: int, grows: float, drift: float, random: np.random.Generator, lag: float
) -> list[Floats]:
    """The largest loss against the fresh teacher at a promotion, in each of some years, of three gates.

    They are: a point estimate against the teacher and an interval that must not lie below the champion, as it was; the
    bound against the champion alone; and both bounds. `lag`: how far below the teacher a student may be.
    """
    users = traffic.lists // USER
    near, far = (one * math.sqrt(grows / traffic.lists) for one in (NEIGHBOUR, TEACHER))
    lost = np.zeros((3, years))  # of the champion, now
    most = np.zeros((3, years))
    step = drift / (365 * TRIES)
    for level in levels[-365 * TRIES :]:
        lost = np.minimum(lost + step, BASE)
        candidate = np.minimum(lost + CREEP, BASE)  # nothing is worse than to find nothing
        beside = -CREEP + near * random.standard_normal(years)
        against = -candidate + far * random.standard_normal((3, years))
        bound = quantile(level / 2, users)
        passes = np.stack(
            [
                (against[0] >= -lag) & (beside + 1.96 * near >= 0),
                beside >= bound * near - MARGIN,
                (beside >= bound * near - MARGIN) & (against[2] >= bound * far - lag),
            ]
        )
        lost = np.where(passes, candidate, lost)
        most = np.where(passes, np.maximum(most, candidate), most)
    return [most[0], most[1], most[2]]


def power(deviation: float, lists: float, level: float, grows: float, *, gap: float = MARGIN, looks: int = 1) -> float:
    """How often a student passes whose figure lies `gap` above what is asked, after some looks at new lists."""
    users = max(2, int(lists / USER))
    error = deviation * math.sqrt(grows / lists)
    fails = 1.0
    for look in range(looks):
        bound = quantile(level / 2 ** (look + 1), users)
        fails *= 1 - float(special.ndtr(gap / error - bound))
    return 1 - fails


def slice_power(deviation: float, lists: int, *, slices: int = 5, loss: float = 0.1) -> float:
    """How often a loss in a slice is refused: it is shown, and it is as large as the policy says."""
    error = deviation / math.sqrt(lists)
    bound = max(quantile(FAMILY / slices, lists) * error, ASKED.slice_loss * BASE)
    return float(special.ndtr((loss * BASE - bound) / error))


def cover(simulations: int, random: np.random.Generator, *, users: int = 250) -> dict[str, float]:
    """In which share of simulations each interval holds the truth.

    Values are as differences of NDCG are: mostly 0, else a step up or down, with a taste of each user's own, which is
    skewed. Users have 20 lists on average, from 5 to 35.
    """
    steps = np.array([0.0] * 12 + [one for step in HIDDEN for one in (step, -step)])
    held = {"clustered by user, Student's t": 0, "each list alone": 0, "whole users drawn again": 0}
    drawn_again = max(1, simulations // 10)
    for n in range(simulations):
        lists = random.integers(5, 36, users)
        users_B = np.repeat(np.arange(users), lists)
        tastes = 0.06 * (random.exponential(size=users) - 1)
        values_B = tastes[users_B] + random.choice(steps, len(users_B)) * 0.4
        mean = float(values_B.mean())
        error, count = metrics.standard_errors(values_B, users_B)
        held["clustered by user, Student's t"] += abs(mean) <= quantile(0.025, count) * float(error[0])
        held["each list alone"] += abs(mean) <= 1.96 * float(values_B.std() / math.sqrt(len(values_B)))
        if n < drawn_again:
            [again] = metrics.intervals(values_B[:, None], seed=n, draws=500, users=users_B)
            held["whole users drawn again"] += again.low <= 0 <= again.high
    counts = dict.fromkeys(held, simulations) | {"whole users drawn again": drawn_again}
    return {name: found / counts[name] for name, found in held.items()}


def _curves(level: float, grows: float, lag: float) -> dict[str, Callable[[float], float]]:
    return {
        "an equal neighbour passes the champion": lambda n: power(NEIGHBOUR, n, level, grows),
        "an equal student, trained apart, passes": lambda n: power(APART, n, level, grows),
        "one as good as the teacher passes it": lambda n: power(TEACHER, n, level, grows, gap=lag),
        "10% lost in a slice of 2%: neighbour refused": lambda n: slice_power(NEIGHBOUR, max(2, int(n * 0.02))),
        "10% lost in a slice of 2%: one apart refused": lambda n: slice_power(APART, max(2, int(n * 0.02))),
    }


def _axis() -> Floats:
    return np.geomspace(200, 2e6, 400)


def _duration(seconds: float) -> str:
    for unit, length in (("days", 86_400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 1.5 * length:
            return f"{seconds / length:.2g} {unit}"
    return f"{seconds:.2g} s"


STYLE: Final = """<style>
svg { background: #fff; font: 12px system-ui, sans-serif } line { stroke: #ddd } text { fill: #444 }
path { fill: none; stroke-width: 2 } .a { stroke: #0a7d4f } .b { stroke: #4352c4 } .c { stroke: #b35c00 }
.d { stroke: #0a7d4f; stroke-dasharray: 5 4 } .e { stroke: #4352c4; stroke-dasharray: 5 4 }
</style>"""


def picture(curves: dict[str, Callable[[float], float]]) -> str:
    """The power curves as an SVG file: how often the verdict is right, over how many lists were judged."""
    left, top, width, height = 60.0, 20.0, 620.0, 300.0
    low, high = math.log10(200), math.log10(2e6)
    parts = []

    def x(lists: float) -> float:
        return left + width * (math.log10(lists) - low) / (high - low)

    for share in (0, 0.25, 0.5, 0.75, 0.9, 1):
        y = top + height * (1 - share)
        parts.append(f'<line x1="{left}" x2="{left + width}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text x="{left - 8}" y="{y + 4:.1f}" text-anchor="end">{share:.0%}</text>')
    for lists in (200, 1000, 10_000, 100_000, 1_000_000):
        parts.append(f'<line x1="{x(lists):.1f}" x2="{x(lists):.1f}" y1="{top}" y2="{top + height}"/>')
        day = _duration(lists / (100 * HELD))
        parts.append(f'<text x="{x(lists):.1f}" y="{top + height + 18}" text-anchor="middle">{lists:,}</text>')
        parts.append(f'<text x="{x(lists):.1f}" y="{top + height + 34}" text-anchor="middle">{day}</text>')
    under = "paired lists judged, and how long they take at 100 lists a second (5% of users held out, 10% labelled)"
    parts.append(f'<text x="{left + width / 2}" y="{top + height + 54}" text-anchor="middle">{under}</text>')
    for n, (name, curve) in enumerate(curves.items()):
        points = " ".join(f"{x(lists):.1f},{top + height * (1 - curve(lists)):.1f}" for lists in _axis()[::4])
        kind, y = "abcde"[n], top + height + 80 + 20 * n
        parts.append(f'<path class="{kind}" d="M{points.replace(" ", " L")}"/>')
        parts.append(f'<path class="{kind}" d="M{left},{y - 4} L{left + 30},{y - 4}"/>')
        parts.append(f'<text x="{left + 40}" y="{y}">{name}</text>')
    size = f'viewBox="0 0 {left + width + 20:.0f} {top + height + 80 + 20 * len(curves):.0f}"'
    title = "<title>How often the gate's verdict is right, over the number of lists</title>"
    return f'<svg {size} xmlns="http://www.w3.org/2000/svg" role="img">{title}{STYLE}{"".join(parts)}</svg>\n'


if __name__ == "__main__":
    main()

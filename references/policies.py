"""A simulated world whose policies are known: what answers are served and explored, and what other policies are worth.

Users look at places by a fixed law, and click by utility. A policy with errors serves ten places. Other policies keep
the first three and order the tail in their own way. Their true worth follows from the world, so an estimator can be
held against it.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from recdistill.data.simulated.simulator import SimulatorSettings, simulate
from recdistill.data.simulated.world import examination
from recdistill.errors import DataError
from recdistill.judge.offpolicy import Logged, check_overlap, ips, snips
from recdistill.metrics import Interval
from recdistill.serve import chance_at

K, HEAD, VISITS = 10, 3, 10
TAIL = K - HEAD
WORLD = SimulatorSettings(items=300, users=300, impressions=3000, days=60, shortest=20, longest=30)


class Served(NamedTuple):
    """I requests of a world, and what the policies do with them.

    Args:
        attraction_IP: Chance of a click on each item that the serving policy has, best first, if it is looked at.
        look_K: Chance that each place is looked at.
        targets: For each other policy the places among these items that it shows in the tail, `[I, TAIL]`. Places
            from HEAD on; one behind the candidates is never shown.
        by_user: Requests of each user.
        candidates: How many items may be in the tail.
    """

    attraction_IP: NDArray[np.float64]
    look_K: NDArray[np.float64]
    targets: dict[str, NDArray[np.int64]]
    by_user: list[NDArray[np.int64]]
    candidates: int


def world(pool: int, seed: int = 0) -> Served:
    """A world and its policies."""
    data, truth = simulate(WORLD, seed)
    random, count = np.random.default_rng(seed), TAIL + pool
    places = HEAD + count + TAIL  # the last ones are behind the candidates
    attraction, targets, users = (
        [],
        {name: [] for name in ("other", "true order", "neighbours", "reversed", "elsewhere")},
        [],
    )
    for one in data.impressions:
        utility_N = truth.utilities(one.id)
        thought_N = np.where(truth.allowed(one), utility_N + random.normal(size=len(utility_N)), -np.inf)
        top = np.argsort(-thought_N, kind="stable")[:places]
        attraction.append(truth.attractions(one.id)[top])
        known = utility_N[top[HEAD : HEAD + count]]
        targets["other"].append(np.argsort(-(known + 0.5 * random.normal(size=count)), kind="stable")[:TAIL])
        targets["true order"].append(np.argsort(-known, kind="stable")[:TAIL])
        targets["neighbours"].append(np.minimum(np.arange(TAIL) ^ 1, TAIL - 1 + TAIL % 2))
        targets["reversed"].append(np.arange(TAIL)[::-1])
        targets["elsewhere"].append(count + np.arange(TAIL))
        users.append(one.user)
    _, owner_I = np.unique(users, return_inverse=True)
    by_user = [np.flatnonzero(owner_I == user) for user in range(owner_I.max() + 1)]
    look_K = examination(np.arange(K), WORLD.position_bias)
    return Served(np.array(attraction), look_K, {k: np.array(v) for k, v in targets.items()}, by_user, count)


def truths(served: Served) -> dict[str, float]:
    """What a list of each policy is worth: clicks on average, over users and then over their requests."""
    worth = {}
    head_I = (served.attraction_IP[:, :HEAD] * served.look_K[:HEAD]).sum(1)
    for name, places_IT in served.targets.items():
        tail_IT = np.take_along_axis(served.attraction_IP, HEAD + places_IT, 1)
        value_I = head_I + (tail_IT * served.look_K[HEAD:]).sum(1)
        worth[name] = float(np.mean([value_I[rows].mean() for rows in served.by_user]))
    return worth


def explored(random: np.random.Generator, lists: int, served: Served, share: float) -> NDArray[np.int64]:
    """The candidates in the tail of some lists, `[lists, TAIL]`, drawn as `recdistill.serve.shown` draws them."""
    order = np.tile(np.arange(served.candidates), (lists, 1))
    rows = np.flatnonzero(random.random(lists) < share)
    drawn, goes = random.integers(0, served.candidates, (len(rows), 1)), random.integers(0, TAIL, (len(rows), 1))
    place = np.arange(served.candidates)[None]
    left = place - (place > goes)
    order[rows] = np.where(place == goes, drawn, left + (left >= drawn))
    return order[:, :TAIL]


def one_run(served: Served, lists: int, share: float, seed: tuple[int, ...]) -> dict[str, Logged]:
    """Serves lists, and lays each policy beside them."""
    random = np.random.default_rng(seed)
    users = random.integers(0, len(served.by_user), lists // VISITS)
    asked = [served.by_user[user][random.integers(0, len(served.by_user[user]), VISITS)] for user in users]
    rows_N, clusters_N = np.concatenate(asked), np.repeat(np.arange(len(users)), VISITS)
    count = len(rows_N)
    tail_NT = explored(random, count, served, share)
    places_NK = np.concatenate([np.tile(np.arange(HEAD), (count, 1)), HEAD + tail_NT], 1)
    chance_NK = served.look_K * np.take_along_axis(served.attraction_IP[rows_N], places_NK, 1)
    clicks_NK = (random.random((count, K)) < chance_NK).astype(float)
    table_CT = np.array(
        [
            [chance_at(c, t, tail=TAIL, candidates=served.candidates, share=share) for t in range(TAIL)]
            for c in range(served.candidates)
        ]
    )
    ones_NH = np.ones((count, HEAD))
    chances_NK = np.concatenate([ones_NH, table_CT[tail_NT, np.arange(TAIL)]], 1)
    out = {}
    for name, wanted_IT in served.targets.items():
        matched_NK = np.concatenate([ones_NH > 0, tail_NT == wanted_IT[rows_N]], 1)
        out[name] = Logged(matched_NK, chances_NK, clicks_NK, np.ones((count, K), bool), clusters_N)
    return out


class Row(NamedTuple):
    """What was found of a policy: intervals of both estimators in the runs that were not refused."""

    ips: list[Interval]
    snips: list[Interval]
    refused: int


def measured(served: Served, *, runs: int, lists: int, share: float, seed: int) -> dict[str, Row]:
    """Runs, and all estimates."""
    rows = {name: Row([], [], 0) for name in served.targets}
    for run in range(runs):
        for name, log in one_run(served, lists, share, (seed, run)).items():
            try:
                check_overlap(log)
            except DataError:
                rows[name] = rows[name]._replace(refused=rows[name].refused + 1)
                continue
            rows[name].ips.append(ips(log))
            rows[name].snips.append(snips(log))
    return rows


def holds(found: list[Interval], truth: float) -> int:
    """How many intervals hold a number."""
    return sum(one.low <= truth <= one.high for one in found)

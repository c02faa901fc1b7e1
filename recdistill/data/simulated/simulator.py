"""A world with a known truth: tastes change, the catalogue changes, a product shows lists, and users click.

The product of this world knows utilities with an error (`noise`). It fills half of a list with the items that it thinks
best, and half at random. It shows them in the order of what it thinks, or, for a share of requests, in random order. An
item with a higher utility is more often in a list, stands higher, and is clicked more often. Nothing else about the
item matters. So no ranker can expect to do better on the clicks than the order of true utilities. That order is
`Truth`, and its score on the same clicks is the best possible one.

A history holds clicks and what users found alone ("view"). A user has at most one request in an hour, and clicks come
within 20 minutes. So a history is complete when the next request comes. `recdistill.data.simulated.world`
defines the world.

Example:
    >>> small = SimulatorSettings(items=60, users=20, impressions=40, days=20, shortest=10, longest=12)
    >>> data, truth = simulate(small, seed=1)
    >>> len(data.impressions), truth.utilities(data.impressions[0].id).shape
    (40, (60,))
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from recdistill.data import Dataset
from recdistill.data.simulated.deep import Depths, near_equals
from recdistill.data.simulated.people import make_calendar, make_users
from recdistill.data.simulated.settings import SimulatorSettings
from recdistill.data.simulated.truth import Truth, utilities_of
from recdistill.data.simulated.world import (
    DAY_US,
    DEVICES,
    MINUTE_US,
    TOPICS,
    Catalogue,
    Floats,
    Ints,
    attraction,
    examination,
    make_catalogue,
    make_forces,
)
from recdistill.data.simulated.written import Requests, feedback_of, impressions_of, items_of
from recdistill.features import FeatureSpec, Field, HistorySpec, IdSpec
from recdistill.records import Event

START_US = 1_767_225_600_000_000  # 2026-01-01 00:00 UTC
MOST = 1 << 26  # numbers of a table of users and items that are made at once; a million items would take all memory


def simulate(settings: SimulatorSettings | None = None, seed: int = 0) -> tuple[Dataset, Truth]:
    """Runs a world. Equal settings and seeds give equal records on one kind of processor.

    On another kind, sums of floats and NumPy's partial sort may differ, and with them what is shown and clicked.

    Raises:
        ConfigError: Settings that contradict each other.
    """
    settings = SimulatorSettings() if settings is None else settings
    settings.check()
    return _World(settings, seed).run()


def specification(settings: SimulatorSettings, catalogue: Catalogue) -> FeatureSpec:
    """What a model may see of a simulated world."""
    prices = catalogue.price_N
    return FeatureSpec(
        history=HistorySpec(length=settings.history, actions=("click", "view")),
        id=IdSpec(capacity=max(1024, 2 * settings.items), hashed=16),
        item={
            "topic": Field(kind="category", capacity=32, hashed=2, max_values=1),
            "price": Field("number", mean=round(float(prices.mean()), 2), std=round(float(prices.std()) + 0.01, 2)),
            "title": Field(kind="text", capacity=1024, max_values=8, ngrams=(1, 1)),
        },
        context={
            "part_of_day": Field(kind="category", capacity=4, hashed=0, max_values=1),
            "weekday": Field(kind="category", capacity=7, hashed=0, max_values=1),
            "device": Field(kind="category", capacity=4, hashed=0, max_values=1),
        },
    )


def parts_of(rows: int, width: int) -> list[slice]:
    """All rows of a table in parts, none with more than `MOST` numbers."""
    step = max(1, MOST // max(1, width))
    return [slice(start, start + step) for start in range(0, rows, step)]


def _gumbel(random: np.random.Generator, shape: tuple[int, ...]) -> Floats:
    """Gumbel noise: −log of an exponential, which is kept above 0.

    The largest of score + noise is a draw from the softmax.
    """
    drawn = random.standard_exponential(shape, dtype=np.float32)
    noise: Floats = -np.log(np.maximum(drawn, np.float32(1e-30)))
    return noise


class _World:
    """One run: draws the world, then walks its requests in the order of time."""

    def __init__(self, settings: SimulatorSettings, seed: int) -> None:
        self.settings = settings
        # Each part has its own random stream, so that a change in one part does not change the others.
        streams = np.random.SeedSequence(seed).spawn(6)
        make, people, calendar, self._past, self._requests, self._arrivals = map(np.random.default_rng, streams)
        hidden, self._more = map(np.random.default_rng, np.random.SeedSequence((seed, 1)).spawn(2))
        self.end_us = START_US + settings.days * DAY_US
        self.forces = make_forces(make, settings.dim)
        self.catalogue = make_catalogue(
            make,
            self.forces,
            items=settings.items,
            new_share=settings.new_items,
            withdrawn_share=settings.withdrawn,
            zipf=settings.zipf,
            start_us=START_US,
            end_us=self.end_us,
            open_book=settings.kind == "plain",
        )
        self.depths: Depths | None = None
        if settings.kind == "deep":
            turns_us = START_US + int(settings.shift * settings.days * DAY_US)
            self.depths = Depths(hidden, self.catalogue, self.forces.centre_KD, turns_us)
        self.item_ids = [f"item-{row:05d}" for row in range(settings.items)]
        self.users = make_users(settings, START_US, people)
        self.user_I, self.time_us_I = make_calendar(self.users, settings, START_US, calendar)
        self.history: list[list[Event]] = [[] for _ in range(settings.users)]
        self.had: list[list[int]] = [[] for _ in range(settings.users)]

    def run(self) -> tuple[Dataset, Truth]:
        """Goes through the requests. Returns the records and the truth about them."""
        settings, catalogue = self.settings, self.catalogue
        self._make_past()
        offset = self._calibrate()
        count = len(self.user_I)
        device_I = np.empty(count, np.int64)
        taste_ID = np.empty((count, settings.dim), np.float32)
        boost_IK = np.empty((count, len(TOPICS)), np.float32)
        shown: list[tuple[Ints, Floats, bool]] = []
        seen: list[tuple[int, int]] = []  # user and length of history at the request
        clicks: list[tuple[int, int, int]] = []  # request, item, time
        for number, (user, time_us) in enumerate(zip(self.user_I.tolist(), self.time_us_I.tolist(), strict=True)):
            # What the user wants now, what the product shows, and what is clicked.
            self._drift(user, time_us)
            device_I[number] = self._device(user)
            taste_ID[number], boost_IK[number] = self._wishes(user, time_us, int(device_I[number]))
            utility_N = utilities_of(catalogue, settings.strength, taste_ID[number], boost_IK[number])
            allowed_N = catalogue.live(time_us)
            allowed_N[self.had[user]] = False
            rows, scores, shuffled = self._offer(utility_N, allowed_N)
            shown.append((rows.astype(np.int32), scores, shuffled))
            seen.append((user, len(self.history[user])))
            chance = examination(np.arange(len(rows)), settings.position_bias) * attraction(utility_N[rows], offset)
            clicked = rows[self._requests.random(len(rows)) < chance]
            delay = np.minimum(self._requests.exponential(45e6, len(clicked)).astype(np.int64) + 1, 20 * MINUTE_US)
            for at, item in sorted(zip((time_us + delay).tolist(), clicked.tolist(), strict=True)):
                clicks.append((number, item, at))
                self._choose(user, item, at, "click")
            allowed_N[clicked] = False
            self._find(user, utility_N, allowed_N, time_us)
        ids = [f"sim-{number:06d}" for number in range(count)]
        truth = Truth(
            catalogue=catalogue,
            item_ids=self.item_ids,
            request_ids=ids,
            taste_ID=taste_ID,
            boost_IK=boost_IK,
            offset=offset,
            strength=settings.strength,
            position_bias=settings.position_bias,
        )
        requests = Requests(ids=ids, time_us_I=self.time_us_I, device_I=device_I, shown=shown, seen=seen)
        dataset = Dataset(
            name="simulated",
            items=items_of(catalogue, self.item_ids, self.end_us),
            impressions=impressions_of(requests, self.item_ids, self.history, settings.history),
            feedback=feedback_of(clicks, ids, self.item_ids, settings, self._arrivals),
            spec=specification(settings, catalogue),
            cut_us=(int(self.time_us_I[int(count * 0.8)]), int(self.time_us_I[int(count * 0.9)])),
        )
        return dataset, truth

    def _make_past(self) -> None:
        """The past of users who are there from the start: three visits, each with another topic in mind."""
        random, catalogue, users = self._past, self.catalogue, self.users
        founders = np.flatnonzero(users.arrival_day_U == 0)
        live = np.flatnonzero(catalogue.launch_us_N <= START_US)
        taste_FD = np.stack([users.taste(user, self.forces) for user in founders.tolist()])
        free_FN = np.ones((len(founders), len(live)), np.bool_)
        for sitting, days_before in enumerate((40, 20, 5)):
            mood_F = users.interests_UM[founders, sitting]
            begin_F = START_US - (random.uniform(days_before - 4, days_before, len(founders)) * DAY_US).astype(np.int64)
            length_F = random.integers(1, 9, len(founders))
            best_FT = np.concatenate(
                [
                    self._wished(random, taste_FD[part], mood_F[part], live, free_FN[part])
                    for part in parts_of(len(founders), len(live))
                ]
            )
            for place, user in enumerate(founders.tolist()):
                for step, column in enumerate(best_FT[place, : length_F[place]].tolist()):
                    free_FN[place, column] = False
                    at = int(begin_F[place]) + 3 * step * MINUTE_US
                    self._choose(user, int(live[column]), at, "view")

    def _wished(
        self, random: np.random.Generator, taste_FD: Floats, mood_F: Ints, live: Ints, free_FN: NDArray[np.bool_]
    ) -> Ints:
        """[F, 8], the first wishes of some founders, as places in `live`."""
        catalogue = self.catalogue
        utility_FN = self.settings.strength * taste_FD @ catalogue.latent_ND[live].T + catalogue.popularity_N[live]
        utility_FN += self.settings.mood * (catalogue.topic_N[live] == mood_F[:, None])
        # The first n by utility plus Gumbel noise are n draws without replacement from the softmax of utility.
        keys_FN = utility_FN + _gumbel(random, utility_FN.shape)
        keys_FN[~free_FN] = -np.inf
        return np.argsort(-keys_FN, axis=1)[:, :8].copy()  # a part of it would keep all of it in memory

    def _calibrate(self) -> float:
        """The offset of attraction with which the wanted share of the first 400 lists gets a click.

        The share grows with the offset, so it is found by halving an interval.
        """
        settings, catalogue = self.settings, self.catalogue
        random, self._requests = self._requests, np.random.default_rng(self._past.integers(2**63))
        lists = []
        for user, time_us in zip(self.user_I[:400].tolist(), self.time_us_I[:400].tolist(), strict=True):
            wishes = self._wishes(user, time_us, int(self.users.device_U[user]))
            utility_N = utilities_of(catalogue, settings.strength, *wishes)
            allowed_N = catalogue.live(time_us)
            allowed_N[self.had[user]] = False
            rows, _, _ = self._offer(utility_N, allowed_N)
            lists.append((utility_N[rows], examination(np.arange(len(rows)), settings.position_bias)))
        self._requests = random
        low, high = -40.0, 40.0
        for _ in range(50):
            middle = (low + high) / 2
            rate = np.mean([1 - np.prod(1 - look * attraction(utility, middle)) for utility, look in lists])
            low, high = (middle, high) if rate < settings.click_rate else (low, middle)
        return (low + high) / 2

    def _drift(self, user: int, time_us: int) -> None:
        """Moves a user to the time of a request: personal tastes drift, interests are replaced, moods change."""
        random, users = self._requests, self.users
        days = (time_us - int(users.last_us_U[user])) / DAY_US
        users.last_us_U[user] = time_us
        keep = np.exp(-days / 60)
        dim = self.settings.dim
        users.quirk_UD[user] *= keep
        users.quirk_UD[user] += np.sqrt((1 - keep * keep) / dim) * random.standard_normal(dim)
        if random.random() > np.exp(-days / 180):
            users.interests_UM[user, random.integers(3)] = random.integers(len(TOPICS))
        if random.random() < 0.15:
            users.mood_U[user] = users.interests_UM[user, random.choice(3, p=users.weights_UM[user])]

    def _device(self, user: int) -> int:
        mine = int(self.users.device_U[user])
        return mine if self._requests.random() < 0.8 else int(self._requests.integers(len(DEVICES)))

    def _wishes(self, user: int, time_us: int, device: int) -> tuple[Floats, Floats]:
        boost_K = self.forces.of_request(time_us, device)
        taste_D = self.users.taste(user, self.forces)
        if self.depths is not None:
            return self.depths.taste(taste_D, self.had[user], time_us), boost_K
        boost_K[self.users.mood_U[user]] += self.settings.mood
        return taste_D, boost_K

    def _offer(self, utility_N: Floats, allowed_N: NDArray[np.bool_]) -> tuple[Ints, Floats, bool]:
        """The product's list in the order shown, its scores of the items, and whether the order is random."""
        random, settings = self._requests, self.settings
        thought_N = utility_N + np.float32(settings.noise) * random.standard_normal(len(utility_N), dtype=np.float32)
        length = int(random.integers(settings.shortest, settings.longest + 1))
        if self._more.random() < settings.narrow:
            rows = near_equals(self._more, utility_N, np.flatnonzero(allowed_N), length)
            return rows, self._logged(utility_N, thought_N)[rows], True
        order = np.where(allowed_N, -thought_N, np.inf)
        best = np.argpartition(order, length // 2)[: length // 2]
        best = best[allowed_N[best]]
        rest_N = allowed_N.copy()
        rest_N[best] = False
        rest = np.flatnonzero(rest_N)
        other = random.choice(rest, min(len(rest), length - length // 2), replace=False)
        rows = np.concatenate([best, other])
        shuffled = bool(random.random() < settings.shuffled)
        rows = random.permutation(rows) if shuffled else rows[np.argsort(-thought_N[rows], kind="stable")]
        return rows, self._logged(utility_N, thought_N)[rows], shuffled

    def _logged(self, utility_N: Floats, thought_N: Floats) -> Floats:
        """What is logged as scores: in the deep world those of a strong teacher, else what the product thought."""
        if self.depths is None:
            return thought_N
        noise_N = self._more.standard_normal(len(utility_N), dtype=np.float32)
        return utility_N + np.float32(self.settings.teacher_noise) * noise_N

    def _find(self, user: int, utility_N: Floats, allowed_N: NDArray[np.bool_], time_us: int) -> None:
        """What the user finds alone, half an hour later: draws from the softmax of utility over the catalogue."""
        random = self._requests
        for step in range(min(int(random.poisson(self.settings.views)), 10)):
            keys_N = utility_N + _gumbel(random, utility_N.shape)
            item = int(np.argmax(np.where(allowed_N, keys_N, -np.inf)))
            if allowed_N[item]:
                allowed_N[item] = False
                self._choose(user, item, time_us + (25 + 2 * step) * MINUTE_US, "view")

    def _choose(self, user: int, item: int, at: int, action: str) -> None:
        self.history[user].append(Event(item=self.item_ids[item], time_us=at, action=action))
        self.had[user].append(item)
        if at >= START_US and self._requests.random() < 0.4:
            self.users.mood_U[user] = self.forces.next_K[self.catalogue.topic_N[item]]

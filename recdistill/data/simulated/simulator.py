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

from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray

from recdistill.data import Dataset, LazyImpressions
from recdistill.data.interactions import DAYS
from recdistill.data.simulated.deep import Depths, near_equals
from recdistill.data.simulated.settings import SimulatorSettings
from recdistill.data.simulated.truth import Truth, utilities_of
from recdistill.data.simulated.world import (
    DAY_US,
    DEVICES,
    PARTS_OF_DAY,
    TOPICS,
    Catalogue,
    Floats,
    Forces,
    Ints,
    attraction,
    examination,
    make_catalogue,
    make_forces,
)
from recdistill.errors import ConfigError
from recdistill.features import FeatureSpec, Field, HistorySpec, IdSpec
from recdistill.records import Candidate, Event, Feedback, Impression, Item

START_US = 1_767_225_600_000_000  # 2026-01-01 00:00 UTC
_MINUTE_US = 60_000_000
_HOUR_US = 3_600_000_000
_HOUR_SHARE = np.repeat((0.4, 1.0, 1.2, 2.0), 6) / 27.6  # share of requests in each hour; the evening has the most


def simulate(settings: SimulatorSettings | None = None, seed: int = 0) -> tuple[Dataset, Truth]:
    """Runs a world. Equal settings and seeds give equal records.

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


def _gumbel(random: np.random.Generator, shape: tuple[int, ...]) -> Floats:
    """Gumbel noise: −log of an exponential, which is kept above 0.

    The largest of score + noise is a draw from the softmax.
    """
    drawn = random.standard_exponential(shape, dtype=np.float32)
    noise: Floats = -np.log(np.maximum(drawn, np.float32(1e-30)))
    return noise


@dataclass
class _Users:
    """State of all users: U users with M interests each."""

    interests_UM: Ints
    weights_UM: NDArray[np.float64]
    quirk_UD: NDArray[np.float64]
    mood_U: Ints
    device_U: Ints
    arrival_day_U: NDArray[np.float64]
    last_us_U: Ints

    def taste(self, user: int, forces: Forces) -> Floats:
        """[D], of about unit length."""
        mixture_D = self.weights_UM[user] @ forces.centre_KD[self.interests_UM[user]]
        taste_D: Floats = (mixture_D + 0.4 * self.quirk_UD[user]).astype(np.float32)
        return taste_D


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
        self.users = self._make_users(people)
        self.user_I, self.time_us_I = self._make_calendar(calendar)
        self.history: list[list[Event]] = [[] for _ in range(settings.users)]
        self.had: list[list[int]] = [[] for _ in range(settings.users)]

    def _make_users(self, random: np.random.Generator) -> _Users:
        count = self.settings.users
        arriving = random.random(count) < self.settings.new_users
        arrival_U = np.where(arriving, np.floor(random.uniform(0, 0.95 * self.settings.days, count)), 0.0)
        interests_UM = np.argsort(random.random((count, len(TOPICS))), axis=1)[:, :3]
        return _Users(
            interests_UM=interests_UM,
            weights_UM=random.dirichlet((2.0, 2.0, 2.0), count),
            quirk_UD=random.standard_normal((count, self.settings.dim)) / np.sqrt(self.settings.dim),
            mood_U=interests_UM[:, 0].copy(),
            device_U=random.integers(len(DEVICES), size=count),
            arrival_day_U=arrival_U,
            last_us_U=START_US + (arrival_U * DAY_US).astype(np.int64),
        )

    def _make_calendar(self, random: np.random.Generator) -> tuple[Ints, Ints]:
        """Users and times of all requests, in the order of time. A user has at most one request in an hour."""
        days, count = self.settings.days, self.settings.impressions
        arrival_U = self.users.arrival_day_U
        activity_U = random.lognormal(0.0, 0.8, len(arrival_U)) * (days - arrival_U)
        user_I = random.choice(len(arrival_U), count, p=activity_U / activity_U.sum())
        slot_I = np.zeros(count, np.int64)
        again = np.arange(count)
        # Draw an hour for each request. Where a user has two in one hour, draw again for all but the first.
        for _ in range(200):
            first = arrival_U[user_I[again]]
            day = np.minimum(first + random.random(len(again)) * (days - first), days - 1e-6).astype(np.int64)
            slot_I[again] = day * 24 + random.choice(24, len(again), p=_HOUR_SHARE)
            key_I = user_I * (days * 24) + slot_I
            _, firsts = np.unique(key_I, return_index=True)
            again = np.setdiff1d(np.arange(count), firsts)
            if not len(again):
                break
        else:
            raise ConfigError("simulator: the busiest users have no hour left for their requests; raise users or days")
        time_us_I = START_US + slot_I * _HOUR_US + random.integers(5 * _MINUTE_US, size=count)
        order = np.lexsort((user_I, time_us_I))
        return user_I[order], time_us_I[order]

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
            delay = np.minimum(self._requests.exponential(45e6, len(clicked)).astype(np.int64) + 1, 20 * _MINUTE_US)
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
        dataset = Dataset(
            name="simulated",
            items=self._items(),
            impressions=self._impressions(ids, device_I, shown, seen),
            feedback=self._feedback(ids, clicks),
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
            utility_FN = self.settings.strength * taste_FD @ catalogue.latent_ND[live].T + catalogue.popularity_N[live]
            utility_FN += self.settings.mood * (catalogue.topic_N[live] == mood_F[:, None])
            # The first n by utility plus Gumbel noise are n draws without replacement from the softmax of utility.
            keys_FN = utility_FN + _gumbel(random, utility_FN.shape)
            keys_FN[~free_FN] = -np.inf
            best_FT = np.argsort(-keys_FN, axis=1)[:, :8]
            for place, user in enumerate(founders.tolist()):
                for step, column in enumerate(best_FT[place, : length_F[place]].tolist()):
                    free_FN[place, column] = False
                    at = int(begin_F[place]) + 3 * step * _MINUTE_US
                    self._choose(user, int(live[column]), at, "view")

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
                self._choose(user, item, time_us + (25 + 2 * step) * _MINUTE_US, "view")

    def _choose(self, user: int, item: int, at: int, action: str) -> None:
        self.history[user].append(Event(item=self.item_ids[item], time_us=at, action=action))
        self.had[user].append(item)
        if at >= START_US and self._requests.random() < 0.4:
            self.users.mood_U[user] = self.forces.next_K[self.catalogue.topic_N[item]]

    def _items(self) -> list[Item]:
        catalogue = self.catalogue
        launches, withdrawals = [], []
        for row, name in enumerate(self.item_ids):
            launch_us, withdrawn_us = int(catalogue.launch_us_N[row]), int(catalogue.withdrawn_us_N[row])
            item = Item(
                id=name,
                attributes={
                    "topic": TOPICS[int(catalogue.topic_N[row])],
                    "price": float(catalogue.price_N[row]),
                    "title": catalogue.titles[row],
                },
                time_us=launch_us,
            )
            launches.append(item)
            if withdrawn_us < self.end_us:
                withdrawals.append(msgspec.structs.replace(item, version=1, withdrawn=True, time_us=withdrawn_us))
        return sorted(launches + withdrawals, key=lambda item: item.time_us)

    def _impressions(
        self, ids: list[str], device_I: Ints, shown: list[tuple[Ints, Floats, bool]], seen: list[tuple[int, int]]
    ) -> LazyImpressions:
        time_us_I, item_ids, history, longest = self.time_us_I, self.item_ids, self.history, self.settings.history

        def build(number: int) -> Impression:
            time_us = int(time_us_I[number])
            rows, scores, shuffled = shown[number]
            user, end = seen[number]
            recent = max(0, end - longest)
            days = time_us // DAY_US
            chance = 1.0 / len(rows) if shuffled and len(rows) else None  # all items were had: the list is empty
            return Impression(
                id=ids[number],
                time_us=time_us,
                user=f"user-{user:05d}",
                history=tuple(history[user][recent:end]),
                context={
                    "part_of_day": PARTS_OF_DAY[time_us % DAY_US * 4 // DAY_US],
                    "weekday": DAYS[(days + 3) % 7],
                    "device": DEVICES[int(device_I[number])],
                },
                candidates=tuple(
                    Candidate(item=item_ids[row], logged_score=score, propensity=chance)
                    for row, score in zip(rows.tolist(), scores.tolist(), strict=True)
                ),
                exclude=tuple(event.item for event in history[user][:recent]),
            )

        return LazyImpressions(len(ids), build, time_us=lambda number: int(time_us_I[number]))

    def _feedback(self, ids: list[str], clicks: list[tuple[int, int, int]]) -> list[Feedback]:
        """Feedback in the order of arrival: up to two seconds after the click, some minutes later, some twice."""
        random, settings = self._arrivals, self.settings
        arriving: list[tuple[int, int, Feedback]] = []
        for number, item, at in clicks:
            one = Feedback(
                id=f"{ids[number]}/{item}",
                impression_id=ids[number],
                item=self.item_ids[item],
                action="click",
                time_us=at,
            )
            late = 0
            if random.random() < settings.late:
                late = min(int(random.exponential(5 * _MINUTE_US)), 25 * _MINUTE_US)
            arrival = at + int(random.integers(2_000_000)) + late
            arriving.append((arrival, len(arriving), one))
            if random.random() < settings.duplicates:
                again = arrival + int(random.integers(5 * _MINUTE_US))
                arriving.append((again, len(arriving), one))
        arriving.sort(key=lambda entry: entry[:2])
        return [one for _, _, one in arriving]

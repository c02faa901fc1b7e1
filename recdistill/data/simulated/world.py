"""The truth of the simulator: what items are, what users want at a moment, and when they click.

The utility of item i for user u at time t, in context c:

    utility = popularity_i + strength · <taste_u(t), latent_i> + mood(u, t)[topic_i] + season(t)[topic_i] +
    context(c)[topic_i]

Popularity follows Zipf's law. Taste is a mixture of a user's interests, and changes slowly. The mood is the topic that
the user wants now; a choice can change it. An item at place p (from 0) of a list is clicked with probability

    examination(p) · attraction(utility),   examination(p) = (1 + p)^-bias,   attraction = sigmoid(utility + offset)

independently of the rest of the list (the position-based model: Richardson, Dominowska and Ragno, 2007).

It knows nothing of records.

Example:
    >>> examination(np.array([0, 3]), bias=0.5).tolist()
    [1.0, 0.5]
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]

MINUTE_US = 60_000_000
HOUR_US = 60 * MINUTE_US
DAY_US = 24 * HOUR_US
PARTS_OF_DAY = ("night", "morning", "afternoon", "evening")  # six hours each
DEVICES = ("desktop", "phone", "tablet", "tv")
TOPICS = (
    "archery", "baking", "birds", "camping", "chess", "cinema", "climbing", "comics",
    "cycling", "dance", "fishing", "garden", "guitar", "history", "jazz", "knitting",
    "opera", "painting", "poker", "pottery", "racing", "rowing", "sailing", "theatre",
)  # fmt: skip


def examination(place: NDArray[np.int64], bias: float) -> NDArray[np.float64]:
    """Probability that a user looks at a place of a list, counted from 0."""
    return (1.0 + np.asarray(place, np.float64)) ** -bias


def attraction(utility: Floats, offset: float) -> NDArray[np.float64]:
    """Probability that a user clicks an item that the user looks at."""
    return 1.0 / (1.0 + np.exp(-(np.asarray(utility, np.float64) + offset)))


@dataclass(frozen=True)
class Catalogue:
    """Items, in the order of their launch; N items, D latent dimensions.

    Attributes:
        topic_N: Row in TOPICS.
        latent_ND: The item as a vector, of length about 1.
        popularity_N: The part of an item's utility that is the same for everybody.
        price_N: The price. It follows the first latent dimension, with noise.
        titles: Words of the topic, and words for the dimensions in which the item differs most from its topic.
        launch_us_N: When the item was launched.
        withdrawn_us_N: When the item was withdrawn; the largest int64 if it stays.
    """

    topic_N: Ints
    latent_ND: Floats
    popularity_N: Floats
    price_N: NDArray[np.float64]
    titles: list[str]
    launch_us_N: Ints
    withdrawn_us_N: Ints

    def live(self, time_us: int) -> NDArray[np.bool_]:
        """Which items are there at a moment."""
        return (self.launch_us_N <= time_us) & (time_us < self.withdrawn_us_N)


@dataclass(frozen=True)
class Forces:
    """What changes the utilities of whole topics; K topics.

    Attributes:
        centre_KD: The typical item of a topic, of unit length.
        part_of_day_4K: Change of utility by part of the day (UTC).
        device_4K: Change of utility by device.
        season_K: Day of the year at which a topic is wanted most, as an angle.
        next_K: The topic to which a choice can move the mood.
    """

    centre_KD: Floats
    part_of_day_4K: Floats
    device_4K: Floats
    season_K: NDArray[np.float64]
    next_K: Ints

    def of_request(self, time_us: int, device: int) -> Floats:
        """[K], the sum of season and context."""
        day = time_us / DAY_US
        part = int(day % 1 * 4)
        season_K = 0.5 * np.cos(2 * np.pi * day / 365.25 - self.season_K)
        boost_K: Floats = (season_K + self.part_of_day_4K[part] + self.device_4K[device]).astype(np.float32)
        return boost_K


def make_forces(random: np.random.Generator, dim: int) -> Forces:
    """Draws the topics of a world."""
    count = len(TOPICS)
    centre_KD = random.standard_normal((count, dim))
    centre_KD /= np.linalg.norm(centre_KD, axis=1, keepdims=True)
    turn_K = random.permutation(count)
    next_K = np.empty(count, np.int64)
    next_K[turn_K] = np.roll(turn_K, -1)  # one ring through all topics, so no topic is followed by itself
    return Forces(
        centre_KD=centre_KD.astype(np.float32),
        part_of_day_4K=(0.4 * random.standard_normal((4, count))).astype(np.float32),
        device_4K=(0.3 * random.standard_normal((4, count))).astype(np.float32),
        season_K=random.uniform(0, 2 * np.pi, count),
        next_K=next_K,
    )


def make_catalogue(
    random: np.random.Generator,
    forces: Forces,
    *,
    items: int,
    new_share: float,
    withdrawn_share: float,
    zipf: float,
    start_us: int,
    end_us: int,
    open_book: bool = True,
) -> Catalogue:
    """Draws the items of a world. `open_book`: title and price say what an item is; else they say its topic alone."""
    count, dim = forces.centre_KD.shape
    share_K = random.permutation(1.0 / np.sqrt(np.arange(1, count + 1)))
    topic_N = random.choice(count, items, p=share_K / share_K.sum())
    own_ND = random.standard_normal((items, dim)) / np.sqrt(dim)
    of_topic, of_item = (0.8, 0.6) if open_book else (0.4, 0.9)
    latent_ND = of_topic * forces.centre_KD[topic_N] + of_item * own_ND
    rank_N = random.permutation(items) + 1
    first = items - round(items * new_share)  # the others are launched later
    later = start_us + (np.sort(random.uniform(0.02, 0.97, items - first)) * (end_us - start_us)).astype(np.int64)
    launch_us_N = np.concatenate([np.full(first, start_us), later])
    withdrawn_us_N = np.full(items, np.iinfo(np.int64).max)
    gone = random.choice(items, round(items * withdrawn_share), replace=False)
    room = end_us - launch_us_N[gone]
    withdrawn_us_N[gone] = launch_us_N[gone] + (random.uniform(0.2, 0.98, len(gone)) * room).astype(np.int64)
    # Where an item hides what it is, it shows the title and the price of some other item of its topic.
    shown_ND = own_ND if open_book else random.standard_normal((items, dim)) / np.sqrt(dim)
    first_N = latent_ND[:, 0] if open_book else shown_ND[:, 0]
    price_N = np.exp(3.0 + 2.0 * first_N + 0.2 * random.standard_normal(items))
    return Catalogue(
        topic_N=topic_N,
        latent_ND=latent_ND.astype(np.float32),
        popularity_N=(-zipf * (np.log(rank_N) - np.log(np.arange(1, items + 1)).mean())).astype(np.float32),
        price_N=np.round(price_N, 2),
        titles=_titles(random, topic_N, shown_ND),
        launch_us_N=launch_us_N,
        withdrawn_us_N=withdrawn_us_N,
    )


def _titles(random: np.random.Generator, topic_N: Ints, own_ND: NDArray[np.float64]) -> list[str]:
    """Two words of the topic, and one for each of the two dimensions in which the item differs most from its topic."""
    words = _words(random, 8 * len(TOPICS) + 2 * own_ND.shape[1])
    of_topic = [words[8 * topic : 8 * topic + 8] for topic in range(len(TOPICS))]
    of_style = words[8 * len(TOPICS) :]
    titles = []
    for topic, own_D in zip(topic_N.tolist(), own_ND, strict=True):
        first, second = random.choice(8, 2, replace=False).tolist()
        strongest = np.argsort(-np.abs(own_D))[:2]
        styles = [of_style[2 * int(place) + int(own_D[place] > 0)] for place in strongest]
        titles.append(" ".join([*styles, of_topic[topic][first], of_topic[topic][second]]))
    return titles


def _words(random: np.random.Generator, count: int) -> list[str]:
    """Distinct words that can be pronounced."""
    syllables = [consonant + vowel for consonant in "bdfgklmnprstvz" for vowel in "aeiou"]
    words: dict[str, None] = {}
    while len(words) < count:
        words["".join(random.choice(syllables, 3).tolist())] = None
    return list(words)

"""The users of a simulated world, and when each of them asks.

It knows nothing of items or lists.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recdistill.data.simulated.settings import SimulatorSettings
from recdistill.data.simulated.world import DAY_US, DEVICES, HOUR_US, MINUTE_US, TOPICS, Floats, Forces, Ints
from recdistill.errors import ConfigError

_HOUR_SHARE = np.repeat((0.4, 1.0, 1.2, 2.0), 6) / 27.6  # share of requests in each hour; the evening has the most


@dataclass
class Users:
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


def make_users(settings: SimulatorSettings, start_us: int, random: np.random.Generator) -> Users:
    """Draws the users; some of them arrive later."""
    count = settings.users
    arriving = random.random(count) < settings.new_users
    arrival_U = np.where(arriving, np.floor(random.uniform(0, 0.95 * settings.days, count)), 0.0)
    interests_UM = np.argsort(random.random((count, len(TOPICS))), axis=1)[:, :3]
    return Users(
        interests_UM=interests_UM,
        weights_UM=random.dirichlet((2.0, 2.0, 2.0), count),
        quirk_UD=random.standard_normal((count, settings.dim)) / np.sqrt(settings.dim),
        mood_U=interests_UM[:, 0].copy(),
        device_U=random.integers(len(DEVICES), size=count),
        arrival_day_U=arrival_U,
        last_us_U=start_us + (arrival_U * DAY_US).astype(np.int64),
    )


def make_calendar(
    users: Users, settings: SimulatorSettings, start_us: int, random: np.random.Generator
) -> tuple[Ints, Ints]:
    """Users and times of all requests, in the order of time. A user has at most one request in an hour."""
    days, count = settings.days, settings.impressions
    arrival_U = users.arrival_day_U
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
    time_us_I = start_us + slot_I * HOUR_US + random.integers(5 * MINUTE_US, size=count)
    order = np.lexsort((user_I, time_us_I))
    return user_I[order], time_us_I[order]

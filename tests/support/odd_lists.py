"""What can be wrong, or only odd, with an impression on the wire: for tests of all that reads one.

The impression is shown at time 300. It has four events and four candidates at least: `item-0`, `item-1` and so on.

It knows nothing of who reads it.

Example:
    >>> one = wire.Impression(time_us=5)
    >>> EDITS["time below 0"](one); one.time_us
    -1
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final

from recdistill._wire import records_pb2 as wire

EDITS: Final[dict[str, Callable[[Any], object]]] = {
    "time below 0": lambda one: setattr(one, "time_us", -1),
    "event below 0": lambda one: setattr(one.history[1], "time_us", -5),
    "event too late": lambda one: setattr(one.history[3], "time_us", 301),
    "event in another order": lambda one: setattr(one.history[1], "time_us", 201),
    "event without item": lambda one: setattr(one.history[1], "item", ""),
    "event with NUL": lambda one: setattr(one.history[1], "item", "a\0b"),
    "action with NUL": lambda one: setattr(one.history[1], "action", "\0"),
    "action too long": lambda one: setattr(one.history[1], "action", "x" * 513),
    "candidate twice": lambda one: setattr(one.candidates[1], "item", "item-0"),
    "candidate empty": lambda one: setattr(one.candidates[1], "item", ""),
    "candidate with NUL": lambda one: setattr(one.candidates[1], "item", "a\n\0b"),
    "candidate too long": lambda one: setattr(one.candidates[1], "item", "x" * 513),
    "candidate of 512 wide letters": lambda one: setattr(one.candidates[1], "item", "日" * 512),
    "candidate very long": lambda one: setattr(one.candidates[1], "item", "x" * 20_000),
    "candidate excluded": lambda one: one.exclude.append("item-3"),
    "score not finite": lambda one: setattr(one.candidates[1], "logged_score", math.inf),
    "propensity 0": lambda one: setattr(one.candidates[1], "propensity", 0),
    "propensity nan": lambda one: setattr(one.candidates[1], "propensity", math.nan),
    "origin unknown": lambda one: setattr(one, "origin", 4),
    "no user": lambda one: setattr(one, "user", ""),
    "no id": lambda one: setattr(one, "id", ""),
    "context without value": lambda one: one.context["k"].SetInParent(),
    "context not finite": lambda one: setattr(one.context["k"], "number", math.inf),
    "served by too long": lambda one: setattr(one, "served_by", "x" * 513),
    "exclude empty": lambda one: one.exclude.append(""),
    "too many events": lambda one: one.history.extend([wire.Event(item="a")] * 10_001),
    "origin below 0": lambda one: setattr(one, "origin", -1),
}

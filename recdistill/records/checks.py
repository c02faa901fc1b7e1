"""The rules for records. They are the same when a record is read and when it is written.

A check first tests the whole list at once, which is fast. Only if that fails, it looks for the wrong member
and names it.

It knows nothing of the wire, or of which items exist.

Example:
    >>> check_history([Event("a", 7), Event("b", 3)], 9)
    Traceback (most recent call last):
    recdistill.records.checks.Invalid: history is not oldest first: 3 comes after 7
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, cast

from recdistill.errors import DataError
from recdistill.limits import (
    MAX_CANDIDATES,
    MAX_EXCLUDE,
    MAX_FIELDS,
    MAX_FLOAT,
    MAX_HISTORY,
    MAX_ID,
    MAX_LABEL,
    MAX_SCORE,
    MAX_TEXT,
    MAX_TIME_US,
    MAX_VALUE,
    MAX_VALUES,
    MIN_CHANCE,
)
from recdistill.records.structs import Event, Example, Feedback, Impression, Item, Ranking, Value


class Invalid(DataError):
    """A rule that a record breaks.

    Args:
        sentence: What is wrong, with the name of the field in it.
        field: Path of the field (`history[3].item`); empty for the whole record.
    """

    def __init__(self, sentence: str, field: str = "") -> None:
        super().__init__(sentence)
        self.field = field

    @property
    def problem(self) -> str:
        """What is wrong, without the name of the field at the start of the sentence."""
        return str(self).removeprefix(f"{self.field} ")


def _check_ids(ids: Sequence[str], name: Callable[[int], str], field: str = "") -> None:
    """Ids are 1 to 512 characters, without NUL, and can be written as UTF-8. `name` is asked only when one is wrong.

    `field` is the path to report, where `name` gives words and not a path.
    """
    if not ids:
        return
    joined = "".join(ids)
    short = len(joined) <= MAX_ID or max(map(len, ids)) <= MAX_ID
    if short and all(ids) and "\0" not in joined and _is_utf8(joined):
        return
    for index, text in enumerate(ids):
        if not text:
            raise Invalid(f"{name(index)} is empty", field or name(index))
        if len(text) > MAX_ID:
            raise Invalid(f"{name(index)} has {len(text)} characters, more than {MAX_ID}", field or name(index))
        if "\0" in text or not _is_utf8(text):
            raise Invalid(f"{name(index)} holds a NUL or half a surrogate pair", field or name(index))


def _is_utf8(text: str) -> bool:
    if text.isascii():  # Python knows this of each string, so it is fast
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _check_id(text: str, name: str) -> None:
    _check_ids((text,), lambda _: name)


def _check_text(text: str, name: str, most: int) -> None:
    if len(text) > most:
        raise Invalid(f"{name} has {len(text)} characters, more than {most}", name)
    if not _is_utf8(text):
        raise Invalid(f"{name} holds half a surrogate pair", name)


def _check_count(count: int, most: int, name: str) -> None:
    if count > most:
        raise Invalid(f"{name} has {count} entries, more than {most}", name)


def _check_floats(values: Sequence[float], name: str, most: float = MAX_FLOAT) -> None:
    if not values or (math.isfinite(sum(values)) and max(values) <= most and min(values) >= -most):
        return
    for index, number in enumerate(values):
        if not -most <= number <= most:  # false for NaN too
            raise Invalid(f"{name}[{index}] is {number}, {_bounds(most)}", f"{name}[{index}]")


def _bounds(most: float) -> str:
    return "not a finite 32-bit number" if most == MAX_FLOAT else f"not a number between -{most:,.0f} and {most:,.0f}"


def _check_chances(chances: Sequence[float], name: str) -> None:
    if not chances or (min(chances) >= MIN_CHANCE and max(chances) <= 1 and math.isfinite(sum(chances))):
        return
    wrong = next((chance for chance in chances if not MIN_CHANCE <= chance <= 1), math.nan)
    if 0 < wrong < MIN_CHANCE:
        raise Invalid(f"{name} is {wrong}, too small for a probability: the least is {MIN_CHANCE:.1e}")
    raise Invalid(f"{name} is {wrong}, not above 0 and at most 1")


def _check_time(time_us: int, name: str, field: str = "") -> None:
    if not 0 <= time_us <= MAX_TIME_US:
        raise Invalid(f"{name} is {time_us}, not microseconds between 1970 and the year 9999", field or name)


def check_values(values: Mapping[str, Value], name: str) -> None:
    """Checks attributes or a context. A request over HTTP is checked in the same way as a record.

    Raises:
        Invalid: Naming the field.
    """
    if not values:
        return
    _check_count(len(values), MAX_FIELDS, name)
    _check_ids(list(values), lambda _: f"a field name of {name}", name)
    untyped: Mapping[str, Any] = values  # a value from outside may have another type than declared
    for key, value in untyped.items():
        if isinstance(value, str):
            _check_text(value, f"{name}.{key}", MAX_TEXT)
        elif isinstance(value, list):
            _check_count(len(value), MAX_VALUES, f"{name}.{key}")
            if all(isinstance(member, str) for member in value):
                for member in cast("list[str]", value):
                    _check_text(member, f"{name}.{key}", MAX_TEXT)
            elif all(isinstance(member, float | int) and not isinstance(member, bool) for member in value):
                _check_floats(cast("list[float]", value), f"{name}.{key}")
            else:
                raise Invalid(f"{name}.{key} mixes texts and numbers in one list", f"{name}.{key}")
        elif not isinstance(value, float | int):
            kind = type(value).__name__
            raise Invalid(
                f"{name}.{key} is a {kind}, not a text, number, flag or list of texts or numbers", f"{name}.{key}"
            )
        elif not math.isfinite(value):
            raise Invalid(f"{name}.{key} is {value}, not a finite number", f"{name}.{key}")


def check_history(history: Sequence[Event], time_us: int, name: str = "history") -> None:
    """Checks a history. A request over HTTP is checked in the same way as a record.

    Args:
        history: Its events.
        time_us: The time of the request; 0: unknown.
        name: What the history is called.

    Raises:
        Invalid: Naming the event.
    """
    if not history:
        return
    _check_count(len(history), MAX_HISTORY, name)
    _check_ids([event.item for event in history], lambda index: f"{name}[{index}].item")
    actions = {event.action for event in history} - {""}
    if actions:
        _check_ids(list(actions), lambda _: f"an action of {name}", name)
    times = [event.time_us for event in history]
    if not isinstance(sum(times), int):  # 1.0 equals 1, so a test for equality would not find it
        raise Invalid(f"a time_us of {name} is not a whole number", name)
    known = times if all(times) else [time for time in times if time]
    if not known:
        return
    if known != sorted(known):
        index = next(index for index in range(1, len(known)) if known[index] < known[index - 1])
        raise Invalid(f"{name} is not oldest first: {known[index]} comes after {known[index - 1]}", name)
    _check_time(known[0], f"the oldest time_us of {name}", name)
    _check_time(known[-1], f"the newest time_us of {name}", name)
    if time_us and known[-1] > time_us:
        raise Invalid(f"{name} has an event at {known[-1]}, later than its request at {time_us}", name)


def _check_item(item: Item) -> None:
    _check_id(item.id, "id")
    if not 0 <= item.version < 1 << 63:
        raise Invalid(f"version is {item.version}, not between 0 and 2^63 - 1")
    _check_time(item.time_us, "time_us")
    check_values(item.attributes, "attributes")


def _check_impression(impression: Impression) -> None:
    _check_id(impression.id, "id")
    _check_time(impression.time_us, "time_us")
    if impression.user is not None:
        _check_id(impression.user, "user")
    _check_text(impression.served_by, "served_by", MAX_ID)
    check_history(impression.history, impression.time_us)
    check_values(impression.context, "context")
    candidates = impression.candidates
    _check_count(len(candidates), MAX_CANDIDATES, "candidates")
    items = [candidate.item for candidate in candidates]
    _check_ids(items, lambda index: f"candidates[{index}].item")
    different = set(items)
    if len(different) != len(items):
        seen: set[str] = set()
        twice = next(item for item in items if item in seen or seen.add(item))  # type: ignore[func-returns-value]
        raise Invalid(f"candidates hold {twice!r} twice")
    _check_floats(
        [score for one in candidates if (score := one.logged_score) is not None],
        "logged_score of candidates",
        MAX_SCORE,
    )
    _check_chances([p for one in candidates if (p := one.propensity) is not None], "a propensity of candidates")
    if impression.exclude:
        _check_count(len(impression.exclude), MAX_EXCLUDE, "exclude")
        _check_ids(impression.exclude, lambda index: f"exclude[{index}]")
        if not different.isdisjoint(impression.exclude):
            both = next(item for item in impression.exclude if item in different)
            raise Invalid(f"{both!r} is both in exclude and in candidates")


def _check_ranking(ranking: Ranking) -> None:
    _check_impression(ranking.impression)
    check_scores(ranking)


def check_scores(ranking: Ranking) -> None:
    """Checks all fields of a ranking except its impression."""
    _check_id(ranking.teacher_id, "teacher_id")
    _check_id(ranking.teacher_version, "teacher_version")
    count = len(ranking.impression.candidates)
    if len(ranking.scores) != count or len(ranking.scored) != count:
        raise Invalid(f"{len(ranking.scores)} scores and {len(ranking.scored)} marks in scored for {count} candidates")
    _check_floats(ranking.scores, "scores", MAX_SCORE)
    _check_time(ranking.scored_at_us, "scored_at_us")
    if not 0 <= ranking.catalogue_as_of < 1 << 63:
        raise Invalid(f"catalogue_as_of is {ranking.catalogue_as_of}, not an offset")
    _check_chances((ranking.sampled,), "sampled")
    if ranking.candidates_sampled:
        if len(ranking.candidates_sampled) != count:
            raise Invalid(f"{len(ranking.candidates_sampled)} entries in candidates_sampled for {count} candidates")
        _check_chances(ranking.candidates_sampled, "an entry of candidates_sampled")
    agreement = ranking.self_agreement
    if agreement is not None and not -1 <= agreement <= 1:
        raise Invalid(f"self_agreement is {agreement}, not between -1 and 1")


def _check_feedback(feedback: Feedback) -> None:
    for name in ("id", "impression_id", "item", "action"):
        _check_id(getattr(feedback, name), name)
    if not -MAX_VALUE <= feedback.value <= MAX_VALUE:
        raise Invalid(f"value is {feedback.value}, {_bounds(MAX_VALUE)}")
    _check_time(feedback.time_us, "time_us")


def _check_example(example: Example) -> None:
    _check_ranking(example.ranking)
    check_labels(example)


def check_labels(example: Example) -> None:
    """Checks all fields of an example except its ranking."""
    count = len(example.ranking.impression.candidates)
    if len(example.labels) != count:
        raise Invalid(f"{len(example.labels)} labels for {count} candidates")
    _check_floats(example.labels, "labels", MAX_LABEL)
    if example.labels and min(example.labels) < 0:
        raise Invalid(f"a label is {min(example.labels)}, below 0")


CHECKS: Final[dict[type[Any], Callable[[Any], None]]] = {
    Item: _check_item,
    Impression: _check_impression,
    Ranking: _check_ranking,
    Feedback: _check_feedback,
    Example: _check_example,
}

"""Says so when a drained run made nothing: one sentence with the likely cause and the next command, and exit code 8.

A run that has nothing new to do is no fault. A run that read lists and made nothing of them is one, and so is a run on
topics that were always empty: otherwise the next step would fail, with a sentence that cannot know why.

It knows nothing of how a loop works: it reads counts and the log.

Example:
    >>> Found({"rankings": 0}).empty("rankings")
    True
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from recdistill.errors import DecodeError, NothingMade
from recdistill.text import cut

if TYPE_CHECKING:
    from recdistill.config import Settings
    from recdistill.records import Record
    from recdistill.stream import Log

FEW: Final = 10
"""Fewer feedback than this says nothing."""


class Found(NamedTuple):
    """How many offsets each topic holds, by its name."""

    held: Mapping[str, int]

    def empty(self, topic: str) -> bool:
        """Whether nothing is there."""
        return not self.held.get(topic)


Check = Callable[["Settings", "Log", Counter[str], Found], str | None]


def check(job: str, settings: Settings, counts: Counter[str]) -> None:
    """Looks at what a drained run has made.

    Args:
        job: Key of `recdistill.loops.wire.JOBS`.
        settings: Of the run.
        counts: What it counted.

    Raises:
        NothingMade: It made nothing, though there was something to do; or there is nothing at all.
    """
    from recdistill.stream import open_log

    if (look := CHECKS.get(job)) is None:
        return
    with closing(open_log(settings.log)) as log:
        if why := look(settings, log, counts, Found(_held(log))):
            raise NothingMade(why)


def _score(_settings: Settings, _log: Log, counts: Counter[str], found: Found) -> str | None:
    if not counts["impressions"]:
        return (
            "nothing was scored: the topic impressions is empty; write your lists there, for instance with "
            "`recdistill import lists.jsonl --kind impressions`"
            if found.empty("impressions")
            else None
        )
    if not counts["rankings"]:
        return (
            f"nothing was scored: all {counts['impressions']:,} impressions went to the dead letters; "
            "`recdistill inspect dead-letters --from-end -n 1` says why"
        )
    return None


def _join(settings: Settings, log: Log, counts: Counter[str], found: Found) -> str | None:
    if found.empty("rankings"):
        return "nothing was joined: the topic rankings is empty; score first, with `recdistill score --drain`"
    if not counts["closed"] and not counts["examples"]:
        return (
            f"nothing was joined: all {counts['open']:,} lists are still open, since no record is "
            f"{settings.join.window_s:g} s newer (join.window_s); if no more will come, `recdistill join --flush` "
            "closes them"
            if counts["open"] and found.empty("examples")
            else None
        )
    if not counts["closed"]:  # scores are examples already, and labels come later
        return None
    if counts["labelled"] or counts["feedback"] < FEW:
        return None
    feedback, labels = (
        f"{counts['feedback']:,} records of feedback",
        ", ".join(sorted(name for name, weight in settings.join.labels.items() if weight)),
    )
    causes = {
        "unlabelled_action": f"their action is not in join.labels ({labels}): it is "
        f"{_some(log, 'feedback', 'action')}, so give it a weight, as in --set join.labels.ACTION=1",
        "outside_the_list": f"their item is not in the list that they name, as with {_some(log, 'feedback', 'item')}: "
        "is it the same kind of id as in the lists?",
        "late": f"they came later than join.window_s = {settings.join.window_s:g} s after their list: are both times "
        "in the same unit? Then raise the window",
        "": f"they name lists that nobody ranked: feedback names {_some(log, 'feedback', 'impression_id')}, lists are "
        f"called {_some(log, 'rankings', 'impression.id')}",
    }
    named = {cause: counts[cause] for cause in causes if cause}
    likely = max(named, key=lambda cause: named[cause])
    if likely == "late" or 2 * named[likely] < counts["feedback"]:
        # Feedback that names no list waits for one, and is late in the end.
        likely = "late" if _meet(log) else ""
    return f"no list has a label: of {feedback}, most meet nothing, because {causes[likely]}"


def _distil(settings: Settings, log: Log, counts: Counter[str], found: Found) -> str | None:
    from recdistill.bundle import made

    folder = Path(settings.distil.directory)
    if counts["steps"] and (not counts["known"] or not made(folder / "bundles")):
        return (
            f"nothing was learnt from {counts['examples']:,} examples: {_unknown(log, counts, found)}; then remove "
            f"{folder} and distil again"
        )
    if not counts["steps"] and not made(folder / "bundles"):
        return (
            "nothing was learnt: the topic examples is empty; join first, with `recdistill join --drain`"
            if found.empty("examples")
            else f"nothing was learnt, and {folder} holds no bundle: {_unknown(log, counts, found)}; then remove "
            f"{folder} and distil again"
        )
    return None


def _unknown(log: Log, counts: Counter[str], found: Found) -> str:
    """Why no candidate is in the catalogue."""
    from recdistill.records import Item

    if found.empty("items"):
        return (
            "the topic items is empty, so there is nothing to recommend. A list is learnt with the catalogue that its "
            "scorer had seen, so into a new log (log.path or log.prefix) import the items first, then the lists"
        )
    items = [one for one in _records(log, "items") if isinstance(one, Item)]
    if not items:
        return "no record of items can be read; `recdistill inspect dead-letters --from-end -n 1` says why"
    if not counts["items"] and counts["dead_letters"]:
        return (
            f"all {counts['dead_letters']:,} records of items were refused; "
            "`recdistill inspect dead-letters --from-end -n 1` says why; mend the feature specification or the items"
        )
    if not counts["items"]:
        return (
            f"the log holds items, but the lists were scored before the first of them (their catalogue_as_of is "
            f"{_some(log, 'examples', 'ranking.catalogue_as_of', quoted=False)}). Into a new log (log.path or "
            "log.prefix) import the items first, then the lists; imported examples and rankings need the field "
            "catalogue_as_of"
        )
    if all(item.withdrawn for item in items):
        return "all items are withdrawn, so nothing can be recommended; write newer records of them that are not"
    return (
        f"none of {counts['unknown']:,} candidates and events is an item of the catalogue: lists name "
        f"{_some(log, 'examples', 'ranking.impression.candidates.0.item')}, items are called "
        f"{_some(log, 'items', 'id')}; give both the same ids"
    )


CHECKS: Final[dict[str, Check]] = {"scorer": _score, "joiner": _join, "distiller": _distil}


def _held(log: Log) -> dict[str, int]:
    topics = log.topics()
    held: Counter[str] = Counter()
    with closing(log.source(sorted(topics))) as source:
        for tp in source.position():
            beginning, end = source.bounds(tp)
            held[tp.topic] += end - beginning
    return held


def _records(log: Log, topic: str, most: int = 200) -> list[Record]:
    """The first records of a topic that decode."""
    from recdistill.loops import inspect
    from recdistill.records import TOPICS, decode

    found: list[Record] = []
    for message in inspect.look(log, topic, most):
        try:
            found.append(decode(TOPICS[topic], message.value))
        except DecodeError:
            continue
    return found


def _some(log: Log, topic: str, path: str, *, quoted: bool = True) -> str:
    """What a field of the first record holds."""
    value: object = next(iter(_records(log, topic, 20)), None)
    for part in path.split("."):
        if isinstance(value, tuple):
            value = value[int(part)] if len(value) > int(part) else None
        else:
            value = getattr(value, part, None)
    text = cut(str(value), 60)
    return repr(text) if quoted else text


def _meet(log: Log) -> bool:
    """Whether some feedback names a list that was ranked."""
    named = {getattr(one, "impression_id", None) for one in _records(log, "feedback", 2000)}
    return any(one.impression.id in named for one in _records(log, "rankings", 2000))  # type: ignore[union-attr]

"""Writes a data set into the log, whole and once, and says what became of its rows: for `simulate` and `import`.

It knows nothing of the form of tables or worlds; `recdistill.data` does.
"""

from __future__ import annotations

import argparse
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from recdistill.commands.verb import Bar, counted, show, stopping
from recdistill.errors import Interrupted, StreamError, UsageError

if TYPE_CHECKING:
    from recdistill.config import Settings
    from recdistill.data import Dataset, mapping, retrieval
    from recdistill.loops import feed
    from recdistill.records import Encoded, Item
    from recdistill.stream import Log


# Writing


def must_be_there(log: Log) -> None:
    """Refuses a log without topics.

    Raises:
        StreamError: A topic is missing.
    """
    from recdistill.stream import CHECKS, HELD_OUT, LEDGER, standard_topics

    # A log of an older version has no `checks` and no `held-out`. Scorer and joiner go on without them.
    if missing := sorted(set(standard_topics()) - {CHECKS.topic, HELD_OUT.topic, LEDGER.topic} - set(log.topics())):
        raise StreamError(f"the log has no topic {missing[0]!r}; make the topics with `recdistill topics create`")


def surveyed(records: Iterable[Encoded], stop: threading.Event, bar: Bar) -> feed.Whole:
    """What a set of records is, for `write_once`.

    Raises:
        Interrupted: It was stopped.
    """
    from recdistill.loops import feed

    whole = feed.survey(records, stop=stop, progress=bar)
    if whole is None:
        raise Interrupted("stopped while the records were checked; nothing was written")
    return whole


def write_once(
    args: argparse.Namespace, log: Log, records: Iterable[Encoded], whole: feed.Whole, stop: threading.Event
) -> feed.Fed:
    """Writes those of the records that are not there yet.

    Raises:
        Interrupted: It was stopped. The same call goes on.
    """
    from recdistill.loops import feed

    with Bar("write", args) as bar:
        fed = feed.feed_once(log, records, whole, again=args.again, stop=stop, progress=bar)
    if fed.stopped:
        done = fed.before + fed.counts.total()
        raise Interrupted(
            f"stopped: {done:,} of {whole.records:,} records are in the log; the same command writes the rest"
        )
    return fed


def write_items(args: argparse.Namespace, log: Log, items: Sequence[Item], stop: threading.Event) -> Counter[str]:
    """Writes items that the log does not have, as a set of their own.

    So the lists that come with them are the same set whatever the log holds, and are found again after a kill.
    """
    from recdistill.records import encoded

    bare = [encoded(item) for item in items]
    return write_once(args, log, bare, surveyed(bare, stop, Bar("check", args)), stop).counts


def told(args: argparse.Namespace, said: Iterable[str]) -> None:
    """Says on stderr what was guessed."""
    if not args.quiet:
        for line in said:
            print(line, file=sys.stderr)


def written(counts: Counter[str], before: int, records: int, nothing: str) -> str:
    """What an import wrote, for people."""
    if records and before == records and not counts:
        return f"nothing was written: all {records:,} records are in the log already; --again writes them once more"
    there = f" ({before:,} records were there already)" if before else ""
    return counted(counts, nothing) + there


# Data sets


def feed_dataset(
    args: argparse.Namespace,
    settings: Settings,
    make: Callable[[], Dataset],
) -> int:
    """Writes a data set in the order of its time. Writes its feature specification too, if there is none yet.

    Args:
        args: The call. With `check` nothing is written.
        settings: Its settings.
        make: Makes the data set.
    """
    from recdistill.data import spool
    from recdistill.records import encoded
    from recdistill.stream import open_log

    if getattr(args, "check", False):
        return _only_checked(args, settings, make())
    with stopping() as stop, closing(open_log(settings.log)) as log, spool.Spool(by_time=False) as records:
        must_be_there(log)
        dataset = make()
        with Bar("check", args) as bar:
            records.fill(map(encoded, dataset.timeline()), stop=stop, progress=bar)
            whole = surveyed(records, stop, bar)
        fed = write_once(args, log, records, whole, stop)
    return _done(args, settings, dataset, fed.counts, written(fed.counts, fed.before, whole.records, "nothing"), fed)


def feed_events(
    args: argparse.Namespace,
    settings: Settings,
    paths: Sequence[Path],
    columns: mapping.TableMapping | None,
    *,
    earlier: Sequence[Path] = (),
) -> int:
    """Makes lists from tables of events and writes them. Items that the log has keep their attributes."""
    from recdistill.data import events, spool
    from recdistill.loops import known
    from recdistill.records import encoded
    from recdistill.stream import open_log

    said: list[str] = []
    chosen = settings.interactions

    def make(held: Sequence[Item]) -> Dataset:
        return events.import_interactions(
            paths,
            columns,
            earlier=earlier,
            known=held,
            mix=mix_of(settings),
            history=chosen.history,
            min_history=chosen.min_history,
            seed=args.seed,
            said=said.append,
        )

    if args.check:
        found = make([])
        told(args, said)
        return _only_checked(args, settings, found)
    with stopping() as stop, closing(open_log(settings.log)) as log, spool.Spool(by_time=False) as records:
        must_be_there(log)
        dataset = make(list(known.items_of(log).values()))
        told(args, said)
        lists = replace(dataset, items=[])
        with Bar("check", args) as bar:
            records.fill(map(encoded, lists.timeline()), stop=stop, progress=bar)
            whole = surveyed(records, stop, bar)
        counts = write_items(args, log, dataset.items, stop)
        fed = write_once(args, log, records, whole, stop)
    counts += fed.counts
    return _done(args, settings, dataset, counts, written(counts, fed.before, whole.records, "nothing"), fed)


def mix_of(settings: Settings) -> retrieval.Mix:
    """Which candidates a made list has, by the section `[interactions]`."""
    from recdistill.data import retrieval

    chosen = settings.interactions
    return retrieval.Mix(
        length=chosen.length,
        popular=int(chosen.length * chosen.popular),
        covisited=int(chosen.length * chosen.covisited),
    )


def _done(
    args: argparse.Namespace,
    settings: Settings,
    dataset: Dataset,
    counts: Counter[str],
    first: str,
    fed: feed.Fed,
) -> int:
    """Says what was written, what became of the events, and what to add to settings and specification."""
    wrote = _write_spec(settings, dataset)
    text = [first, *_became(dataset, settings)]
    if wrote:
        text.append(f"the feature specification is in {settings.features.file}")
    else:
        text += _unnamed_actions(settings, dataset)
    missing = {name: weight for name, weight in dataset.labels.items() if name not in settings.join.labels}
    if missing:
        labels = ", ".join(f"join.labels.{name} = {weight:g}" for name, weight in missing.items())
        text.append(f"add this to your settings, so that feedback gives labels: {labels}")
    shown = {
        **counts,
        "before": fed.before,
        "stopped": False,
        "features_written": wrote,
        "labels": dict(dataset.labels),
        "left_out": dict(dataset.left_out),
    }
    show(args, shown, "\n".join(text))
    return 0


def _only_checked(args: argparse.Namespace, settings: Settings, found: Dataset) -> int:
    figures = {"items": len(found.items), "impressions": len(found.impressions), "feedback": len(found.feedback)}
    text = [f"{counted(figures, 'nothing')} would be written; nothing was", *_became(found, settings)]
    show(args, {"checked": figures, "left_out": dict(found.left_out)}, "\n".join(text))
    return 0


def _became(dataset: Dataset, settings: Settings) -> list[str]:
    """What became of the events: how many made a list, and why the others made none."""
    if not dataset.left_out:
        return []
    early, repeated = dataset.left_out["too early"], dataset.left_out["repeated"]
    made, least = len(dataset.impressions), settings.interactions.min_history
    lines = [f"{made + early + repeated:,} events made {made:,} lists; all of them are in histories"]
    for count, why in (
        (early, f"they are among the first {least} of their user (interactions.min_history)"),
        (repeated, "the user had had the item before, and such an item is not offered again"),
    ):
        lines += [f"  {count:,} made none: {why}"] if count else []
    return lines


def _write_spec(settings: Settings, dataset: Dataset) -> bool:
    from recdistill.data import written as texts

    path = Path(settings.features.file)
    if path.exists():
        print(f"{path} exists already and was not changed", file=sys.stderr)
        return False
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(texts.specification_text(dataset.spec), encoding="utf-8", errors="backslashreplace")
    except OSError as e:
        raise UsageError(f"{path}: cannot be written ({e.strerror}); set features.file to another place") from e
    return True


def _unnamed_actions(settings: Settings, dataset: Dataset) -> list[str]:
    from recdistill.commands.features import unnamed_actions
    from recdistill.features import FeatureSpec

    path = Path(settings.features.file)
    return unnamed_actions(path, FeatureSpec.load(path), set(dataset.spec.history.actions))

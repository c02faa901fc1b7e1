"""Writes a data set into the log, and says what became of its rows: for `simulate`, and for `import` of events.

It knows nothing of the form of tables or worlds; `recdistill.data` does.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from recdistill.commands.verb import Bar, counted, show, stopping
from recdistill.errors import StreamError, UsageError

if TYPE_CHECKING:
    from recdistill.config import Settings
    from recdistill.data import Dataset, mapping, retrieval
    from recdistill.records import Item, Record
    from recdistill.stream import Log

Known = dict[str, "Item"]


def must_be_there(log: Log) -> None:
    """Refuses a log without topics.

    Raises:
        StreamError: A topic is missing.
    """
    from recdistill.stream import standard_topics

    if missing := sorted(set(standard_topics()) - set(log.topics())):
        raise StreamError(f"the log has no topic {missing[0]!r}; make the topics with `recdistill topics create`")


def write(
    args: argparse.Namespace, log: Log, records: Iterable[Record], total: int | None
) -> tuple[Counter[str], bool]:
    """Writes records with a bar and a stop signal. Returns the counts, and whether it was stopped."""
    from recdistill.loops import feed

    with stopping() as stop, Bar("write", args) as bar:
        return feed.feed(log, records, stop=stop, total=total, progress=bar), stop.is_set()


def bring_events(
    args: argparse.Namespace,
    settings: Settings,
    paths: Sequence[Path],
    columns: mapping.TableMapping | None,
    *,
    earlier: Sequence[Path] = (),
) -> int:
    """Makes lists from tables of events and writes them. Items that the log has keep their attributes."""
    from recdistill.data import events

    chosen = settings.interactions

    def make(known: Known) -> Dataset:
        return events.import_interactions(
            paths,
            columns,
            earlier=earlier,
            known=list(known.values()),
            mix=mix_of(settings),
            history=chosen.history,
            min_history=chosen.min_history,
            seed=args.seed,
        )

    return bring(args, settings, make)


def mix_of(settings: Settings) -> retrieval.Mix:
    """Which candidates a made list has, by the section `[interactions]`."""
    from recdistill.data import retrieval

    chosen = settings.interactions
    return retrieval.Mix(
        length=chosen.length,
        popular=int(chosen.length * chosen.popular),
        covisited=int(chosen.length * chosen.covisited),
    )


def bring(args: argparse.Namespace, settings: Settings, make: Callable[[Known], Dataset]) -> int:
    """Writes a data set in the order of its time, and its feature specification, if there is none yet.

    Args:
        args: The call. With `check` nothing is written.
        settings: Everything.
        make: The items that the log has -> the data set.
    """
    from recdistill.loops import known as held
    from recdistill.stream import open_log

    if getattr(args, "check", False):
        return _only_checked(args, settings, make({}))
    with closing(open_log(settings.log)) as log:
        must_be_there(log)
        known = held.items_of(log)
        dataset = make(known)
        total = len(dataset.items) + len(dataset.impressions) + len(dataset.feedback)
        counts, stopped = write(args, log, dataset.timeline(), total)
    wrote = _write_spec(settings, dataset)
    text = [counted(counts, "nothing") + (" (stopped)" if stopped else "")]
    text += _became(dataset, settings)
    if left := len({item.id for item in dataset.items} & set(known)):
        text.append(f"{left:,} items were in the log already; the newer records hold")
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
        "stopped": stopped,
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
    import msgspec

    from recdistill.config import to_toml

    path = Path(settings.features.file)
    if path.exists():
        print(f"{path} exists already and was not changed", file=sys.stderr)
        return False
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(to_toml(msgspec.to_builtins(dataset.spec)) + "\n", encoding="utf-8")
    except OSError as e:
        raise UsageError(f"{path}: cannot be written ({e.strerror}); set features.file to another place") from e
    return True


def _unnamed_actions(settings: Settings, dataset: Dataset) -> list[str]:
    """A hint for actions that the specification does not name: a model cannot tell them apart."""
    from recdistill.features import FeatureSpec

    path = Path(settings.features.file)
    named = FeatureSpec.load(path).history.actions
    missing = [action for action in dataset.spec.history.actions if action not in named]
    if not missing:
        return []
    whole = ", ".join(f'"{action}"' for action in [*named, *missing])
    hint = (
        f"{path} does not name the action {', '.join(map(repr, missing))}, so a model does not see it in histories; "
        f"write there under [history]: actions = [{whole}]"
    )
    return [hint]

"""The feature specification of a verb: where the file is missing it is written from the log, and said aloud.

It knows nothing of how a specification is guessed (`recdistill.data.infer`).
"""

from __future__ import annotations

import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from recdistill.errors import DataError, UsageError

if TYPE_CHECKING:
    from recdistill.config import Settings
    from recdistill.features import FeatureSpec
    from recdistill.stream import Log

_LOOKED_AT = 2000
"""Lists and feedback that are looked at for contexts and actions."""


def specification(settings: Settings) -> FeatureSpec:
    """The specification of `features.file`. Without that file one is written from the log.

    It also says which actions of the log the specification does not name.

    Raises:
        ConfigError: The file is not right.
        DataError: There is no file, and the log holds nothing to write it from.
        UsageError: It cannot be written.
    """
    from recdistill.features import FeatureSpec

    path = Path(settings.features.file)
    if not path.exists():
        text = specification_of_log(settings)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8", errors="backslashreplace")
        except OSError as e:
            raise UsageError(f"{path}: cannot be written ({e.strerror}); set features.file to another place") from e
        print(f"{path} was not there; it was written from the records of the log. Look at it", file=sys.stderr)
        return FeatureSpec.load(path)
    spec = FeatureSpec.load(path)
    for line in unnamed_actions(path, spec, actions_of_log(settings)):
        print(line, file=sys.stderr)
    return spec


def unnamed_actions(path: Path, spec: FeatureSpec, actions: set[str]) -> list[str]:
    """A hint for actions that a specification does not name: a model cannot tell them apart."""
    named = spec.history.actions
    missing = sorted(actions - set(named))
    if not missing:
        return []
    whole = ", ".join(f'"{action}"' for action in [*named, *missing])
    hint = (
        f"{path} does not name the action {', '.join(map(repr, missing))}, so a model does not see what it is; "
        f"write there under [history]: actions = [{whole}]"
    )
    return [hint]


def actions_of_log(settings: Settings) -> set[str]:
    """The actions in the first histories of a log; empty where there is no log yet."""
    from recdistill.loops import known
    from recdistill.records import Impression
    from recdistill.stream import open_log

    if _no_log(settings):
        return set()
    with closing(open_log(settings.log)) as log:
        lists = known.first_of(log, "impressions", Impression, _LOOKED_AT) if "impressions" in log.topics() else []
    return {event.action for one in lists for event in one.history if event.action}


def specification_of_log(settings: Settings) -> str:
    """The text of a feature specification, from what the log holds.

    Raises:
        DataError: The log does not hold both items and lists.
    """
    from recdistill.stream import open_log

    if _no_log(settings):
        raise DataError(
            f"{settings.features.file}: there is no feature specification, and no log to guess one from; "
            "`recdistill init TABLE...` writes one from tables"
        )
    with closing(open_log(settings.log)) as log:
        return _guessed(log, settings.features.file)


def _guessed(log: Log, file: str) -> str:
    from recdistill.data import infer, written
    from recdistill.loops import known
    from recdistill.records import Feedback, Impression

    there = set(log.topics())
    items = known.items_of(log) if "items" in there else {}
    lists = known.first_of(log, "impressions", Impression, _LOOKED_AT) if "impressions" in there else []
    if not items or not lists:
        raise DataError(
            f"{file}: there is no feature specification, and the log holds {len(items):,} items and {len(lists):,} "
            "impressions, too little to guess one; import both, or let `recdistill init TABLE...` write it from tables"
        )
    told = {event.action for one in lists for event in one.history}
    actions = told - {""}
    if told != {""}:  # histories that never say what was done will not say it tomorrow
        actions |= {one.action for one in known.first_of(log, "feedback", Feedback, _LOOKED_AT)}
    spec = infer.infer_specification(
        list(items.values()),
        actions=sorted(actions),
        context=infer.fields_of([one.context for one in lists], context=True),
    )
    return written.specification_text(spec, why="It was guessed from the records of the log; change what is wrong.")


def _no_log(settings: Settings) -> bool:
    return settings.log.kind == "embedded" and not Path(settings.log.path).exists()

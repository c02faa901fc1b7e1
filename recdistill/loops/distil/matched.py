"""What of the feature specification meets nothing in the stream: attributes of no item, actions of no event.

Such a name is nearly always a mistake: another spelling, a mapping that was forgotten. The student learns all the same,
only without it. So it is said once, with the names that there are.

It knows nothing of how a student learns.

Example:
    >>> from recdistill.features import Field, Vocabulary
    >>> from recdistill.records import Item
    >>> matched = Matched(FeatureSpec(item={"pirce": Field("number")}))
    >>> catalogue = Catalogue(FeatureSpec(), Vocabulary(FeatureSpec()))
    >>> _ = catalogue.apply(Item("a", attributes={"price": 3.0}), admit=True)
    >>> matched.unmet(catalogue, known=9, unknown=0)[0]
    "no item has the attribute 'pirce' of the feature specification, [item.pirce]; did you mean 'price'?"
"""

from __future__ import annotations

from typing import Final

import numpy as np

from recdistill.features import Catalogue, FeatureSpec
from recdistill.records import Columns
from recdistill.text import cut, did_you_mean

SAMPLE: Final = 2_000
"""So many examples are looked at."""

MANY: Final = 20
"""So many must be without a match before it is said."""

_SHOWN: Final = 200


class Matched:
    """Looks at the first examples of a run.

    Args:
        spec: The feature specification.
    """

    def __init__(self, spec: FeatureSpec) -> None:
        self._spec = spec
        self._examples = self._events = self._fitting = 0
        self._actions: set[str] = set()
        self._context: set[str] = set()

    def take(self, examples: Columns) -> None:
        """Looks at some examples, while it has not seen enough."""
        if self._examples >= SAMPLE:
            return
        wanted = set(self._spec.history.actions)
        self._examples += len(examples)
        for context in examples.contexts:
            self._context.update(context)
        counts = np.bincount(examples.action_H, minlength=len(examples.actions)).tolist()
        for action, count in zip(examples.actions, counts, strict=True):
            if count:
                self._events += count
                self._fitting += count if not wanted or action in wanted else 0
                self._actions.add(action)

    def unmet(self, catalogue: Catalogue, *, known: int, unknown: int) -> list[str]:
        """A sentence for each name that meets nothing.

        Args:
            catalogue: The items.
            known: How many candidates were in it.
            unknown: How many candidates and events were not.
        """
        said = []
        if known and unknown > known:
            said.append(f"{unknown:,} candidates and events of {known + unknown:,} are not in the catalogue")
        missing, there = set(self._spec.item), set[str]()
        live = np.flatnonzero(catalogue.live_N).tolist()
        for slot in live:
            if not missing:
                break
            attributes = catalogue.item(slot).attributes
            missing.difference_update(attributes)
            there.update(attributes)
        if live:
            said += [
                f"no item has the attribute {name!r} of the feature specification, [item.{name}]; {_meant(name, there)}"
                for name in sorted(missing)
            ]
        if self._examples < MANY:
            return said
        said += [
            f"no request has the context {name!r} of the feature specification, [context.{name}]; "
            f"{_meant(name, self._context)}"
            for name in sorted(set(self._spec.context) - self._context)
        ]
        if self._events >= MANY and not self._fitting:
            actions = ", ".join(sorted(map(repr, self._actions)))
            said.append(
                f"no event of {self._events:,} has an action of the feature specification, [history] actions = "
                f"{list(self._spec.history.actions)}, so the student does not see what was done; events have "
                f"{cut(actions, _SHOWN)}"
            )
        return said


def _meant(name: str, known: set[str]) -> str:
    there = ", ".join(sorted(known))
    return did_you_mean(name, known, otherwise=f"there is {cut(there, _SHOWN)}" if there else "there is none at all")

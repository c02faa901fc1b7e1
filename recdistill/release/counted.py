"""Makes popularity, ItemKNN and EASE for a bundle: from what was counted while it learnt, or from the log.

A bundle has the counts beside it, so the judge need not read `examples`, however long that topic is. Two kinds of
bundles need the log: those of an older version of recdistill, which have no counts, and those whose student had learnt
before the counting began. EASE always needs the log, because it is made from who liked what. So it is made only where
it is asked for.

It knows nothing of figures, or of how a bundle was made.

Example:
    >>> whole(Tally()), whole(None)
    (False, False)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from recdistill.bundle import Bundle
from recdistill.errors import BundleError, DataError
from recdistill.judge import Contender, baselines, counted
from recdistill.linear import HALF_LIFE, TALLY, Asked, Interactions, Tally, read_interactions
from recdistill.records import Example


class Cheaper(NamedTuple):
    """Rankers that are computed without training steps.

    Args:
        train: What was learnt: the counts, or who liked what.
        rivals: The rankers.
        asked: What the teacher was asked for.
        notes: What a reader must know.
    """

    train: Tally | Interactions
    rivals: list[Contender]
    asked: Asked
    notes: list[str]


def cheaper(
    bundle: Bundle, live: Sequence[str], read: Callable[[], Iterator[Example]], *, ease: bool = False
) -> Cheaper:
    """The rankers for a bundle.

    Args:
        bundle: The bundle.
        live: The items that may be listed.
        read: The newest of the examples that the bundle learnt from. They are read only where they are needed.
        ease: Make EASE too.

    Raises:
        BundleError: The counts beside the bundle cannot be read.
        DataError: There are no counts, and the examples hold no interaction at all.
    """
    tally = tally_of(bundle)
    if tally is not None and whole(tally):
        rivals = counted(tally, live=live)
        if ease:
            rivals.append(baselines.ease(read_interactions(read()), live=live))
        return Cheaper(tally, rivals, tally.asked, _lost(tally))
    asked = Asked()
    known = read_interactions(_among(read(), asked))
    return Cheaper(known, baselines.baselines(known, live=live), asked, [_why(tally)])


def tally_of(bundle: Bundle) -> Tally | None:
    """The counts beside a bundle; None: it has none.

    Raises:
        BundleError: They cannot be read.
    """
    if TALLY not in bundle.manifest.files:
        return None
    try:
        return Tally.of(bundle.read(TALLY))
    except DataError as e:
        raise BundleError(f"{bundle.path / TALLY}: {e}; fetch or export the bundle again") from e


def whole(tally: Tally | None) -> bool:
    """Whether the counts are complete enough. Old lists count less and less, so missing old lists matter little."""
    return tally is not None and tally.lists > 0 and (not tally.began or tally.lists >= HALF_LIFE)


def _why(tally: Tally | None) -> str:
    if tally is None:
        why = "the bundle has no counts beside it (an older version made it)"
    elif not tally.lists:
        why = "nothing was liked yet in the lists that the bundle learnt from"
    else:
        why = f"the bundle's counts began after {tally.began:,} examples, and hold {tally.lists:,} lists so far"
    return f"{why}, so popularity and ItemKNN were made from the newest examples of the log"


def _lost(tally: Tally) -> list[str]:
    pairs, items = tally.shed
    if not pairs:
        return []
    more = f"; so were {items:,} weak items" if items else ""
    lost = f"{pairs:,} weak pairs of items were dropped so far, and their counts are lost"
    return [f"ItemKNN is counted in a bounded memory: {lost}{more}"]


def _among(examples: Iterator[Example], asked: Asked) -> Iterator[Example]:
    """The same examples; counts what the teacher was asked for."""
    for example in examples:
        ranking = example.ranking
        if example.label_state != "labels":  # else its scores were counted before, in an earlier example
            scored = sum(ranking.scored)
            asked.lists += 1
            asked.lists_scored += scored > 0
            asked.candidates += len(ranking.scored)
            asked.scored += scored
            asked.budgeted |= ranking.sampled < 1 or bool(ranking.candidates_sampled)
        yield example

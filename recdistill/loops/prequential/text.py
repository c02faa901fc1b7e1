"""What is known of a student before it learns, in the text form of Prometheus, and in one line for a person.

It knows nothing of records, models or logs.

Example:
    >>> row = Row(begin_us=0, end_us=1, lists=9, ndcg={"weights": Figure(n=4, groups=3, mean=0.25, low=0.2, high=0.3)})
    >>> [line for line in lines_of(row) if "ndcg" in line and "#" not in line][0]
    'recdistill_prequential_ndcg10{line="weights",lists="learnt"} 0.250000'
    >>> in_words({"ndcg": {"weights": {"n": 4, "groups": 3, "mean": 0.25, "low": 0.2, "high": 0.3}}})
    "NDCG@10 on 4 lists before they were learnt: the trainer's weights 0.250 ± 0.050"
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec

from recdistill.loops.prequential.figures import Figure
from recdistill.loops.prequential.windows import Row

NAMES: Final = {
    "champion": "champion",
    "weights": "the trainer's weights",
    "teacher": "teacher",
    "popularity": "popularity of late",
    "itemknn": "ItemKNN",
}
"""The lines, in the order in which they are told."""

HELP: Final = {
    "ndcg10": "NDCG at 10 on lists before they were learnt, over the open windows.",
    "ndcg10_low": "Lower end of its 95% interval, clustered by user.",
    "ndcg10_high": "Upper end of its 95% interval, clustered by user.",
    "ndcg10_lists": "Labelled lists that it is the mean of.",
    "agreement": "Kendall's tau with the teacher on lists before they were learnt, over the open windows.",
    "agreement_lists": "Lists that it is the mean of.",
}


def lines_of(now: Row | None, lists: str = "learnt") -> Iterator[str]:
    """Gauges of how it stands now.

    Args:
        now: All open windows as one; None: there is none.
        lists: Which lists they are.
    """
    if now is None:
        return
    values: dict[str, list[tuple[str, float]]] = {name: [] for name in HELP}
    for line in NAMES:
        if (figure := now.ndcg.get(line)) is not None:
            values["ndcg10"].append((line, figure.mean))
            if figure.low is not None and figure.high is not None:
                values["ndcg10_low"].append((line, figure.low))
                values["ndcg10_high"].append((line, figure.high))
            values["ndcg10_lists"].append((line, figure.n))
        if (figure := now.agreement.get(line)) is not None:
            values["agreement"].append((line, figure.mean))
            values["agreement_lists"].append((line, figure.n))
    for name, found in values.items():
        if found:
            full = f"recdistill_prequential_{name}"
            yield from (f"# HELP {full} {HELP[name]}", f"# TYPE {full} gauge")
            form = "d" if name.endswith("_lists") else ".6f"
            yield from (f'{full}{{line="{line}",lists="{lists}"}} {value:{form}}' for line, value in found)


def in_words(now: Mapping[str, Any]) -> str:
    """How it stands now, in one line; empty where nothing is known.

    Args:
        now: A `Row` as JSON says it.
    """
    quality, agreement = (_figures(now.get(name)) for name in ("ndcg", "agreement"))
    said = []
    if quality:
        most = max(figure.n for figure in quality.values())
        each = ", ".join(
            f"{NAMES[line]} {figure}" + ("" if figure.n == most else f" (on {figure.n:,})")
            for line, figure in quality.items()
        )
        said.append(f"NDCG@10 on {most:,} lists before they were learnt: {each}")
    if agreement:
        each = ", ".join(
            f"{NAMES[line]} {figure}" for line, figure in agreement.items() if line in ("champion", "weights")
        )
        if each:
            said.append(f"Kendall's τ with the teacher: {each}")
    return "; ".join(said)


def held_in_words(counts: Mapping[str, float]) -> str:
    """What a process says of held-out lists, in one line; empty where it says nothing.

    Args:
        counts: Its gauges, by name.
    """

    def told(name: str) -> float | None:
        return counts.get(f'recdistill_prequential_{name}{{line="champion",lists="held-out"}}')

    mean, low, high, lists = (told(name) for name in ("ndcg10", "ndcg10_low", "ndcg10_high", "ndcg10_lists"))
    if mean is None or lists is None:
        return ""
    figure = Figure(n=int(lists), groups=0, mean=mean, low=low, high=high)
    return f"NDCG@10 of the champion of then on {figure.n:,} held-out lists: {figure}"


def _figures(plain: object) -> dict[str, Figure]:
    """Figures in the order of `NAMES`; none where it was written by another version."""
    try:
        found = msgspec.convert(plain, dict[str, Figure])
    except msgspec.ValidationError:
        return {}
    return {line: found[line] for line in NAMES if line in found}

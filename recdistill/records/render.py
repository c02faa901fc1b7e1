"""Records as text for a person: newest events first, best candidates first, long lists cut.

Texts are quoted as in Python, so nothing in a record can control a terminal.

It does not know where a record came from: `inspect` adds the position.

Example:
    >>> from recdistill.records.structs import Item
    >>> print(render(Item("a", 3, attributes={"title": "Alien", "year": 1979.0})))
    item 'a'  version 3
      title  'Alien'
      year   1979
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from recdistill.records.structs import Event, Feedback, Impression, Item, Ranking, Record, Value

_MOST_EVENTS = 5
_MOST_CANDIDATES = 10
_BAR = 20  # characters of the longest bar
_KNOWN = {
    "none": "no labels waited for",
    "closed": "labels known",
    "labels": "labels alone, its scores were an example before",
}


def render(record: Record, *, width: int = 100, now_us: int | None = None) -> str:
    """Several lines of text, without a final line break.

    Args:
        record: What to show.
        width: Longest line, in characters; longer lines are cut.
        now_us: The present time, to show ages. Without it only dates are shown.
    """
    match record:
        case Item():
            lines = _item(record, now_us)
        case Impression():
            lines = _impression(record, now_us)
        case Feedback():
            when = _when(record.time_us, now_us)
            lines = [
                f"feedback {record.id!r}  {when}",
                f"  {record.action!r} on {record.item!r}, value {record.value:g}, impression {record.impression_id!r}",
            ]
        case Ranking():
            lines = ["ranking", *_ranking(record, now_us, None)]
        case _:
            known = _KNOWN[record.label_state]
            lines = [f"example  {known}", *_ranking(record.ranking, now_us, record.labels)]
    return "\n".join(line if len(line) <= width else line[: max(1, width) - 1] + "…" for line in lines)


def _item(item: Item, now_us: int | None) -> list[str]:
    head = f"item {item.id!r}  version {item.version}" + ("  withdrawn" if item.withdrawn else "")
    if item.time_us:
        head += "  " + _when(item.time_us, now_us)
    return [head, *_values(item.attributes)]


def _values(values: dict[str, Value]) -> list[str]:
    names = {name: _name(name) for name in sorted(values)}
    longest = max(map(len, names.values()), default=0)
    return [f"  {shown:{longest}}  {_value(values[name])}" for name, shown in names.items()]


def _name(name: str) -> str:
    return name if name.isprintable() else repr(name)


def _value(value: Value) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return repr(value)
    if isinstance(value, list):
        return "[" + ", ".join(_value(member) for member in value) + "]"
    return f"{value:.10g}"


def _impression(impression: Impression, now_us: int | None) -> list[str]:
    shown = [f"{number}  {candidate.item!r}" for number, candidate in enumerate(impression.candidates, 1)]
    return [*_request(impression, now_us), *_cut("candidates", shown, _MOST_CANDIDATES)]


def _request(impression: Impression, now_us: int | None) -> list[str]:
    lines = [f"impression {impression.id!r}  {_when(impression.time_us, now_us)}  asked by {impression.origin}"]
    if impression.user is not None:
        lines.append(f"  user       {impression.user!r}")
    if impression.served_by:
        lines.append(f"  served by  {impression.served_by!r}")
    lines += _values(impression.context)
    newest = [_event(event, impression.time_us) for event in reversed(impression.history)]
    lines += _cut("history", newest, _MOST_EVENTS)
    if impression.exclude:
        lines.append(f"  exclude    {len(impression.exclude)} items")
    return lines


def _event(event: Event, now_us: int) -> str:
    parts = [repr(event.item)]
    if event.action:
        parts.append(event.action if event.action.isprintable() else repr(event.action))
    if event.time_us and now_us:
        parts.append(f"{_span(now_us - event.time_us)} before")
    return "  ".join(parts)


def _cut(title: str, shown: Sequence[str], most: int) -> list[str]:
    lines = [f"  {title}  {len(shown)}", *(f"    {line}" for line in shown[:most])]
    if len(shown) > most:
        lines.append(f"    … {len(shown) - most} more")
    return lines


def _ranking(ranking: Ranking, now_us: int | None, labels: Sequence[float] | None) -> list[str]:
    impression = ranking.impression
    scorer = f"  teacher    {ranking.teacher_id!r} version {ranking.teacher_version!r}, scale {ranking.scale}"
    scored_at = f"  scored     {sum(ranking.scored)} of {len(ranking.scored)}"
    if ranking.scored_at_us:
        scored_at += ", " + _when(ranking.scored_at_us, now_us)
    scored_at += f", catalogue as of {ranking.catalogue_as_of}"
    if ranking.sampled < 1:
        scored_at += f", put to the teacher with probability {ranking.sampled:.3g}"
    if ranking.candidates_sampled:
        scored_at += f", each candidate with {min(ranking.candidates_sampled):.3g} or more"
    # Best first; missing scores last; ties in the order of the list, since sorting is stable.
    order = sorted(range(len(ranking.scores)), key=lambda index: (not ranking.scored[index], -ranking.scores[index]))
    real = [score for score, scored in zip(ranking.scores, ranking.scored, strict=True) if scored]
    low, high = min(real, default=0.0), max(real, default=0.0)
    longest = max((len(repr(impression.candidates[index].item)) for index in order[:_MOST_CANDIDATES]), default=0)
    shown = []
    for place, index in enumerate(order, 1):
        if place > _MOST_CANDIDATES:
            shown.append("")  # only counted
            continue
        score, scored = ranking.scores[index], ranking.scored[index]
        share = (score - low) / (high - low) if scored and high > low else float(scored)
        bar = "█" * round(_BAR * share)
        text = f"{score:.4g}" if scored else "missing"
        label = f"  label {labels[index]:g}" if labels is not None and labels[index] else ""
        shown.append(
            f"{place:2}  {impression.candidates[index].item!r:{longest}}  {text:>10}  {bar:{_BAR}}{label}".rstrip()
        )
    return [*_request(impression, now_us), scorer, scored_at, *_cut("candidates, best first", shown, _MOST_CANDIDATES)]


def _when(time_us: int, now_us: int | None) -> str:
    if not time_us:
        return "at an unknown time"
    text = datetime.fromtimestamp(time_us // 1_000_000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    if now_us is None:
        return text
    age = now_us - time_us
    return f"{text} ({_span(age)} ago)" if age >= 0 else f"{text} (in {_span(-age)})"


def _span(us: int) -> str:
    seconds = us / 1e6
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1)):
        if seconds >= length:
            return f"{seconds / length:.3g} {unit}" if seconds / length < 1000 else f"{seconds / length:.0f} {unit}"
    return f"{seconds * 1000:.3g} ms"

"""Writes the report: one HTML file for a person who must decide. It can be read on a phone or on paper.

It is one file. It has no script and loads nothing; a content policy in the file forbids both. Item titles and
provenance are foreign text. So they are escaped and cut, and they cannot change the direction of the text around them.

It knows nothing of how anything was measured.

Example:
    >>> _short("ndcg@10")
    'NDCG'
"""

from __future__ import annotations

import html
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from recdistill.errors import DataError
from recdistill.judge import overtime
from recdistill.judge.bounds import Verdict
from recdistill.judge.gates import Check, checks
from recdistill.judge.history import Past, drawn_history
from recdistill.judge.judgement import (
    CONTROL,
    MAIN,
    NO_TEACHER,
    STUDENT,
    TEACHER,
    Disagreement,
    Judgement,
    Quality,
    SliceQuality,
)
from recdistill.judge.page import bar, bars, hue_of, name_of, page, section, size_text, spoken, table, text, tile
from recdistill.judge.policy import Asked
from recdistill.judge.said import CLASSES, HEADS, MARKS, SAID, TITLES, told
from recdistill.judge.scatter import scatter
from recdistill.metrics import Interval
from recdistill.registry import Evidence


def write_report(
    judgement: Judgement,
    path: Path,
    evidence: Evidence | None = None,
    *,
    asked: Asked | None = None,
    past: Sequence[Past] = (),
) -> None:
    """Writes the report.

    Args:
        judgement: The results of the judge.
        path: The file. Its folder must exist.
        evidence: The gate's verdict, shown as it is. None: the gate runs now, with the policy in `asked`.
        asked: What the gate asks for. None: the defaults.
        past: The versions that were judged, the oldest first. This one is among them.

    Raises:
        DataError: The file cannot be written, or the evidence is about another bundle.
    """
    if evidence is None:
        found = checks(judgement, asked or Asked())
    elif evidence.content_hash != judgement.content_hash:
        about = evidence.content_hash[:12]
        raise DataError(f"{path}: the evidence is about {about}, the judgement about {judgement.content_hash[:12]}")
    else:
        # Evidence that passed has the sentences of all checks. Evidence that failed has those of the failed checks.
        found = [told(reason, evidence.passed) for reason in evidence.reasons]
    try:
        path.write_text(render(judgement, found, past), encoding="utf-8")
    except OSError as e:
        raise DataError(f"{path}: the report cannot be written ({e.strerror})") from e


def render(judgement: Judgement, asked: Sequence[Check], past: Sequence[Past] = ()) -> str:
    """The report as HTML, with the gate's checks and what was judged before."""
    verdicts = {check.verdict for check in asked}
    verdict: Verdict = "refused" if "refused" in verdicts else "more" if "more" in verdicts else "passed"
    parts = [
        _head(judgement, verdict),
        _gate(asked),
        drawn_history(past),
        _quality(judgement),
        _differences(judgement),
        _control(judgement),
        _ahead(judgement),
        _slices(judgement),
        _served(judgement),
        _size(judgement),
        _speed(judgement),
        _spending(judgement),
        _behaviour(judgement),
        _disagreements(judgement),
        _provenance(judgement),
    ]
    return page(f"{TITLES[verdict]}: student {judgement.content_hash[:12]}", parts)


def _head(judgement: Judgement, verdict: Verdict) -> str:
    kept, student = judgement.retention, judgement.sizes.get(STUDENT, 0)
    teacher = judgement.sizes.get(TEACHER)
    tiles = []
    if kept is not None:
        above = " above chance" if judgement.above_chance else ""
        tiles.append((f"{kept.mean:.1%}", f"of the teacher's NDCG@10{above} kept ({kept.low:.1%} to {kept.high:.1%})"))
    if teacher:
        tiles.append((f"{student / teacher:.1%}", f"of its bytes: {size_text(student)} for {size_text(teacher)}"))
    if (gain := judgement.difference(STUDENT, CONTROL)) is not None:
        tiles.append((f"{gain.mean:+.4f}", f"NDCG@10 from distillation ({gain.low:+.4f} to {gain.high:+.4f})"))
    latency = judgement.latency
    tiles.append((f"{latency.p50_ms:.2f} ms", f"for one answer, p99 {latency.p99_ms:.2f} ms, in process"))
    each = "as they were shown" if judgement.protocol == "shown" else f"{judgement.catalogue:,} items each"
    tiles.append((f"{judgement.lists:,}", f"held-out lists, {each}"))
    boxes = "".join(tile(value, what) for value, what in tiles)
    share = f" at {student / teacher:.1%} of its size" if teacher else ""
    # On pools and on logged lists, the teacher is not among the contenders. So the reason says whether there was one.
    claim = "The teacher is not above chance"
    if judgement.retention_why == NO_TEACHER or not (judgement.retention_why or judgement.quality(TEACHER)):
        claim = "No teacher to compare with"
    if kept is not None:
        claim = f"The student keeps {kept.mean:.1%} of its teacher{share}"
    made = judgement.made_at.replace("T", " ").replace("+00:00", " UTC")
    return (
        f'<header><span class="pill {CLASSES[verdict]}">{HEADS[verdict]}</span><h1>{claim}</h1>'
        f'<p class="soft">Bundle {text(judgement.content_hash[:12])}, judged {text(made)}</p>'
        f"{''.join(f'<p><b>Mind:</b> {text(note, 600)}</p>' for note in judgement.notes)}"
        f'<div class="tiles">{boxes}</div></header>'
    )


def _gate(asked: Sequence[Check]) -> str:
    lines = "".join(
        f'<li class="{CLASSES[c.verdict]}"><b aria-hidden="true">{MARKS[c.verdict]}</b>'
        f"<span>{spoken(SAID[c.verdict] + ':')} {_sentence(c)}</span></li>"
        for c in asked
    )
    return section(
        "The gate", "Every check must pass before this version may serve.", f'<ul class="checks">{lines}</ul>'
    )


def _sentence(check: Check) -> str:
    """The sentence of a check, with its subject first."""
    rest = check.sentence.removeprefix(f"{check.name}: ")
    return f"<b>{name_of(check.name).capitalize()}:</b> {html.escape(rest)}"


def _quality(judgement: Judgement) -> str:
    drawn = bars({q.name: q.metrics[MAIN] for q in judgement.contenders})
    names = list(judgement.contenders[0].metrics)
    rows = _rows(judgement.contenders, lambda q: [f"{q.metrics[m].mean:.4f}" for m in names])
    listed = table("All metrics of each contender", "Contender", [html.escape(_short(one)) for one in names], rows)
    line = "The bar is the mean over the lists, the line its 95% interval."
    note = (
        f"NDCG@10 over the whole catalogue. {line} In the table every metric uses the first 10 places, except the "
        "reciprocal rank, which uses 100. Chance is a random order, computed exactly."
    )
    if judgement.protocol == "shown":
        note = (
            f"NDCG@10 of the order of what was shown. {line} MRR is the mean of 1 / rank over all that was liked; AUC "
            "is the share of pairs (liked, not liked) in the right order. Chance is a random order, computed exactly. "
            "Popularity is counted up to the moment of each list."
        )
    if judgement.protocol_why:
        note += f" Why this way of judging: {html.escape(judgement.protocol_why)}."
    return section("Quality", note, f"{drawn}<br>{listed}", "wide")


def _short(metric: str) -> str:
    names = {"ndcg@10": "NDCG", "recall@10": "Recall", "hit_rate@10": "Hits", "mrr@100": "MRR", "mrr": "MRR"}
    return {**names, "ndcg@5": "NDCG@5", "auc": "AUC"}.get(metric, metric)


def _rows(qualities: Iterable[Quality], cells: Callable[[Quality], list[str]]) -> list[str]:
    return [
        f'<tr class="{"student" if q.name == STUDENT else ""}"><th scope="row">{name_of(q.name)}</th>'
        + "".join(f"<td>{cell}</td>" for cell in cells(q))
        + "</tr>"
        for q in qualities
    ]


def _differences(judgement: Judgement) -> str:
    found = [(d.b, d.interval) for d in judgement.differences if (d.a, d.metric) == (STUDENT, MAIN)]
    if not found:
        return ""
    low = min(0.0, *(i.low for _, i in found))
    high = max(0.0, *(i.high for _, i in found))
    low, high = low - 0.04 * (high - low), high + 0.04 * (high - low) + 1e-9

    def place(value: float) -> float:
        return 100 * (value - low) / (high - low)

    rows = "".join(
        f'<div class="row {hue_of(name)}"><span class="who">{name_of(name)}</span>'
        f'<span class="num">{i.mean:+.4f}<small>{i.low:+.4f} to {i.high:+.4f}</small></span>'
        f'<div class="track axis"><span class="zero" style="left:{place(0):.2f}%"></span>'
        f'<span class="ci" style="left:{place(i.low):.2f}%;width:{max(0.3, place(i.high) - place(i.low)):.2f}%"></span>'
        f'<span class="dot" style="left:{place(i.mean):.2f}%"></span></div></div>'
        for name, i in found
    )
    note = (
        "NDCG@10 of the student minus that of each other contender, on the same lists. To the right of the line the "
        "student is better. If an interval does not touch the line, the difference is not chance."
    )
    return section("Student against each", note, rows, "wide")


def _control(judgement: Judgement) -> str:
    """What distillation adds: the student beside one that learnt from labels alone."""
    control, alone = judgement.control, judgement.quality(CONTROL)
    gain = judgement.difference(STUDENT, CONTROL)
    if alone is None or gain is None:
        why = "nobody looked for one" if control is None or not control.why else control.why
        missing = f"So this report cannot say what distillation adds: {text(why, 400)}."
        return section("No control: a student of labels alone is missing", missing, "")
    own = alone.metrics[MAIN]
    facts = {
        "its NDCG@10": f"{own.mean:.4f} ({own.low:.4f} to {own.high:.4f})",
        "distillation adds": f"{gain.mean:+.4f} ({gain.low:+.4f} to {gain.high:+.4f})",
    }
    if control is not None and control.kept is not None:
        kept = control.kept
        facts["of the teacher's gain over it"] = f"{kept.mean:.1%} is kept ({kept.low:.1%} to {kept.high:.1%})"
    elif control is not None and control.why:
        facts["of the teacher's gain over it"] = f"no share: {text(control.why, 400)}"
    if control is not None and control.content_hash:
        facts["its bundle"] = text(control.content_hash[:12])
    lines = "".join(f"<dt>{name}</dt><dd>{value}</dd>" for name, value in facts.items())
    note = "The same student on the same stream, taught by labels alone, on the same lists."
    return section("Control: labels only", note, f"<dl>{lines}</dl>")


def _ahead(judgement: Judgement) -> str:
    told = overtime.read(judgement.provenance.get("prequential"))
    if told is None:
        return ""
    now = told.now if told.now is not None and told.now.ndcg else next(row for row in reversed(told.rows) if row.ndcg)
    found = {line: now.ndcg[line] for line in overtime.LINES if line in now.ndcg}
    scale = max([point.mean if point.high is None else point.high for point in found.values()] + [1e-9]) * 1.02
    drawn = "".join(
        bar(
            line, Interval(p.mean, p.mean if p.low is None else p.low, p.mean if p.high is None else p.high, p.n), scale
        )
        for line, p in sorted(found.items(), key=lambda pair: -pair[1].mean)
    )
    most = max(point.n for point in found.values())
    note = (
        "NDCG@10 of the order of what was shown, on lists before anybody learnt from them: scored when they came, "
        f"counted when their clicks came. The bars are the newest part, {most:,} lists with a click, with 95% "
        "intervals clustered by user; the picture has the windows before. The champion is the bundle that served then. "
        "The dashed line is the student in training."
    )
    return section("On what came next", note, f"{overtime.drawn(told.rows)}{drawn}", "wide")


def _slices(judgement: Judgement) -> str:
    boxes = "".join(_slice(part) for part in judgement.slices)
    return section("What the average hides", "NDCG@10 on parts of the lists.", f'<div class="grid thin">{boxes}</div>')


def _slice(part: SliceQuality) -> str:
    title = f'<h3>{html.escape(part.name.capitalize())} <span class="soft">{part.n:,} lists</span></h3>'
    drawn = bars({name: found[MAIN] for name, found in part.metrics.items() if name != "device"})
    body = drawn or '<p class="note">No list is in this slice, so nothing is known about it.</p>'
    return f'<div class="box">{title}<p class="note">{html.escape(part.meaning)}</p>{body}</div>'


def _size(judgement: Judgement) -> str:
    points = [
        (q.name, float(size), q.metrics[MAIN].mean)
        for q in judgement.contenders
        if (size := judgement.sizes.get(q.name))
    ]
    if not points:
        return ""
    drawn = scatter([(name_of(n), hue_of(n), size, quality) for n, size, quality in points], size_text)
    narrow, whole = (size_text(judgement.sizes.get(key, 0)) for key in ("student_int8", "bundle"))
    note = (
        "Each contender with its size in bytes (logarithmic) and its NDCG@10. Up and left is better. The size of the "
        f"student is its user tower and its float item vectors. In int8 it has {narrow}; the whole bundle has {whole}."
    )
    return section("Size against quality", note, drawn)


def _speed(judgement: Judgement) -> str:
    timed = {q.name: q.seconds_per_1000 for q in judgement.contenders if q.seconds_per_1000 is not None}
    scale = max([*timed.values(), 1e-9])
    rows = "".join(
        f'<div class="row {hue_of(name)}"><span class="who">{name_of(name)}</span>'
        f'<span class="num">{seconds:.3g} s</span>'
        f'<div class="track"><i style="width:{max(0.4, 100 * seconds / scale):.2f}%"></i></div></div>'
        for name, seconds in sorted(timed.items(), key=lambda pair: -pair[1])
    )
    ratio = ""
    if TEACHER in timed and timed.get(STUDENT):
        times = timed[TEACHER] / timed[STUDENT]
        ratio = f" The teacher takes {times:.1f} times as long as the student." if times >= 1 else ""
    latency = judgement.latency
    what = "lists as they were shown" if judgement.protocol == "shown" else "requests over the whole catalogue"
    note = (
        f"Seconds for a thousand {what}, on this machine.{ratio} One answer of the student over the whole catalogue "
        f"at a time: p50 {latency.p50_ms:.2f} ms, p99 {latency.p99_ms:.2f} ms ({latency.n:,} requests)."
    )
    return section("Time", note, rows, "wide")


def _served(judgement: Judgement) -> str:
    served = judgement.served
    if served is None:
        return ""

    def cell(interval: Interval) -> str:
        return f"{interval.mean:.3f} <small>{interval.low:.3f} to {interval.high:.3f}</small>"

    rows = [f'<tr><th scope="row">as served</th><td>{cell(served.value)}</td><td></td></tr>']
    for order in served.orders:
        if order.snips is None or order.ips is None:
            rows.append(
                f'<tr><th scope="row">{name_of(order.name)}</th><td colspan="2">{text(order.why, 400)}</td></tr>'
            )
        else:
            rows.append(
                f'<tr><th scope="row">{name_of(order.name)}</th><td>{cell(order.snips)}</td>'
                f"<td>{cell(order.ips)}</td></tr>"
            )
    note = (
        f"Labels for each of {served.lists:,} lists that the endpoint served, with 95% intervals; {served.explored:,} "
        "of the lists show an item that a rare draw put there. The values of other orders are estimates: an order "
        "keeps the first places and fills the others itself. SNIPS varies less, IPS is right on average."
    )
    worth = table("Labels a list of each order", "Order", ("SNIPS", "IPS"), rows)
    return section("What served lists were worth", note, worth)


def _spending(judgement: Judgement) -> str:
    spent = judgement.spending
    if spent is None:
        return ""
    spared = spent.candidates - spent.scored
    facts = {
        "candidates in the lists learnt from": f"{spent.candidates:,} in {spent.lists:,} lists",
        "scored by the teacher": f"{spent.scored:,} in {spent.lists_scored:,} lists, {spent.share:.1%}",
        "spared": f"{spared:,} scores",
    }
    if spent.seconds is not None:
        facts["time spared, at the speed measured here"] = f"{spent.seconds:,.3g} s"
    if spent.cost is not None:
        facts["money spared"] = f"{spent.cost:,.2f}"
    lines = "".join(f"<dt>{name}</dt><dd>{value}</dd>" for name, value in facts.items())
    note = (
        "The teacher had a budget and did not score everything. What it scored has a higher weight to make up for it."
    )
    return section("How much the teacher scored", note, f"<dl>{lines}</dl>")


def _behaviour(judgement: Judgement) -> str:
    usual = judgement.relevant_popularity

    def cells(quality: Quality) -> list[str]:
        coverage, popularity = quality.coverage or 0.0, quality.popularity or 0.0
        more = [("–" if value is None else f"{value:.2f}") for value in (quality.novelty, quality.diversity)]
        return [f"{coverage:.1%}", f"{popularity:.2f}", f"{popularity - usual:+.2f}", *more]

    choosing = [quality for quality in judgement.contenders if quality.coverage is not None]
    heads = ("Coverage", "Popularity", "Bias", "Novelty", "Diversity")
    shown = table("What the first tens hold", "Contender", heads, _rows(choosing, cells))
    agreement = judgement.agreement
    told = []
    if agreement.overlap is not None:
        told.append(f"teacher and student share {agreement.overlap.mean:.0%} of their first ten")
    if agreement.tau is not None:
        told.append(f"Kendall's τ of teacher and student on the logged lists is {agreement.tau.mean:.2f}")
    told += [
        f"scores of the {name_of(name).lower()} as shares of a list are off by {found.error:.3f} from the shares that "
        f"were liked, on {found.lists:,} lists"
        for name, found in judgement.calibration.items()
    ]
    agreed = f" Agreement: {'; '.join(told)}." if told else ""
    if not choosing:  # they ordered what was shown, so none of them chose from the catalogue
        return section("Agreement", f"{agreed.strip()}", "") if told else ""
    note = (
        "Coverage: share of the catalogue in the first ten places of all lists. Popularity: mean percentile of the "
        f"items there; 1 is the most liked item. The items that users chose have {usual:.2f}; bias is the difference "
        "from that. Novelty: mean bits of surprise of the items there. Diversity: mean distance of the items of a "
        f"first ten, 0 where all are alike.{agreed}"
    )
    return section("What it shows", note, shown)


def _disagreements(judgement: Judgement) -> str:
    if not judgement.disagreements:
        return ""
    boxes = "".join(_disagreement(d) for d in judgement.disagreements)
    note = (
        "The real lists whose first ten items overlap least. Grey: both show it. "
        '<span class="liked">Green</span>: the user chose it.'
    )
    if judgement.protocol == "shown":
        note = (
            "The real lists that both order most differently, the first ten of each. Grey: both have it. "
            '<span class="liked">Green</span>: the user chose it.'
        )
    return section("Where teacher and student disagree most", note, f'<div class="grid">{boxes}</div>')


def _disagreement(found: Disagreement) -> str:
    shared, liked = set(found.teacher) & set(found.student), set(found.liked)

    def column(title: str, items: Sequence[str]) -> str:
        lines = "".join(
            f'<li class="{"liked" if i in liked else "both" if i in shared else ""}">{text(i)}</li>' for i in items
        )
        return f'<div class="{title.lower()}"><h4>{title}</h4><ol>{lines or "<li>no answer</li>"}</ol></div>'

    history = ", ".join(map(text, found.history)) or "none"
    common = f"{round(found.overlap * 10)} of 10 in common" if found.tau is None else f"Kendall's τ {found.tau:+.2f}"
    return (
        f'<div class="box"><h3>{common}</h3>'
        f'<p class="line"><b>History, newest first</b> {history}</p>'
        f'<p class="line"><b>Chose</b> <span class="liked">{", ".join(map(text, found.liked))}</span></p>'
        f'<div class="pair">{column("Teacher", found.teacher)}{column("Student", found.student)}</div></div>'
    )


def _provenance(judgement: Judgement) -> str:
    facts: dict[str, object] = {
        "content hash": judgement.content_hash,
        "judged at": judgement.made_at,
        "seed": judgement.seed,
        "lists": judgement.lists,
        **_part(judgement),
        **{f"skipped: {reason}": count for reason, count in judgement.skipped.items()},
        **{f"parity: {what}": f"{value:.2e}" for what, value in judgement.parity.items()},
        **{f"bytes: {what}": f"{size:,}" for what, size in judgement.sizes.items()},
        **dict(_flat({key: value for key, value in judgement.provenance.items() if key != "prequential"})),
    }
    lines = "".join(f"<dt>{text(key, 60)}</dt><dd>{text(value, 300)}</dd>" for key, value in facts.items())
    return section("Where it comes from", "What was judged, and what it was made of.", f"<dl>{lines}</dl>")


def _part(judgement: Judgement) -> dict[str, object]:
    part = judgement.part
    if part is None:
        return {}
    judged = f"{part.begins} to {part.ends}, lists of {part.first} to {part.last}"
    found: dict[str, object] = {"learnt up to": part.learnt, "judged part": judged}
    return found | ({"judged lists": f"{part.what}: {part.why}"} if part.lists else {})


def _flat(tree: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, object]]:
    """Nested provenance as lines, down to a few levels."""
    for key, value in tree.items():
        if isinstance(value, Mapping) and prefix.count(".") < 3:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value

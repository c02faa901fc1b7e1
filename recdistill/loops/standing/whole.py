r"""All that is told of where everything stands, as one struct, and in words.

It knows nothing of where it was read.

Example:
    >>> nothing = Standing(now_us=0, log="log.sqlite", absent=["there is no log yet at log.sqlite"])
    >>> print("\n".join(lines(nothing)))
    log             log.sqlite
    backlog         nothing is known
    freshness       nothing is known
    not there       there is no log yet at log.sqlite
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import msgspec
from msgspec import Struct

from recdistill.loops.prequential import held_in_words, in_words
from recdistill.loops.standing.fresh import HopAt
from recdistill.loops.standing.processes import ProcessAt
from recdistill.loops.standing.releases import Releases
from recdistill.loops.standing.stages import STUDENT, Backlog
from recdistill.loops.standing.student import AnewAt, StudentAt
from recdistill.text import printable


class Standing(Struct, frozen=True, kw_only=True):
    """Where everything stands.

    Attributes:
        now_us: When it was read.
        log: Which log.
        backlog: By stage and topic.
        hops: The freshness of the hops that are known.
        student: What the student's folder says; None: it could not be read, or is not there.
        next_exports: When the next bundle is due, one phrase for each trigger.
        releases: What the registry says; None: it does not answer, or is not there.
        processes: Those that were asked.
        absent: One sentence for each part that is down or not there yet.
    """

    now_us: int
    log: str
    backlog: list[Backlog] = []
    hops: list[HopAt] = []
    student: StudentAt | None = None
    next_exports: list[str] = []
    releases: Releases | None = None
    processes: list[ProcessAt] = []
    absent: list[str] = []


def plain(standing: Standing) -> dict[str, Any]:
    """As JSON says it, with the ages that follow from the times."""
    found: dict[str, Any] = msgspec.to_builtins(standing)
    found["at"] = datetime.fromtimestamp(standing.now_us / 1e6, UTC).isoformat(timespec="milliseconds")
    for said, hop in zip(found["hops"], standing.hops, strict=True):
        said |= {"took_s": round(hop.took_s, 3), "age_s": round(hop.age_s(standing.now_us), 3)}
    for said, one in zip(found["backlog"], standing.backlog, strict=True):
        said["waits_s"] = _waits(standing, one)
    return found


def lines(standing: Standing) -> Iterator[str]:
    """It in words, a few to a line. What others wrote can no longer control a terminal."""
    for name, text in _told(standing):
        yield f"{name:14}  {printable(text)}"


def _told(standing: Standing) -> Iterator[tuple[str, str]]:
    yield "log", standing.log
    yield "backlog", " · ".join(_backlog(standing, one) for one in standing.backlog) or "nothing is known"
    yield "freshness", " · ".join(f"{one.hop} {_s(one.took_s)}" for one in standing.hops) or "nothing is known"
    if standing.hops:
        ages = " · ".join(f"{one.hop} {_s(one.age_s(standing.now_us))}" for one in standing.hops)
        yield "newest event", f"{ages} ago"
    for one in standing.backlog:
        if one.lost:
            yield "lost", f"{one.stage}: {one.lost}"
    if standing.student is not None:
        yield "student", _student(standing, standing.student)
        if standing.student.anew is not None:
            yield "made anew", _anew(standing, standing.student, standing.student.anew)
        if said := in_words(standing.student.prequential.get("now") or {}):
            yield "what came next", said
        if standing.student.drift:
            yield "drift", _drift(standing.student)
        for sentence in standing.student.drifted[-3:]:
            yield "drifted", sentence
        yield "next bundle", "; or ".join(standing.next_exports)
    if (releases := standing.releases) is not None:
        serves = f"version {releases.champion}, since {releases.since}" if releases.champion else "there is none yet"
        yield "champion", f"{serves}; {releases.versions} versions, {releases.waiting} bundles wait for a verdict"
        if releases.next:
            yield "judged next", releases.next
        if releases.refused:
            stands = "" if releases.refused_since else "; newer ones have passed since"
            reasons = "; ".join(releases.refused_reasons)
            yield "last refused", f"version {releases.refused} at {releases.refused_at}: {reasons}{stands}"
    for process in standing.processes:
        says = "ready" if process.ready else process.says if process.ready is None else f"not ready: {process.says}"
        yield process.name[:14], f"{process.address} {says}"
        if said := held_in_words(process.counts):
            yield "held-out", said
    for sentence in standing.absent:
        yield "not there", sentence


def _backlog(standing: Standing, one: Backlog) -> str:
    name = f"{one.stage} {one.topic}" if one.stage == "join" else one.stage
    about = "" if one.exact else "about "
    waits = "" if not one.behind or (age := _waits(standing, one)) is None else f" for {_s(age)}"
    since = ""
    if one.stage.startswith(STUDENT):
        # It has learnt more than its newest checkpoint tells.
        ours = standing.student is not None and one.stage == f"{STUDENT}{standing.student.name}"
        name, since = ("distil" if ours else one.stage), " since its checkpoint"
    return f"{name} {about}{one.behind:,}{waits}{since if one.behind else ''}{'' if one.began else ' (has not begun)'}"


def _waits(standing: Standing, one: Backlog) -> float | None:
    """For how long the oldest message had waited when the log was read."""
    if not one.waits_since_us:
        return None
    return round(max(0, (one.read_us or standing.now_us) - one.waits_since_us) / 1e6, 3)


def _student(standing: Standing, student: StudentAt) -> str:
    works = f"{student.owner} works on it" if student.works else "nobody works on it"
    if student.works is None:
        works = f"{student.owner} was the last to work on it"
    if student.step is None:
        return f"{student.directory}: {works}; no checkpoint yet"
    saved = _s((standing.now_us - student.saved_us) / 1e6)
    made = "no bundle yet"
    if student.bundle_step is not None:
        made = f"bundle of step {student.bundle_step:,} {_s((standing.now_us - student.bundle_us) / 1e6)} ago"
    return (
        f"{student.directory}: {works}; {student.examples:,} examples in {student.step:,} steps, checkpoint {saved} "
        f"ago, {made}"
    )


def _anew(standing: Standing, student: StudentAt, anew: AnewAt) -> str:
    """How far a student is that is made anew, and what serves meanwhile."""
    serves = "nothing serves yet"
    if standing.releases is not None and standing.releases.champion:
        serves = f"version {standing.releases.champion} serves on"
    elif student.bundle_step is not None:
        serves = f"the bundle of step {student.bundle_step:,} stays the newest"
    if not anew.asked_us:
        return (
            f"it has learnt {anew.share:.0%} of its part of the log again; until then no bundle is made, and {serves}"
        )
    taken = "its distiller takes the request with its next step" if student.works else "the next distiller there begins"
    return f"a person asked for it {_s((standing.now_us - anew.asked_us) / 1e6)} ago; {taken}; meanwhile {serves}"


def _drift(student: StudentAt) -> str:
    """What the detectors of drift saw at the newest checkpoint; of the inputs, the quantity that moved most."""
    seen = student.drift
    inputs, labels = dict(seen.get("inputs", {})), seen.get("outcomes", {})
    unknown = inputs.pop("unknown", None)
    told = []
    if inputs:
        most = max(inputs, key=lambda name: inputs[name])
        told.append(f"inputs: stability index {inputs[most]:.2f} at most, of {most}")
    if unknown is not None:
        told.append(f"{unknown:.1%} of events of unknown items")
    if labels.get("rate", 1.0) < 1.0:  # where silent lists make no example, every list has a label, which says nothing
        told.append(f"{labels['rate']:.1%} of lists with a label")
    if "places" in labels:
        told.append(f"places {labels['places']:.2f}")
    if "delay_s" in labels:
        told.append(f"labels after {_s(labels['delay_s'])}")
    if (agreement := seen.get("agreement", {}).get("agreement")) is not None:
        told.append(f"agreement with the teachers {agreement:.2f}")
    return " · ".join(told)


def _s(seconds: float) -> str:
    for unit, length in (("d", 86_400), ("h", 3600), ("min", 60)):
        if abs(seconds) >= 2 * length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.1f} s"

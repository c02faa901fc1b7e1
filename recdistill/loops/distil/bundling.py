"""What a bundle says of the student as it is now: where it comes from, what is popular, what is asked.

It knows nothing of losses or torch, and nothing of what becomes of a bundle.
"""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from recdistill import __version__, installed
from recdistill.bundle import Bundle, golden
from recdistill.hops import passed
from recdistill.linear import TALLY
from recdistill.loops.distil.snapshot import About, Snapshot, build

if TYPE_CHECKING:
    from recdistill.loops.distil.distiller import Distiller


def export(distiller: Distiller, popular: int, trigger: str = "end") -> Bundle | None:
    """Writes a bundle of the student as it is, unless this step's is there already; None while it knows no item.

    Args:
        distiller: Whose student.
        popular: Length of the bundle's popular list.
        trigger: Why it is made now; its provenance says so.

    Raises:
        Fenced: A newer distiller works on this student.
    """
    trainer, folder, step = distiller.trainer, distiller.folder, distiller.step
    if not trainer.catalogue.live_N.any():
        return None
    distiller.claim()
    about = told(distiller, popular, trigger)
    parts = trainer.weights(), trainer.spec, trainer.vocabulary, trainer.catalogue
    beside = {TALLY: distiller.tally.data()}
    bundle = folder.export(step, lambda out: build(*parts, about, beside, out))
    if bundle is not None:
        passed(distiller.counts, "exported", distiller.saved.event_us)
        distiller.saved.parent = bundle.content_hash
        distiller.counts["bundles"] += 1
    return bundle


def taken(distiller: Distiller, popular: int, trigger: str) -> Snapshot | None:
    """A copy of the student as it is, to make a bundle of while it learns on; None while it knows no item.

    Raises:
        Fenced: A newer distiller works on this student.
    """
    trainer = distiller.trainer
    if not trainer.catalogue.live_N.any():
        return None
    distiller.claim()
    return Snapshot(
        weights=trainer.weights(whole=False),
        spec=trainer.spec,
        vocabulary=trainer.vocabulary.snapshot(),
        catalogue=trainer.catalogue.snapshot(),
        about=told(distiller, popular, trigger),
        beside={TALLY: distiller.tally.data()},
        ready=trainer.settle_copies,
    )


def told(distiller: Distiller, popular: int, trigger: str) -> About:
    """What the bundle of now says beside the student."""
    saved, step = distiller.saved, distiller.step
    most = saved.seen.most_popular(popular)
    top = most[0][1] if most else 1.0
    plain = saved.plain()
    provenance: dict[str, Any] = {
        "step": step,
        "examples": saved.seen.examples,
        "positions": {"lanes": plain["lanes"], "items": saved.items_next, "witness": distiller.witness()},
        "teachers": saved.seen.teachers,
        "recipe": plain["recipe"],
        "course": {"events": plain.get("events", []), "runs": plain.get("runs", [])},
        "code": __version__,
        "commit": installed.commit(),
        # The folder knows it better than the state: a kill may have come between an export and the next checkpoint.
        "parent": distiller.folder.newest() or saved.parent,
        "trigger": trigger,
        "made_at": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "run": uuid.uuid4().hex,
    }
    if saved.runs_left_out:
        provenance["course"]["runs_left_out"] = saved.runs_left_out
    if distiller.ahead is not None:
        provenance["prequential"] = distiller.ahead.told()
    if saved.event_us:
        provenance["event_us"] = saved.event_us
    if saved.event_us and distiller.learnt_us:
        provenance["learnt_us"] = distiller.learnt_us
    if saved.restarts:
        provenance["restarts"] = plain["restarts"]
    return About(
        popular=[(item, weight / top) for item, weight in most],
        base_position=saved.items_next,
        golden=golden.anonymous(saved.seen.golden, most, seed=step),
        provenance=provenance,
    )

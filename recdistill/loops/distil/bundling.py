"""Writes a bundle of a student as it is now, and says in it where the student comes from.

It knows nothing of losses or torch, and nothing of what becomes of a bundle.
"""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from recdistill import __version__
from recdistill.bundle import Bundle, golden

if TYPE_CHECKING:
    from recdistill.loops.distil.distiller import Distiller


def export(distiller: Distiller, popular: int) -> Bundle | None:
    """Writes a bundle of the student as it is, unless this step's is there already; None while it knows no item.

    Args:
        distiller: Whose student.
        popular: Length of the bundle's popular list.

    Raises:
        Fenced: A newer distiller works on this student.
    """
    from recdistill.bundle import build

    trainer, saved, folder, step = distiller.trainer, distiller.saved, distiller.folder, distiller.step
    if not trainer.catalogue.live_N.any():
        return None
    distiller.claim()
    most = saved.seen.most_popular(popular)
    top = most[0][1] if most else 1.0
    plain = saved.plain()
    provenance = {
        "step": step,
        "examples": saved.seen.examples,
        "positions": {"lanes": plain["lanes"], "items": saved.items_next, "witness": distiller.witness()},
        "teachers": saved.seen.teachers,
        "recipe": plain["recipe"],
        "code": __version__,
        # The folder knows it better than the state: a kill may have come between an export and the next checkpoint.
        "parent": folder.newest() or saved.parent,
        "made_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "run": uuid.uuid4().hex,
    }
    if saved.restarts:
        provenance["restarts"] = plain["restarts"]

    def write(out: Path) -> Bundle:
        return build.export(
            trainer.weights(),
            trainer.spec,
            trainer.vocabulary,
            trainer.catalogue,
            out,
            popular=[(item, weight / top) for item, weight in most],
            base_position=saved.items_next,
            golden_requests=golden.anonymous(saved.seen.golden, most, seed=step),
            provenance=provenance,
        )

    bundle = folder.export(step, write)
    if bundle is not None:
        saved.parent = bundle.content_hash
        distiller.counts["bundles"] += 1
    return bundle

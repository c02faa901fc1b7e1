"""Lists are scored before they are learnt: what joins the evaluation with a trainer, its folder and its counts.

It knows nothing of how a figure is made, or of how a student learns.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recdistill.checkpoint import Checkpoint
from recdistill.hops import Counts
from recdistill.loops.prequential import FILE, Following, Prequential
from recdistill.records import Columns, Item

if TYPE_CHECKING:
    from recdistill.loops.distil.distiller import Distiller
    from recdistill.train import Batch, Trainer


class Ahead:
    """The evaluation of one student.

    Args:
        prequential: What scores and counts.
        following: The champion; None: it is not scored.
    """

    def __init__(self, prequential: Prequential, following: Following | None = None) -> None:
        self._prequential, self._following = prequential, following

    def begin(self, folder: Path, step: int, found: Checkpoint | None) -> None:
        """Begins, or goes on from a checkpoint.

        Args:
            folder: The student's.
            step: Its step.
            found: The checkpoint that it goes on from.
        """
        data = found.read(FILE) if found is not None and FILE in found.files else None
        self._prequential.restore(data, folder if found is None else found.path)
        if self._following is not None:
            self._following.begin(folder, step)

    def take(self, distiller: Distiller, examples: Columns, batch: Batch) -> None:
        """Scores some of the lists that are about to be learnt.

        Args:
            distiller: Whose step it is.
            examples: What the step learns.
            batch: The same, encoded.
        """
        trainer, counts, champion = distiller.trainer, distiller.counts, None
        if self._following is not None:
            champion = self._following.at(distiller.step, distiller.saved.lanes, partial(_item, trainer))
        score = partial(trainer.score_lists, batch.lists)
        self._prequential.take(examples, score, champion, step=distiller.step)
        counts.update(self._prequential.counts)
        self._prequential.counts.clear()
        if isinstance(counts, Counts):
            counts.more["prequential"] = self._prequential.lines

    def files(self, state: dict[str, Any]) -> dict[str, bytes]:
        """The files that a checkpoint holds of it. The newest rows stand in the state too, for whoever looks."""
        state["prequential"] = self.told()
        return {FILE: self._prequential.data()}

    def told(self) -> dict[str, Any]:
        """The newest rows and how it stands now, as JSON says it."""
        return self._prequential.told()

    def close(self) -> None:
        """Gives back what was opened."""
        if self._following is not None:
            self._following.close()


def _item(trainer: Trainer, item_id: str) -> Item | None:
    slot = trainer.catalogue.slot(item_id)
    return None if slot < 0 else trainer.catalogue.item(slot)

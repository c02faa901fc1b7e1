"""Which settings hold now: those of the process, or those of an older checkpoint until the student has caught up.

It knows nothing of torch, or of what a setting does.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recdistill.errors import CheckpointError
from recdistill.loops.distil.events import Event, ahead, changed, refuse, told, write
from recdistill.loops.distil.folder import StudentFolder
from recdistill.loops.distil.saved import Recipe, Saved

if TYPE_CHECKING:
    from recdistill.train import Trainer

log_ = logging.getLogger(__name__)

Remake = Callable[[dict[str, Any]], "tuple[Trainer, Recipe]"]
"""Makes a fresh trainer of sections of settings, and its recipe."""


class Course:
    """The settings of one student over its steps.

    Args:
        folder: The student's folder.
        recipe: What the settings of now make.
        settings: The sections of now, as they were given.
        remake: Makes a trainer of other sections.

    Attributes:
        noted: Whether an event was added that no checkpoint has yet.
    """

    def __init__(self, folder: StudentFolder, recipe: Recipe, settings: dict[str, Any], remake: Remake | None) -> None:
        self._folder, self._recipe, self._settings, self._remake = folder, recipe, settings, remake
        self._ahead: deque[Event] = deque()
        self.noted = False

    def begin(self, saved: Saved, step: int) -> None:
        """Notes the settings that a student begins with."""
        self._note(saved, step, self._recipe, self._settings)

    def resume(self, saved: Saved, step: int, path: Path, trainer: Trainer) -> Trainer:
        """Goes on with a student.

        Args:
            saved: Its state.
            step: Its step.
            path: Its checkpoint, for the errors.
            trainer: Made of the settings of now.

        Returns:
            The trainer that takes the checkpoint's arrays: another one where the settings of that time hold first.

        Raises:
            CheckpointError: A setting differs that a student keeps for life.
        """
        differ = changed(saved.recipe.plain(), self._recipe.plain())
        refuse(differ, path)
        self._ahead = deque(ahead(self._folder.root, saved.events, step))
        if self._ahead and self._remake is not None:
            steps = ", ".join(str(one.step) for one in self._ahead)
            log_.warning("%s: the settings of its time hold, and change where they were changed: %s", path, steps)
            now = Event(self._ahead[-1].step, saved.lanes, self._recipe.plain(), self._settings)
            self._ahead.append(now)
            return self._made(saved.events[-1].settings if saved.events else {}, saved.recipe)
        if said := {key: pair for key, pair in differ.items() if pair[0] is not None}:
            log_.warning("from step %d on the settings are other ones: %s", step, told(said))
        if differ or not saved.events:
            self._note(saved, step, self._recipe, self._settings)
        return trainer

    def follow(self, saved: Saved, step: int) -> Trainer | None:
        """The trainer of the settings that hold from this step on, if they were changed here; it is fresh.

        Raises:
            CheckpointError: They cannot be made any more.
        """
        event = None
        while self._ahead and self._ahead[0].step <= step:
            event = self._ahead.popleft()
        if event is None or not (differ := changed(saved.recipe.plain(), event.recipe)):
            return None
        log_.warning("at step %d the settings change as they did: %s", step, told(differ))
        recipe = Recipe.of(event.recipe)
        trainer = self._made(event.settings, recipe)
        self._note(saved, step, recipe, event.settings)
        return trainer

    def expect(self, events: Sequence[Event]) -> None:
        """From now on the settings change as these events say."""
        self._ahead = deque(events)

    def fresh(self, saved: Saved) -> Trainer:
        """A trainer of the settings that hold now; it has learnt nothing.

        Raises:
            CheckpointError: They cannot be made any more.
        """
        return self._made(saved.events[-1].settings if saved.events else self._settings, saved.recipe)

    def _made(self, settings: dict[str, Any], recipe: Recipe) -> Trainer:
        if self._remake is None or not settings:
            raise CheckpointError(
                f"{self._folder.root}: the settings that held before step {self._ahead[0].step if self._ahead else 0} "
                "are not kept, so the student cannot go on from here; restore the newest checkpoint"
            )
        trainer, made = self._remake(settings)
        if differ := changed(recipe.plain(), made.plain()):
            raise CheckpointError(
                f"{self._folder.root}: the settings of that time make another student now ({told(differ)}); put the "
                "file of the recipe back, or go on from the newest checkpoint"
            )
        return trainer

    def _note(self, saved: Saved, step: int, recipe: Recipe, settings: dict[str, Any]) -> None:
        saved.recipe = recipe
        before = [one for one in saved.events if one.step < step]
        saved.events = [*before, Event(step, saved.lanes, recipe.plain(), settings)]
        self._folder.check()
        write(self._folder.root, [*saved.events, *self._ahead])
        self.noted = True

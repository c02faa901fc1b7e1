"""Which settings hold now: those of the process, or those of an older checkpoint until the student has caught up.

It knows nothing of torch, or of what a setting does.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from recdistill.errors import CheckpointError, PositionError, UsageError
from recdistill.loops.distil.events import Event, ahead, changed, refuse, told, write
from recdistill.loops.distil.folder import StudentFolder
from recdistill.loops.distil.rebuilds import Mark
from recdistill.loops.distil.requests import Anew, Request, done, waiting
from recdistill.loops.distil.saved import Recipe, Saved
from recdistill.stream import write_time

if TYPE_CHECKING:
    from recdistill.train import Trainer

log_ = logging.getLogger(__name__)

Find = Callable[[Request, Saved], Mark | None]
"""Finds from where a student is made anew that a person asks for; None: there is nothing that it has learnt."""

Remake = Callable[[dict[str, Any]], "tuple[Trainer, Recipe]"]
"""Makes a fresh trainer of sections of settings, and its recipe."""


class Turn(NamedTuple):
    """What holds from a step on.

    Attributes:
        trainer: The fresh trainer of settings that changed here; None: none did.
        anew: The request by which the student is made anew here; None: there is none.
    """

    trainer: Trainer | None = None
    anew: Anew | None = None


class Course:
    """The settings of one student over its steps, and the requests that it be made anew.

    Args:
        folder: The student's folder.
        recipe: What the settings of now make.
        settings: The sections of now, as they were given.
        remake: Makes a trainer of other sections.
        find: Finds the place of a request.

    Attributes:
        noted: Whether an event was added that no checkpoint has yet.
    """

    def __init__(
        self,
        folder: StudentFolder,
        recipe: Recipe,
        settings: dict[str, Any],
        remake: Remake | None,
        find: Find = lambda _request, _saved: None,
    ) -> None:
        self._folder, self._recipe, self._settings, self._remake = folder, recipe, settings, remake
        self._find = find
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
            now = Event(
                step=self._ahead[-1].step, lanes=saved.lanes, recipe=self._recipe.plain(), settings=self._settings
            )
            self._ahead.append(now)
            return self._made(saved.events[-1].settings if saved.events else {}, saved.recipe)
        if said := {key: pair for key, pair in differ.items() if pair[0] is not None}:
            log_.warning("from step %d on the settings are other ones: %s", step, told(said))
        if differ or not saved.events:
            self._note(saved, step, self._recipe, self._settings)
        return trainer

    def follow(self, saved: Saved, step: int) -> Turn:
        """What was changed here, or what a person asks for now. It is noted before anybody follows it.

        Raises:
            CheckpointError: The settings cannot be made any more, or the request cannot be read.
        """
        event, anew = None, None
        while self._ahead and self._ahead[0].step <= step:
            event = self._ahead.popleft()
            anew = event.anew or anew
        if event is not None and (differ := changed(saved.recipe.plain(), event.recipe)):
            log_.warning("at step %d the settings change as they did: %s", step, told(differ))
            recipe = Recipe.of(event.recipe)
            trainer = self._made(event.settings, recipe)
            self._note(saved, step, recipe, event.settings, anew)
            return Turn(trainer, anew)
        anew = anew or self._asked(saved)
        if anew is not None:
            self._note(saved, step, saved.recipe, saved.events[-1].settings if saved.events else self._settings, anew)
        return Turn(None, anew)

    def settled(self) -> None:
        """A checkpoint has what was asked for: the request is not needed any more."""
        self._folder.check()
        done(self._folder.root)

    def _asked(self, saved: Saved) -> Anew | None:
        """The request that waits, if it can be followed now."""
        request, r = waiting(self._folder.root), saved.range
        if request is None or (r is not None and r.another):  # first the passes that are being made
            return None
        if any(one.anew is not None and one.anew.request == request.id for one in self._ahead):
            return None  # it is followed at the step at which it was
        taken = [one.anew for one in saved.events if one.anew is not None]
        if any(one.request == request.id for one in taken):
            self.settled()  # the process was killed before this
            return None
        if r is not None and r.again and any(one.start.lanes == r.start for one in taken):
            log_.warning("the student is being made anew already, so what was asked for now is what is being done")
            self.settled()
            return None
        try:
            start = self._find(request, saved)
        except (UsageError, PositionError) as e:
            log_.warning("the student is not made anew from %s: %s", request.place, e)
            self.settled()
            return None
        if start is None:
            log_.warning(
                "the student is not made anew from %s: the log holds nothing behind it that the student has learnt, "
                "so all stays as it is",
                request.place,
            )
            self.settled()
            return None
        log_.warning(
            "the student is made anew from its newest %s examples, because a person asked for it (%s); no bundle is "
            "made until it has learnt them again",
            f"{saved.seen.examples - start.examples:,}",
            write_time(request.at_us),
        )
        return Anew(request.id, start)

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

    def _note(
        self, saved: Saved, step: int, recipe: Recipe, settings: dict[str, Any], anew: Anew | None = None
    ) -> None:
        saved.recipe = recipe
        before = [one for one in saved.events if one.step < step]
        here = [one for one in saved.events if one.step >= step]
        anew = anew or next((one.anew for one in here if one.anew is not None), None)
        event = Event(step=step, lanes=saved.lanes, recipe=recipe.plain(), settings=settings, anew=anew)
        saved.events = [*before, event]
        self._folder.check()
        write(self._folder.root, [*saved.events, *self._ahead])
        self.noted = True

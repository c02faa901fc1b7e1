"""A student in the making: it learns batch after batch, in the log's own order, and saves where it stands.

A batch is the next `batch` whole examples of the lanes, or those until a time (`reading`). Before it is learnt, the
catalogue is brought exactly as far as the scorer had seen it. A checkpoint holds weights, optimizer, random state,
vocabulary, catalogue, what was counted for the judge, and the positions after the last batch. The positions are saved
nowhere else.

It knows nothing of losses, of torch, or of bundles.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from recdistill.hops import passed
from recdistill.linear import TALLY, Tally
from recdistill.loops.distil.ahead import Ahead
from recdistill.loops.distil.anew import begun_anew, begun_at, mark_for, noted
from recdistill.loops.distil.course import Course, Remake
from recdistill.loops.distil.folder import StudentFolder
from recdistill.loops.distil.heard import heard
from recdistill.loops.distil.matched import Matched
from recdistill.loops.distil.moved import go_on_at, next_pass, place_of
from recdistill.loops.distil.passes import KeptSteps, Step
from recdistill.loops.distil.reading import Reading
from recdistill.loops.distil.saved import Recipe, Saved, check_until
from recdistill.loops.distil.saves import Saves
from recdistill.loops.distil.stamped import ITEMS, StampedItems, decoded
from recdistill.loops.distil.warm import Restart, check_same, take_over, tally_of
from recdistill.records import Columns
from recdistill.stream import (
    Delivery,
    LanePosition,
    Lanes,
    Log,
    Message,
    Place,
    deliver,
)

if TYPE_CHECKING:
    from recdistill.train import Batch, Trainer

log_ = logging.getLogger(__name__)


class Distiller:
    """A student in the making and its place in the log: the one order, and the positions.

    Args:
        log: Where `examples` and `items` are read.
        trainer: The student, fresh; the checkpoint's state goes into it.
        folder: Its folder.
        recipe: What it is made with.
        memory_mb: Megabytes of batches kept for the next pass.
        drain: Stop at what the log holds now.
        until: Stop at this place instead.
        begin: Where in `examples` a new student begins, or this one goes on; None: the beginning, or where it stopped.
        warm: A bundle, checkpoint or student whose weights a new student takes over.
        settings: The sections that the trainer was made from.
        remake: Makes a trainer of other sections, where settings have to change as they did.
        ahead: Scores lists before they are learnt; None: nobody does.

    Raises:
        CheckpointError: The folder's checkpoint was made with other settings or another specification, or its student
            has learnt what lies behind `until`.
        WrongLog, OutOfRange: The checkpoint's positions do not fit the log.
    """

    def __init__(
        self,
        log: Log,
        trainer: Trainer,
        folder: StudentFolder,
        recipe: Recipe,
        *,
        memory_mb: int,
        drain: bool = False,
        until: LanePosition | None = None,
        begin: Place | None = None,
        warm: Path | None = None,
        settings: dict[str, Any] | None = None,
        remake: Remake | None = None,
        ahead: Ahead | None = None,
    ) -> None:
        self.trainer, self.folder, self.ahead = trainer, folder, ahead
        self.course = Course(folder, recipe, settings or {}, remake, partial(mark_for, log))
        self.counts: Counter[str] = Counter()
        self.step = 0
        self.news = 0  # what the watch has found since the start
        self.learnt_us = 0  # when the newest event was learnt; 0 until this process has learnt one
        self._log = log
        self._items = StampedItems(log)
        self._lanes = Lanes(log, dead_letters=self._dead_letter, refuse=self._items.refuse, ahead=True)
        lanes = list(self._lanes.state().by_partition())
        self._stage = log.stage(f"distil-{folder.student}", [ITEMS, *lanes])
        self.saves = Saves(folder, self._stage)
        self._reading = Reading(self._lanes)
        self.matched = Matched(trainer.spec)
        self.tally, self._kept = Tally(), KeptSteps(memory_mb * 1_000_000)
        self._behind = False  # whether the lanes stand before `saved.lanes`, because batches came from memory
        self._drifts: list[str] = []  # what has drifted since the student's newest batch
        self._whole_lists = True  # until a list comes whose candidates were scored in part
        self._until = until
        try:
            self._start(recipe, drain=drain or until is not None, begin=begin, warm=warm)
        except BaseException:
            self.close()
            raise

    def _start(self, recipe: Recipe, *, drain: bool, begin: Place | None, warm: Path | None) -> None:
        """Takes the newest checkpoint up, or begins a student."""
        _warn(self.trainer.terms.warning_of_units(self.trainer.comparable))
        found = self.folder.latest()
        restarts: list[Restart] = []
        if found is None:
            self.saved = Saved(recipe, self._lanes.state(), self._items.identity(), self._items.next)
            if begin is not None:
                self._seek(place_of(self._log, self._lanes, begin))
                self.saved.lanes = self._lanes.state()
            if warm is not None:
                self.step, self.tally = take_over(warm, self.trainer, self.saved)
            self.course.begin(self.saved, self.step)
            passes = recipe.passes if drain or recipe.passes > 1 else 0
        else:
            self.step = found.step
            self.saved = Saved.restored(found.state["stream"], found.path)
            self.tally, self._reading.clock_us = tally_of(found, self.saved.seen.examples), self.saved.clock_us
            restarts = self.saved.restarts
            self.trainer = self.course.resume(self.saved, self.step, found.path, self.trainer)
            self.trainer.restore(found.tensors, found.state["trainer"])
            if warm is not None:
                check_same(warm, self.saved.restarts, found.path)
            if begin is not None and warm is None:
                go_on_at(self._log, self._lanes, self._items, self.saved, begin, step=self.step)
            else:
                self._seek(self.saved.lanes)
                self._items.seek(self.saved.items_identity, self.saved.items_next)
                self._log.check_witness(self.saved.positions(), self.saved.witness)
            log_.info("resumed at step %d from %s", self.step, found.path)
            for sentence in self.trainer.watch.standing() if self.trainer.watch else ():
                _warn(sentence)
            passes = 1 if drain and self.saved.range is None else 0
        noted(self.saved, self.trainer)
        self.saves.begin(self.saved.rests_on())
        if self.ahead is not None:
            self.ahead.begin(self.folder.root, self.step, found)
        if self._until is not None:
            check_until(self.saved, self._until, self.folder.checkpoints.parent)
        if passes:
            end = self._lanes.end_state() if self._until is None else self._until
            self.saved.go_over(self.step, passes, self._lanes.state(), end)
        if passes or self.saved.restarts != restarts or (found is not None and self.course.noted):
            self.save()

    def advance(self, timeout_s: float) -> dict[str, float] | None:
        """Learns the next batch if the lanes have it within the timeout.

        Returns:
            The step's figures, or None when there was no whole batch; what was read of one is kept for the next call.
        """
        self._turn()
        kept = None
        if self.saved.range is not None and not self._reading:
            kept = self._kept.find(self.saved.lanes, self.saved.items_next, self.trainer.tenure.as_of)
        if kept is not None:
            figures = self._learn(kept.batch)
            self.saved.seen.golden, self.saved.lanes = kept.golden, kept.after
            self._behind = True
            return figures
        if self._behind:
            self._seek(self.saved.lanes)
        r, recipe = self.saved.range, self.saved.recipe
        until = None if r is None else r.until
        examples = self._reading.batch(recipe.batch, timeout_s, until=until, within_s=recipe.within_s)
        if examples is None:
            if until is not None and self._lanes.reached(until):
                self._next_pass()
            return None
        self._apply_items(int(examples.stamps_E.max()))
        self.matched.take(examples)
        batch = self.trainer.encode(examples)
        if batch.lists.offsets_BL is not None and self._whole_lists:
            self._whole_lists = False
            _warn(self.trainer.terms.warning_of_parts())
        if self.ahead is not None and (r is None or not r.again):
            self.ahead.take(self, examples, batch)
        figures = self._learn(batch)
        before, after = self.saved.lanes, self._lanes.state()
        self.saved.seen.take(examples, again=r is not None and r.again)
        if r is not None and r.another:
            self._kept.keep(before, Step(batch, self.saved.items_next, self.saved.seen.golden, after))
        self.saved.lanes, self.saved.clock_us = after, self._reading.clock_us
        self._reading.taken()
        if r is None or not r.again:
            self.learnt_us = learnt(examples, self.saved, self.tally, self.counts) or self.learnt_us
            noted(self.saved, self.trainer)
            if recipe.rebuild and (r is None or r.passes == 1):
                self._begin_anew()
        return figures

    def _turn(self) -> None:
        """Follows settings that change here, or a person who asks for the student to be made anew."""
        trainer, anew = self.course.follow(self.saved, self.step)
        if trainer is not None:
            trainer.restore(*self.trainer.state())
            self._goes_on_as(trainer)
        if anew is not None:
            made = begun_at(anew.start, self.saved, self.trainer, fresh=self.course.fresh)
            self._reading.drop(self.saved.clock_us)
            self._seek(self.saved.lanes)
            self._goes_on_as(made, anew=True)
            self.save()
            self.claim()  # the log is kept back to where it began, from here on
            self.course.settled()

    def _goes_on_as(self, trainer: Trainer, *, anew: bool = False) -> None:
        self.trainer = trainer
        self._kept.clear()
        self.counts["rebuilds"] += anew

    def _begin_anew(self) -> None:
        """After a drift the student begins anew, where the settings ask for it."""
        fresh = self.course.fresh
        if (made := begun_anew(self.saved, self.trainer, self._drifts, fresh=fresh, seek=self._seek)) is not None:
            self._goes_on_as(made, anew=True)

    def _learn(self, batch: Batch) -> dict[str, float]:
        """Makes a step, and says once each what the watch has found."""
        r = self.saved.range
        figures = self.trainer.learn(batch.once_more() if r is not None and r.again else batch)
        self.step += 1
        self.counts.update(examples=len(batch), steps=1, known=int(figures["known"]), unknown=int(figures["unknown"]))
        news, self._drifts = heard(self.trainer.watch, self.counts)
        self.news += news
        return figures

    def _next_pass(self) -> None:
        if next_pass(self.saved, self._lanes, self.trainer.watch, step=self.step, until=self._until):
            self._kept.clear()

    def _apply_items(self, stamp: int) -> None:
        """Applies `items` exactly up to the position that the scorer had stamped on its rankings."""
        for messages in self._items.until(stamp):
            places, records, refused = decoded(messages)
            refused |= {places[at]: error for at, error in self.trainer.apply_items(records)}
            for place, error in sorted(refused.items()):
                self._dead_letter(messages[place], error)
            self.counts["items"] += len(messages) - len(refused)
        self.saved.items_next = self._items.next

    def _dead_letter(self, message: Message, error: Exception) -> None:
        if message.tp != ITEMS and self.saved.range is not None and self.saved.range.again:
            return
        self.folder.check()
        deliver(self._stage, "distil", lambda _: Delivery(dead=[(message, error)]))
        self.counts["dead_letters"] += 1

    def save(self, *, wait: bool = True) -> None:
        """Writes a checkpoint of the last batch learnt.

        Args:
            wait: Until it is on the disk. Else a copy of the state is written while the student learns on; an error
                comes from the next call, or from `saved_all`.

        Raises:
            Fenced: A newer distiller works on this student.
        """
        self.saved_all()
        self.claim()
        self.saved.witness = self._log.witness(self.saved.positions())  # brings the log to the disk first
        tensors, state = self.trainer.state(whole=False)
        said = {"trainer": state, "stream": self.saved.plain()}
        others = {TALLY: self.tally.data(), **({} if self.ahead is None else self.ahead.files(said))}
        write = partial(self.folder.save, self.step, tensors, said, others=others, ready=self.trainer.settle_copies)
        self.saves.start(write, self.saved.rests_on(), size=sum(one.nbytes for one in tensors.values()))
        if wait:
            self.saved_all()

    def saved_all(self) -> None:
        """Waits until the checkpoint that is being written is on the disk."""
        self.saves.finish(self.counts)

    def claim(self) -> None:
        """Makes sure that no newer distiller works on this student; see `Saves.claim`."""
        self.saves.claim()

    def witness(self) -> dict[str, str]:
        """What stands in the log before the last batch learnt."""
        return self._log.witness({**self.saved.lanes.by_partition(), ITEMS: self.saved.items_next})

    def close(self) -> None:
        """Gives back what was opened of the log; nothing more is saved."""
        if self.ahead is not None:
            self.ahead.close()
        self.saves.close()
        self._lanes.close()
        self._items.close()
        self._stage.close()

    def _seek(self, position: LanePosition) -> None:
        self._lanes.seek(position)
        self._behind = False


def learnt(examples: Columns, saved: Saved, tally: Tally, counts: Counter[str]) -> int:
    """Counts the lists that were learnt, for the judge, and notes how fresh they were.

    Labels come later, by their window, and say nothing of that.

    Returns:
        The time now, in microseconds, if one of them is the newest event so far; else 0.
    """
    tally.take(examples)
    scored_E = np.array([state != "labels" for state in examples.states], bool)
    times_E = examples.times_E[scored_E]
    if not times_E.size or not (newest_us := int(times_E.max())):
        return 0
    passed(counts, "learnt", times_E)
    if newest_us < saved.event_us:
        return 0
    saved.event_us = newest_us
    return time.time_ns() // 1000


def _warn(sentence: str | None) -> None:
    if sentence:
        log_.warning("%s", sentence)

"""Examples -> a student: learns in the one order, checkpoints by step count, exports bundles.

What the student has learnt depends on the log and the settings alone. A batch is the next `batch` whole examples of
the lanes; before it is learnt, the catalogue is brought exactly as far as the scorer had seen it. A checkpoint holds
weights, optimizer, random state, vocabulary, catalogue and the positions behind the last batch learnt, and is the
only owner of those positions: a run that was killed goes on from its newest checkpoint and ends with the same bytes
as one that was not.

At its first start a distiller may go over what the log holds several times (`passes`); the end of that range is fixed
in a first checkpoint, so later records do not move it. Afterwards each example is learnt once, as it comes.

It knows nothing of the losses, of torch, or of what becomes of a bundle.
"""

from __future__ import annotations

import logging
import shutil
import threading
import uuid
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from itertools import compress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import numpy as np

from recdistill import __version__
from recdistill.bundle import Bundle, golden
from recdistill.config import DistilSettings, LossSettings, StudentSettings, WatchSettings
from recdistill.errors import CheckpointError, DataError, DecodeError, OutOfRange
from recdistill.features import FeatureSpec, Lists
from recdistill.progress import Progress
from recdistill.records import DEAD_LETTERS, Example, Impression, Item, decode
from recdistill.stream import Lanes, Log, LogIdentity, Message, TopicPartition, check_identity, dead_letter

if TYPE_CHECKING:
    from recdistill.train.step import Trainer

log_ = logging.getLogger(__name__)

ITEMS = TopicPartition("items", 0)

HALF_LIFE = 20_000
"""Examples after which a positive counts half as much for the popular list."""

UNSAID = ("loss.full_softmax_items", "loss.sampled_items")
"""Settings that checkpoints of older versions do not name; such a checkpoint goes on with whatever they are now."""


class Range(msgspec.Struct):
    """A part of the lanes that is gone over `passes` times before the stream goes on."""

    passes: int
    start: dict[str, Any]
    until: dict[str, Any]
    done: int = 0


class Saved(msgspec.Struct):
    """What a checkpoint says beside the trainer's own state."""

    recipe: dict[str, Any]
    lanes: dict[str, Any]
    items_identity: LogIdentity
    items_next: int
    range: Range | None = None
    examples: int = 0
    teachers: dict[str, int] = {}
    popular: dict[str, float] = {}
    popular_unit: float = 1.0
    golden: list[dict[str, Any]] = []
    parent: str = ""


class _Kept(NamedTuple):
    """A batch as it was encoded, for the next pass over it."""

    lists: Lists
    teacher_BL: np.ndarray
    teachers: list[str]
    items_next: int
    golden: list[dict[str, Any]]
    examples: int
    after: dict[str, Any]


class Distiller:
    """A student in the making and its place in the log.

    Args:
        log: Where `examples` and `items` are read.
        spec: What a model sees.
        student: Shape and learning rates.
        loss: What it learns from a list.
        settings: Batch, passes, checkpoints.
        watch: How teachers' scores are made comparable and watched.
        drain: Stop at what the log holds now.

    Raises:
        CheckpointError: The directory's checkpoint was made with other settings or another specification.
        WrongLog, OutOfRange: The checkpoint's positions do not fit the log.
    """

    def __init__(
        self,
        log: Log,
        spec: FeatureSpec,
        student: StudentSettings,
        loss: LossSettings,
        settings: DistilSettings,
        watch: WatchSettings | None = None,
        *,
        drain: bool = False,
    ) -> None:
        from recdistill import checkpoint
        from recdistill.train import use_threads
        from recdistill.train.step import Trainer

        use_threads(settings.threads)
        self.spec, self.settings = spec, settings
        self.counts: Counter[str] = Counter()
        self.directory = Path(settings.directory)
        watch = WatchSettings() if watch is None else watch
        self.comparable = watch.comparable
        self.trainer: Trainer = Trainer(spec, student, loss, seed=settings.seed, watch=watch)
        if warning := self.trainer.terms.warning_of_units(watch.comparable):
            log_.warning("%s", warning)
        self._whole_lists = True  # until a list comes whose candidates were scored in part
        self._stage = log.stage("distil")
        self._items = log.source([ITEMS])
        self._pending: list[Example] = []
        self._kept: dict[tuple[int, ...], _Kept] = {}
        self._kept_bytes = 0
        self._behind = False  # whether the lanes stand before `saved.lanes`, because batches came from memory
        self._lanes = Lanes(log, dead_letters=self._dead_letter)
        recipe = {
            "student": msgspec.to_builtins(student),
            "loss": self.trainer.terms.resolved()
            | {"full_softmax_items": loss.full_softmax_items, "sampled_items": loss.sampled_items}
            | ({"previous": loss.previous, "previous_every": loss.previous_every} if loss.previous else {}),
            "batch": settings.batch,
            "passes": settings.passes,
            "seed": settings.seed,
            "threads": settings.threads,
            "features": spec.hash,
            # What is done about a teacher may change: whoever has looked into it decides.
            "watch": {"comparable": watch.comparable, "spread": watch.spread},
        }
        found = checkpoint.latest(self.directory / "checkpoints")
        if found is None:
            self.step = 0
            self.saved = Saved(recipe, self._lanes.state(), self._items.identity(), self._items.position()[ITEMS])
            if drain or settings.passes > 1:
                self.saved.range = Range(settings.passes, self._lanes.state(), self._lanes.end_state())
                self.save()
        else:
            self.step = found.step
            self.saved = msgspec.convert(found.state["stream"], Saved)
            _same_recipe(self.saved.recipe, recipe, found.path)
            self.saved.recipe = recipe  # from here on it says what an older version did not
            self.trainer.restore(found.tensors, found.state["trainer"])
            self._lanes.seek(self.saved.lanes)
            check_identity(self.saved.items_identity, self._items.identity())
            self._items.seek({ITEMS: self.saved.items_next})
            log_.info("resumed at step %d from %s", self.step, found.path)
            for sentence in self.trainer.watch.standing() if self.trainer.watch else ():
                log_.warning("%s", sentence)
            if drain and self.saved.range is None:
                self.saved.range = Range(1, self._lanes.state(), self._lanes.end_state())
                self.save()

    def advance(self, timeout_s: float) -> dict[str, float] | None:
        """Learns the next batch if the lanes have it within the timeout.

        Returns:
            The step's figures, or None when there was no whole batch; what was read of one is kept for the next call.
        """
        kept = None if self._pending else self._kept.get(_place(self.saved.lanes))
        if kept is not None and self.in_range and kept.items_next == self.saved.items_next:
            return self._again(kept)
        if self._behind:
            self._lanes.seek(self.saved.lanes)
            self._behind = False
        until = self.saved.range.until if self.saved.range else None
        self._pending += self._lanes.next(self.settings.batch - len(self._pending), timeout_s, until=until)
        ended = until is not None and self._lanes.reached(until)
        if not self._pending or (len(self._pending) < self.settings.batch and not ended):
            if ended:
                self._next_pass()
            return None
        self._apply_items(max(example.ranking.catalogue_as_of for example in self._pending))
        from recdistill.watch.units import units

        lists, _ = self.trainer.encode(self._pending)
        if lists.offsets_BL is not None and self._whole_lists:
            self._whole_lists = False
            if warning := self.trainer.terms.warning_of_parts():
                log_.warning("%s", warning)
        scales, teachers = [each.ranking.scale for each in self._pending], [_teacher(each) for each in self._pending]
        teacher_BL = units(lists, scales, teachers, self.comparable)
        figures = self.trainer.learn_lists(lists, teacher_BL, teachers, again=self._again_now)
        self._tell()
        self.step += 1
        self._remember(self._pending)
        before, self.saved.lanes = self.saved.lanes, self._lanes.state()
        self._keep(before, lists, teacher_BL, teachers)
        self._pending = []
        return figures

    def _keep(self, before: dict[str, Any], lists: Lists, teacher_BL: np.ndarray, teachers: list[str]) -> None:
        """Keeps an encoded batch when there will be another pass over it, as far as the memory allowed for it goes.

        Its arrays are what reading and encoding it again would give, as long as the catalogue has not moved since.
        """
        r = self.saved.range
        if r is None or r.done + 1 >= r.passes:
            return
        requests = lists.requests
        arrays = [teacher_BL, lists.candidate_slots_BL, lists.where_BL, lists.teacher_scores_BL, lists.scored_BL]
        arrays += [lists.labels_BL, requests.history_slots_BH, requests.history_actions_BH, requests.history_ages_BH]
        arrays += requests.context.values()
        arrays += [lists.weights_B, *([] if lists.offsets_BL is None else [lists.offsets_BL])]
        self._kept_bytes += sum(array.nbytes for array in arrays)
        if self._kept_bytes <= self.settings.memory_mb * 1_000_000:
            count = len(self._pending)
            self._kept[_place(before)] = _Kept(
                lists, teacher_BL, teachers, self.saved.items_next, self.saved.golden, count, self.saved.lanes
            )

    def _again(self, kept: _Kept) -> dict[str, float]:
        figures = self.trainer.learn_lists(kept.lists, kept.teacher_BL, kept.teachers, again=self._again_now)
        self._tell()
        self.step += 1
        self.counts["examples"] += kept.examples
        self.counts["steps"] += 1
        self.saved.golden, self.saved.lanes = kept.golden, kept.after
        self._behind = True
        return figures

    @property
    def _again_now(self) -> bool:
        """Whether a later pass is being made, over lists that the watch has judged."""
        return self.saved.range is not None and self.saved.range.done > 0

    def _tell(self) -> None:
        """Counts what the watch has found, and says each change once."""
        if (watch := self.trainer.watch) is not None:
            self.counts.update(watch.counts)
            for sentence in watch.news:
                log_.warning("%s", sentence)
            watch.counts.clear()
            watch.news.clear()

    @property
    def in_range(self) -> bool:
        """Whether a fixed part of the log is still being gone over."""
        return self.saved.range is not None

    def total(self) -> int | None:
        """Positions of the range in all its passes, for a progress bar; None when there is no end."""
        r = self.saved.range
        return None if r is None else r.passes * _length(r)

    def done(self) -> int:
        """Positions passed, of `total`."""
        r, here = self.saved.range, _passed(self.saved.lanes)
        return here if r is None else r.done * _length(r) + here - _passed(r.start)

    def save(self) -> Path:
        """Writes a checkpoint of the last whole batch."""
        from recdistill import checkpoint

        tensors, state = self.trainer.state()
        stream = msgspec.to_builtins(self.saved)
        path = checkpoint.save(self.directory / "checkpoints", self.step, tensors, {"trainer": state, "stream": stream})
        checkpoint.prune(self.directory / "checkpoints", self.settings.keep)
        self.counts["checkpoints"] += 1
        return path

    def export(self) -> Bundle | None:
        """Writes a bundle of the student as it is, unless this step's is there already; None while it knows no item."""
        from recdistill.bundle.build import export

        out = self.directory / "bundles" / f"step-{self.step:010d}"
        if out.exists() or not self.trainer.catalogue.live_N.any():
            return None
        popular = sorted(self.saved.popular.items(), key=lambda pair: (-pair[1], pair[0]))[: self.settings.popular]
        top = popular[0][1] if popular else 1.0
        bundle = export(
            self.trainer.weights(),
            self.spec,
            self.trainer.vocabulary,
            self.trainer.catalogue,
            out,
            popular=[(item, weight / top) for item, weight in popular],
            base_position=self.saved.items_next,
            golden_requests=golden.anonymous(
                msgspec.convert(self.saved.golden, list[Impression]), popular, seed=self.step
            ),
            provenance={
                "step": self.step,
                "examples": self.saved.examples,
                "positions": {"lanes": self.saved.lanes, "items": self.saved.items_next},
                "teachers": self.saved.teachers,
                "recipe": self.saved.recipe,
                "code": __version__,
                "parent": self.saved.parent,
                "made_at": datetime.now(UTC).isoformat(timespec="seconds"),
                "run": uuid.uuid4().hex,
            },
        )
        self.saved.parent = bundle.content_hash
        self.counts["bundles"] += 1
        log_.info("exported %s, content %s", out, bundle.content_hash[:12])
        return bundle

    def close(self) -> None:
        """Gives back what was opened; nothing is saved."""
        self._lanes.close()
        self._items.close()
        self._stage.close()

    def _next_pass(self) -> None:
        if (r := self.saved.range) is not None:
            r.done += 1
            if r.done < r.passes:
                self._lanes.seek(r.start)
                if self.trainer.watch:
                    self.trainer.watch.rewind()
            else:
                self.saved.range = None
                self._kept.clear()
                if self.trainer.watch:
                    self.trainer.watch.forget_passes()
        self.saved.lanes = self._lanes.state()

    def _apply_items(self, as_of: int) -> None:
        """Applies `items` exactly up to the position that the scorer had stamped on its rankings."""
        while self.saved.items_next < as_of:
            if as_of > (end := self._items.bounds(ITEMS)[1]):
                raise OutOfRange(
                    f"an example was scored with the catalogue as of {as_of}, but items ends at {end}; "
                    "the topic was made again or truncated, so go back to the log the rankings came from"
                )
            # One message at a time at the end only: a fetch may not run past the stamp.
            messages = self._items.read(min(1000, as_of - self.saved.items_next), 1.0)
            for message in messages:
                refused: Sequence[DataError]
                try:
                    refused = self.trainer.apply_items([decode(Item, message.value)])
                except DecodeError as e:
                    refused = [e]
                for error in refused:
                    self._dead_letter(message, error)
                self.counts["items"] += not refused
            self.saved.items_next = min(as_of, self._items.position()[ITEMS])

    def _remember(self, examples: list[Example]) -> None:
        """Keeps what a bundle says of the stream: popularity (the recent counts more), teachers, golden requests."""
        first_pass = self.saved.range is None or self.saved.range.done == 0
        self.counts["examples"] += len(examples)
        self.counts["steps"] += 1
        self.saved.golden = [
            msgspec.to_builtins(
                msgspec.structs.replace(example.ranking.impression, candidates=(), exclude=(), user=None)
            )
            for example in examples[-golden.COUNT :]
        ]
        if not first_pass:
            return
        self.saved.examples += len(examples)
        # Older positives count for less: instead of shrinking every item's count, what is added grows.
        self.saved.popular_unit *= 2.0 ** (len(examples) / HALF_LIFE)
        if self.saved.popular_unit > 1e100:
            self.saved.popular = {item: weight / 1e100 for item, weight in self.saved.popular.items() if weight > 1e80}
            self.saved.popular_unit /= 1e100
        for example in examples:
            ranking, teacher = example.ranking, _teacher(example)
            self.saved.teachers[teacher] = self.saved.teachers.get(teacher, 0) + 1
            for candidate in compress(ranking.impression.candidates, example.labels):  # those whose label is not 0
                self.saved.popular[candidate.item] = (
                    self.saved.popular.get(candidate.item, 0.0) + self.saved.popular_unit
                )

    def _dead_letter(self, message: Message, error: Exception) -> None:
        if message.tp.topic == "examples" and self.saved.range is not None and self.saved.range.done > 0:
            return
        log_.warning("dead letter from %s at %d: %s", message.tp, message.offset, error)
        value, headers = dead_letter(message, error, "distil")
        with self._stage.transaction() as transaction:
            transaction.send(DEAD_LETTERS, value, key=message.key, headers=headers)
        self.counts["dead_letters"] += 1


def run(
    log: Log,
    spec: FeatureSpec,
    student: StudentSettings,
    loss: LossSettings,
    settings: DistilSettings,
    watch: WatchSettings | None = None,
    *,
    stop: threading.Event,
    drain: bool = False,
    counts: Counter[str] | None = None,
    progress: Progress | None = None,
    publish: Callable[[Bundle], None] | None = None,
) -> Counter[str]:
    """Distils until stopped, or until the ends seen at the start when draining; saves and exports at the end.

    Args:
        log: Where `examples` and `items` are read.
        spec: What a model sees.
        student: Shape and learning rates.
        loss: What it learns from a list.
        settings: Batch, passes, checkpoints, exports.
        watch: How teachers' scores are made comparable and watched; the default settings when None.
        stop: Set it and the batch in work is finished, saved, and the function returns.
        drain: Return when everything that the log held at the start is learnt.
        counts: Counts to add to, for a caller that wants to watch; a new one when None.
        progress: Told the positions passed.
        publish: Given each bundle that was made; None: it stays in its folder.

    Returns:
        Counts: examples, steps, items, checkpoints, bundles, dead_letters; and the watch's, see `Watch.counts`.
    """
    distiller = Distiller(log, spec, student, loss, settings, watch, drain=drain)
    if counts is not None:
        distiller.counts = counts
    try:
        total = distiller.total()
        last_saved = distiller.step
        while not stop.is_set():
            figures = distiller.advance(settings.wait_s)
            if figures is None:
                if drain and not distiller.in_range:
                    break
                continue
            if progress:
                progress(distiller.done(), total)
            if settings.export_every and distiller.step % settings.export_every == 0 and not distiller.in_range:
                bundle = distiller.export()
                if bundle is not None and publish is not None:
                    publish(bundle)
            if distiller.step % settings.checkpoint_every == 0:
                distiller.save()
                last_saved = distiller.step
        if not stop.is_set() or distiller.step != last_saved:
            distiller.save()
        if not stop.is_set():
            bundle = distiller.export()
            distiller.save()
            if bundle is not None and publish is not None:
                publish(bundle)
        _prune_bundles(distiller.directory / "bundles", settings.keep)
    finally:
        distiller.close()
    return distiller.counts


def _teacher(example: Example) -> str:
    """Whose scores an example has."""
    return f"{example.ranking.teacher_id}@{example.ranking.teacher_version}"


def _place(lanes: dict[str, Any]) -> tuple[int, ...]:
    """A position in the lanes, as a key."""
    return (*lanes["offsets"], lanes["turn"])


def _passed(state: dict[str, Any]) -> int:
    """The lanes' offsets added up."""
    return sum(int(offset) for offset in state["offsets"])


def _length(r: Range) -> int:
    return _passed(r.until) - _passed(r.start)


def _prune_bundles(directory: Path, keep: int) -> None:
    for old in sorted(directory.glob("step-*"))[:-keep]:
        shutil.rmtree(old)


def _same_recipe(saved: dict[str, Any], wanted: dict[str, Any], path: Path) -> None:
    """A student goes on only with the settings it began with: others would make a run that nobody can repeat."""
    for key, value in _flat(wanted).items():
        before = _flat(saved).get(key)
        if before != value and not (before is None and key in UNSAID):
            raise CheckpointError(
                f"{path}: was made with {key} = {before!r}, the settings now say {value!r}; "
                "set it back, or start a new student in another distil.directory"
            )


def _flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return flat

"""The built-in teacher: a large ranker for products that have none yet, trained from labelled examples.

A trained teacher is a folder of two files. `teacher.json` holds the format, the feature specification, the vocabulary,
the sizes, and the hash of `weights.safetensors`. That file holds all arrays, also the catalogue of the training.
Loading checks hashes and shapes, and that numbers are finite. It runs no code from the files.

An item that came after the training is scored by its attributes and the row of unknown items. An item that the teacher
never got is masked.

It knows nothing of logs or metrics.

Example:
    >>> import tempfile
    >>> from recdistill.records import Candidate, Event, Impression, Item, Ranking
    >>> asked = Impression("i", 9, history=(Event("a", 1),), candidates=(Candidate("b"), Candidate("z")))
    >>> lists = [Example(Ranking(asked, "", "", "rank", (0.0, 0.0), (False, False)), (1.0, 0.0), "closed")]
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     small = Training(dim=4, heads=1, pooled_dim=4, epochs=1)
    ...     figures = train_teacher(lists, [Item("a"), Item("b")], FeatureSpec(), small, Path(folder) / "teacher")
    ...     teacher = BuiltinTeacher.load(Path(folder) / "teacher")
    >>> figures["lists"], teacher.score([asked])[0].scored_L.tolist()
    (1, [True, False])
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from recdistill.errors import DataError, TeacherError
from recdistill.features import Catalogue, EncodedItems, FeatureError, FeatureSpec, Vocabulary, encode_column
from recdistill.model import layout
from recdistill.progress import tell
from recdistill.records import Candidate, Example, Impression, Item, Scale
from recdistill.teachers.builtin.causal import CausalTower
from recdistill.teachers.builtin.epochs import CausalTraining, name_of, there
from recdistill.teachers.builtin.files import CausalShape, Saved, Shape, Training, read, write
from recdistill.teachers.builtin.held import hold_out
from recdistill.teachers.builtin.sequences import known_events, single, timelines
from recdistill.teachers.builtin.tower import Tower, table_rows
from recdistill.teachers.builtin.training import Times, fit
from recdistill.teachers.contract import Scores
from recdistill.teachers.missed import Missed

log_ = logging.getLogger(__name__)

_BLOCK = 256  # impressions at once
UNKNOWN = "candidates are not in the catalogue"
_DENSE_SHARE = 32  # if the catalogue has at most so many times the items of a list, all items are scored at once


def shapes(settings: Training) -> list[Shape | CausalShape]:
    """The towers that the settings ask for.

    They are one transformer; or a tower that attends to events, and one that only pools them.

    Raises:
        TeacherError: The heads do not divide the width.
    """
    if settings.dim % settings.heads:
        raise TeacherError(f"teacher_training.heads: {settings.heads} does not divide dim, which is {settings.dim}")
    if settings.kind == "attention":
        return [CausalShape(settings.dim, settings.layers, settings.heads)]
    both: list[Shape | CausalShape] = [Shape(settings.dim, settings.layers, settings.heads)]
    if settings.pooled_dim:
        both.append(Shape(settings.pooled_dim, 0, hidden=2 * settings.pooled_dim))
    return both


def train_teacher(
    examples: Sequence[Example],
    items: Sequence[Item],
    spec: FeatureSpec,
    settings: Training,
    out: Path,
    *,
    keep: Path | None = None,
    progress: Callable[[int, int], object] | None = None,
) -> dict[str, Any]:
    """Trains a teacher and saves it.

    Args:
        examples: Labelled lists, in any order. Their scores are not used.
        items: Catalogue records in log order.
        spec: What the teacher sees.
        settings: Size and schedule.
        out: Folder to write; it must not exist yet.
        keep: Folder for the checkpoints of a transformer. If it holds one of the same training, this goes on from it.
        progress: Called with (done, total), in thousandths of the training.

    Returns:
        Figures: `lists` (labelled lists learnt from), `questions`, `items`, `parameters`, `bytes`, `seconds`,
        `cpu_seconds`, `loss` (mean over the towers, in nats), `version`. A transformer adds `epoch` (the pass that was
        kept), `held_ndcg@10` and `held_out` (held-out choices).

    Raises:
        TeacherError: Nothing can be learnt from these examples, the training diverged, or the settings or the folder do
            not fit.
    """
    began, began_cpu = time.monotonic(), time.process_time()
    if out.exists():
        raise TeacherError(f"{out}: exists already; give another folder or remove it")
    plans = shapes(settings)
    vocabulary = Vocabulary(spec)
    catalogue = Catalogue(spec, vocabulary)
    times = _apply_all(catalogue, items)
    lines = timelines(spec, catalogue, examples)
    if not lines.lists or not len(lines.question_slot_M):
        raise TeacherError(
            f"none of {len(examples)} examples has a positive label on an item of the catalogue; "
            "send items, and feedback whose action join.labels names"
        )
    times = there(times, lines)
    encoded = _own_rows(spec, catalogue.encoded())
    rows = table_rows(spec, vocabulary)
    told = _Told(len(plans), progress)

    seeds = [settings.seed * len(plans) + number for number in range(len(plans))]
    towers = [_new(spec, plan, rows, seed=seed) for plan, seed in zip(plans, seeds, strict=True)]
    more: dict[str, Any] = {}

    def learn(number: int) -> float:
        tower, seed = towers[number], seeds[number]
        report = told.of(number)
        if isinstance(tower, CausalTower):
            random = np.random.default_rng([seed, 3])
            learnt, held = hold_out(lines, spec.history.length, settings.held_out, random)
            name = name_of(spec, settings, lines, times, encoded)
            training = CausalTraining(tower, learnt, held, encoded, times, settings, seed=seed, folder=keep, name=name)
            kept = training.run(report)
            loss = kept.loss
            more.update({"epoch": kept.epoch, "held_ndcg@10": kept.ndcg, "held_out": len(held.cuts)})
        else:
            loss = fit(tower, lines, encoded, times, spec.history.length, settings, seed=seed, progress=report)
        log_.info("tower %d (%s): loss %.4f", number, plans[number], loss)
        return loss

    losses = _in_threads(learn, len(plans))
    arrays = {
        f"{number}.{name}": array.numpy()
        for number, tower in enumerate(towers)
        for name, array in tower.weights().items()
    }
    if not all(np.isfinite(array).all() for array in arrays.values()):  # such a teacher could not be opened again
        raise TeacherError(
            "the training diverged: a weight is no finite number; lower teacher_training.learning_rate or "
            "teacher_training.table_learning_rate"
        )
    saved = Saved(
        spec=spec,
        vocabulary=vocabulary.snapshot(),
        towers=[plan for plan in plans if isinstance(plan, Shape)],
        transformers=[plan for plan in plans if isinstance(plan, CausalShape)],
    )
    version = write(out, saved, arrays | {f"catalogue.{n}": array for n, array in catalogue.snapshot().items()})
    return {
        "lists": lines.lists,
        "questions": len(lines.question_slot_M),
        "items": len(catalogue),
        "parameters": int(sum(array.size for array in arrays.values())),
        "bytes": sum(file.stat().st_size for file in out.iterdir()),
        "seconds": time.monotonic() - began,
        "cpu_seconds": time.process_time() - began_cpu,
        "loss": float(np.mean(losses)),
        "version": version,
    } | more


class BuiltinTeacher:
    """A trained teacher; `load` opens one."""

    id = "builtin"
    scale: Scale = "logit"

    def __init__(self, version: str, catalogue: Catalogue, towers: Sequence[Tower | CausalTower]) -> None:
        self.version = version
        self._missed = Missed()
        self.spec = catalogue.spec
        self._catalogue = catalogue
        self._towers = list(towers)
        self._wide = sum(tower.dim for tower in towers)
        self._outputs = [torch.zeros(0, layout.width(tower.dim)) for tower in towers]
        self._stale: set[int] = set(range(len(catalogue)))
        self._vectors_NE = torch.zeros(0, self._wide)
        self._biases_N = torch.zeros(0)
        self._shared: tuple[tuple[Candidate, ...], npt.NDArray[np.int32]] | None = None

    @classmethod
    def load(cls, path: Path) -> BuiltinTeacher:
        """Opens a folder that `train_teacher` wrote.

        Raises:
            TeacherError: A file is missing, was changed, or has the wrong content.
        """
        saved, version, arrays = read(path)
        try:
            vocabulary = Vocabulary.restore(saved.spec, saved.vocabulary)
            snapshot = {n.removeprefix("catalogue."): a for n, a in arrays.items() if n.startswith("catalogue.")}
            catalogue = Catalogue.restore(saved.spec, vocabulary, snapshot)
        except DataError as e:
            raise TeacherError(f"{path}: {e}") from e
        rows = table_rows(saved.spec, vocabulary)
        towers = []
        for number, shape in enumerate(saved.every):
            own = {n.removeprefix(f"{number}."): a for n, a in arrays.items() if n.startswith(f"{number}.")}
            towers.append(_tower(path, saved.spec, shape, rows, own))
        owners = {name.partition(".")[0] for name in arrays} - {"catalogue"}
        if owners != {str(number) for number in range(len(towers))}:
            raise TeacherError(f"{path}: holds arrays of towers that its description does not name")
        return cls(version, catalogue, towers)

    def why_missing(self) -> str:
        """The most frequent reason for a missing score since the last call."""
        return self._missed.why()

    def apply_items(self, items: Sequence[Item]) -> None:
        """Takes catalogue changes. An item whose attributes do not fit the specification is skipped."""
        for item in items:
            try:
                self._stale.add(self._catalogue.apply(item, admit=False))
            except FeatureError as e:
                log_.warning("item %s is passed over: %s", item.id, e)
        self._shared = None

    @torch.no_grad()
    def score(
        self, impressions: Sequence[Impression], *, deadline_s: float | None = None
    ) -> list[Scores | TeacherError]:
        """Scores each impression's candidates; see the contract."""
        ends = None if deadline_s is None else time.monotonic() + deadline_s
        self._refresh()
        answers: list[Scores | TeacherError] = [TeacherError("not scored")] * len(impressions)
        events = [known_events(self.spec, self._catalogue, impression) for impression in impressions]
        order = sorted(range(len(impressions)), key=lambda n: len(events[n]))  # equal lengths need no padding
        for start in range(0, len(order), _BLOCK):
            numbers = order[start : start + _BLOCK]
            if ends is not None and time.monotonic() > ends:
                for number in numbers:
                    answers[number] = TeacherError(
                        f"impression {impressions[number].id}: the deadline of {deadline_s:g} s passed before its turn"
                    )
                continue
            block = [impressions[number] for number in numbers]
            for number, answer in zip(numbers, self._block(block, [events[n] for n in numbers]), strict=True):
                answers[number] = answer
        return answers

    @property
    def item_ids(self) -> list[str]:
        """Every item that it ever got, in the order of `catalogue_scores`. Not to be changed."""
        return self._catalogue.ids

    @torch.no_grad()
    def catalogue_scores(self, impressions: Sequence[Impression]) -> npt.NDArray[np.float32]:
        """Scores of the whole catalogue for some impressions. Their candidates are not used.

        Returns:
            f32 `[B, N]`, a column for each of `item_ids`. `score` gives the same for these items as candidates.
            Withdrawn items and items of the history have scores too.

        Raises:
            TeacherError: The context of an impression does not fit the specification. The message names the first one.
        """
        self._refresh()
        scores_BN = np.empty((len(impressions), len(self._biases_N)), np.float32)
        for start in range(0, len(impressions), _BLOCK):
            block = impressions[start : start + _BLOCK]
            events = [known_events(self.spec, self._catalogue, impression) for impression in block]
            users_BE, errors = self._users(block, events)
            if errors:
                raise _not_fitting(block, errors[0])
            torch.addmm(
                self._biases_N, users_BE, self._vectors_NE.T, out=torch.from_numpy(scores_BN[start : start + _BLOCK])
            )
        return scores_BN

    def _block(
        self, block: Sequence[Impression], events: Sequence[list[tuple[int, int, int]]]
    ) -> list[Scores | TeacherError]:
        users_BE, errors = self._users(block, events)
        answers = self._answers(block, users_BE)
        for error in errors:
            answers[error.row or 0] = _not_fitting(block, error)
        return answers

    def _users(
        self, block: Sequence[Impression], events: Sequence[list[tuple[int, int, int]]]
    ) -> tuple[torch.Tensor, list[FeatureError]]:
        """The user vectors of all towers side by side, `[B, E]`, and the errors of contexts that do not fit."""
        errors: list[FeatureError] = []
        context = {
            name: encode_column(
                f"context.{name}",
                field,
                [impression.context.get(name) for impression in block],
                self._catalogue.vocabulary,
                errors=errors,
            )
            for name, field in self.spec.context.items()
        }
        asked = single(events, [impression.time_us for impression in block], context)
        slots_BL = torch.from_numpy(asked.slots_BL)
        users_BE = torch.cat(
            [tower.users(items, asked, slots_BL) for tower, items in zip(self._towers, self._outputs, strict=True)], 1
        )
        return users_BE, errors

    def _answers(self, block: Sequence[Impression], users_BE: torch.Tensor) -> list[Scores | TeacherError]:
        # All impressions of the block have one list: score it for all of them with one product.
        first = block[0].candidates
        if len(block) > 1 and all(impression.candidates is first for impression in block):
            slots_L = self._slots(first)
            known_L = slots_L >= 0
            self._missed.unknown(first, known_L, UNKNOWN)
            places = torch.from_numpy(np.where(known_L, slots_L, 0).astype(np.int64))
            values_BL = torch.addmm(self._biases_N[places], users_BE, self._vectors_NE[places].T).numpy()
            values_BL = np.where(known_L, values_BL, np.float32(0))
            return [Scores(values_L, known_L.copy()) for values_L in values_BL]
        slots = [self._slots(impression.candidates) for impression in block]
        answers: list[Scores | TeacherError] = []
        # A small catalogue is scored as a whole, and each list picks its items; else each list is scored alone.
        every = len(self._biases_N) <= _DENSE_SHARE * max(1, *map(len, slots))
        all_BN = torch.addmm(self._biases_N, users_BE, self._vectors_NE.T).numpy() if every else None
        for row, slots_L in enumerate(slots):
            known_L = slots_L >= 0
            self._missed.unknown(block[row].candidates, known_L, UNKNOWN)
            places_L = np.where(known_L, slots_L, 0)
            if not known_L.any():
                values_L = np.zeros(len(slots_L), np.float32)
            elif all_BN is not None:
                values_L = all_BN[row, places_L]
            else:
                places = torch.from_numpy(places_L.astype(np.int64))
                values_L = (self._vectors_NE[places] @ users_BE[row] + self._biases_N[places]).numpy()
            answers.append(Scores(np.where(known_L, values_L, np.float32(0)), known_L))
        return answers

    def _slots(self, candidates: tuple[Candidate, ...]) -> npt.NDArray[np.int32]:
        """Slots of a list. The last list is kept, because a caller may use the same list many times."""
        if self._shared is None or self._shared[0] is not candidates:
            slots_L = self._catalogue.slots([candidate.item for candidate in candidates])
            self._shared = (candidates, slots_L)
        return self._shared[1]

    def _refresh(self) -> None:
        """Computes the vectors of changed items again."""
        if not self._stale:
            return
        slots = np.array(sorted(self._stale), np.int64)
        missing = len(self._catalogue) - len(self._biases_N)
        if missing:
            self._biases_N = torch.cat([self._biases_N, torch.zeros(missing)])
            self._vectors_NE = torch.cat([self._vectors_NE, torch.zeros(missing, self._wide)])
            self._outputs = [torch.cat([one, torch.zeros(missing, one.shape[1])]) for one in self._outputs]
        encoded = _own_rows(self.spec, self._catalogue.encoded(slots))
        places = torch.from_numpy(slots)
        for number, tower in enumerate(self._towers):
            self._outputs[number][places] = tower.items(encoded.id_rows_N, encoded.fields)
        # The mean over towers as one product: vectors side by side and biases summed, both divided by the tower count.
        share = 1.0 / len(self._towers)
        self._vectors_NE[places] = torch.cat([o[places, layout.VECTOR] for o in self._outputs], 1) * share
        self._biases_N[places] = torch.stack([o[places, layout.BIAS] for o in self._outputs]).sum(0) * share
        self._stale.clear()


def _in_threads(learn: Callable[[int], float], count: int) -> list[float]:
    """Runs `learn` for 0 to count - 1. Towers share nothing, not even random numbers, and torch releases the GIL."""
    if count == 1:  # here, so that Ctrl-C ends it at once
        return [learn(0)]
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(max(1, threads // count))
        with ThreadPoolExecutor(min(threads, count)) as pool:
            return list(pool.map(learn, range(count)))
    finally:
        torch.set_num_threads(threads)


class _Told:
    """Adds up the progress of all towers for one progress bar."""

    def __init__(self, towers: int, progress: Callable[[int, int], object] | None) -> None:
        self._done, self._loss = [0.0] * towers, [0.0] * towers
        self._progress = progress
        self._last = -1
        self._lock = Lock()

    def of(self, number: int) -> Callable[[float, float], None]:
        """The function that one tower reports to."""

        def report(share: float, loss: float) -> None:
            with self._lock:
                self._done[number], self._loss[number] = share, loss
                thousandths = int(1000 * sum(self._done) / len(self._done))
                if self._progress is not None and thousandths > self._last:
                    self._last = thousandths
                    tell(self._progress, {"loss": sum(self._loss) / len(self._loss)})
                    self._progress(thousandths, 1000)

        return report


def _apply_all(catalogue: Catalogue, items: Sequence[Item]) -> Times:
    """Applies records in log order, and notes from when to when each item was there."""
    forever = np.iinfo(np.int64).max
    since: list[int] = []
    until: list[int] = []
    for item in items:
        try:
            slot = catalogue.apply(item, admit=True)
        except FeatureError as e:
            log_.warning("item %s is passed over: %s", item.id, e)
            continue
        if slot == len(since):
            since.append(item.time_us)
            until.append(forever)
        if catalogue.item(slot).withdrawn:
            until[slot] = min(until[slot], item.time_us or forever)
        else:
            until[slot] = forever
    return Times(np.array(since, np.int64), np.array(until, np.int64))


def _not_fitting(block: Sequence[Impression], error: FeatureError) -> TeacherError:
    return TeacherError(f"impression {block[error.row or 0].id}: {error.field}: {error.problem}")


def _own_rows(spec: FeatureSpec, encoded: EncodedItems) -> EncodedItems:
    """Rows of the teacher's id table. It has no hashed rows: they all become the unknown row."""
    own_N = np.maximum(encoded.id_rows_N - spec.id.hashed, 0)
    return EncodedItems(own_N, encoded.fields)


def _new(spec: FeatureSpec, shape: Shape | CausalShape, rows: Mapping[str, int], *, seed: int) -> Tower | CausalTower:
    if isinstance(shape, CausalShape):
        return CausalTower(spec, shape, rows, seed=seed)
    return Tower(spec, shape, rows, seed=seed)


def _tower(
    path: Path,
    spec: FeatureSpec,
    shape: Shape | CausalShape,
    rows: Mapping[str, int],
    arrays: Mapping[str, npt.NDArray[Any]],
) -> Tower | CausalTower:
    """A tower with saved weights. Their names and shapes must be exactly those of the tower."""
    tower = _new(spec, shape, rows, seed=0)
    weights = tower.weights()
    if set(weights) != set(arrays):
        raise TeacherError(f"{path}: a tower's arrays differ in {', '.join(sorted(set(weights) ^ set(arrays))[:4])}")
    for name, weight in weights.items():
        array = arrays[name]
        if array.dtype != np.float32 or array.shape != tuple(weight.shape):
            raise TeacherError(f"{path}: {name} is {array.dtype} {array.shape}, not float32 {tuple(weight.shape)}")
        if not np.isfinite(array).all():
            raise TeacherError(f"{path}: {name} holds a number that is not finite")
        with torch.no_grad():
            weight.copy_(torch.from_numpy(array.copy()))
    return tower.eval()

"""How a transformer of the built-in teacher learns: pass after pass, until held-out choices are ranked no better.

Each pass cuts every timeline into windows, each event in one of them, and learns all their questions by the softmax
over the whole catalogue, or over the chosen and some drawn items of a large one. The weights that count are a
running average of the trained ones. After each pass they rank the last choice of some timelines, which are not learnt;
the pass with the best NDCG@10 is kept, and the training ends when `patience` passes were no better.

After each pass a checkpoint is written with all that the next one needs, random states included. So a training that is
killed goes on from its last whole pass, and ends with the same bytes.

It knows nothing of records or folders of teachers.

Example:
    >>> average_share(0, 1000), round(average_share(10**6, 1000), 4)
    (0.1, 0.999)
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import resource
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from recdistill import checkpoint
from recdistill.features import EncodedItems, FeatureSpec
from recdistill.model import layout
from recdistill.sealed import discard
from recdistill.teachers.builtin.causal import CausalTower
from recdistill.teachers.builtin.files import Training
from recdistill.teachers.builtin.held import Bools, Held, had
from recdistill.teachers.builtin.sequences import Ints, Timelines, batches, cut, windows
from recdistill.teachers.builtin.softmax import Barred, cross_entropy
from recdistill.teachers.builtin.tower import dropout
from recdistill.teachers.builtin.training import FULL_CATALOGUE, Columns, Times

log_ = logging.getLogger(__name__)

CUT: Final = 10
ID_DROPOUT: Final = 0.02
"""How often an item is trained without its own row. So the row of unknown items learns."""
OPEN_SHARE: Final = 0.2
"""In this share of the windows, what the user had before is not barred. An item's vector is in the state that has read
it, so without this the items of a history would score highest wherever a list holds them.
"""
WEIGHT_DECAY: Final = 0.01
_WARM_UP: Final = 100  # steps
_AVERAGED: Final = 2.0  # passes over which the running average of the weights reaches
ROWS: Final = "epochs.jsonl"


@dataclass
class Outcome:
    """What a training found.

    Args:
        epoch: The pass that was kept, from 1.
        loss: Its mean cross-entropy, in nats.
        ndcg: Its NDCG@10 of the held-out choices; NaN without any.
        held_loss: Their cross-entropy. Of two passes with the same NDCG, the one with the smaller is better.
        rows: One for each pass.
    """

    epoch: int = 0
    loss: float = math.nan
    ndcg: float = -math.inf
    held_loss: float = math.inf
    rows: list[dict[str, Any]] = field(default_factory=list)


def average_share(step: int, steps: float) -> float:
    """How much of the running average stays at a step. It reaches over some `steps`, less at the beginning."""
    return min(1.0 - 1.0 / max(2.0, steps), (1.0 + step) / (10.0 + step))


def _told(figure: float) -> float | None:
    """A figure as JSON has it: one that is not finite is None. Such figures come of a pass that diverged."""
    return round(figure, 5) if math.isfinite(figure) else None


def _put(parameters: dict[str, nn.Parameter], weights: dict[str, Tensor]) -> None:
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(weights[name])


class CausalTraining:
    """The training of one transformer.

    Args:
        tower: Changed in place.
        lines: The timelines to learn from, with at least one question.
        held: Held-out questions.
        encoded: The rows of all items, in slot order.
        times: When the items were there.
        settings: Rate, dropout, passes, windows a step, patience.
        seed: Seed of everything that is drawn.
        folder: Where checkpoints and rows are kept; None: nowhere.
        name: What tells this training from one with other records or settings.
        full: Up to so many items, the softmax is over all of them.
    """

    def __init__(
        self,
        tower: CausalTower,
        lines: Timelines,
        held: Held,
        encoded: EncodedItems,
        times: Times,
        settings: Training,
        *,
        seed: int,
        folder: Path | None = None,
        name: str = "",
        full: int = FULL_CATALOGUE,
    ) -> None:
        self.tower, self.lines, self.held, self.encoded, self.times = tower, lines, held, encoded, times
        self.settings, self.folder, self.name = settings, folder, name
        self.length = tower.spec.history.length
        self.random = np.random.default_rng([seed, 2])
        self.generator = torch.Generator().manual_seed(seed)
        self.drop = dropout(settings.dropout, self.generator)
        self.parameters = dict(tower.named_parameters())
        flat = [p for n, p in self.parameters.items() if p.ndim < 2 or n.startswith("_collection")]
        wide = [p for n, p in self.parameters.items() if p.ndim >= 2 and not n.startswith("_collection")]
        self.optimizer = torch.optim.AdamW(
            [{"params": wide, "weight_decay": WEIGHT_DECAY}, {"params": flat, "weight_decay": 0.0}],
            lr=settings.learning_rate,
            betas=(0.9, 0.98),
            foreach=True,
        )
        chosen_N = np.bincount(lines.question_slot_M, minlength=len(encoded.id_rows_N)).astype(float)
        self.columns = Columns(chosen_N, full=full)
        self.everything = tower.bags_of(encoded.fields) if self.columns.full else None
        self.steps = max(
            1, -(-len(cut(lines, self.length, np.random.default_rng(seed), overlapping=False)) // settings.batch)
        )
        self.step = self.epoch = 0
        self.average = {n: p.detach().clone() for n, p in self.parameters.items()}
        self.best = self.average
        self.outcome = Outcome()

    # Passes

    def run(self, progress: Callable[[float, float], None]) -> Outcome:
        """Trains to the end, from where an earlier run of the same training stopped. The best weights stay."""
        self._resume()
        while self.epoch < self.settings.epochs and self.epoch - self.outcome.epoch < self.settings.patience:
            began, began_cpu = time.monotonic(), time.process_time()
            loss = self._pass(progress)
            self.epoch += 1
            ndcg, held_loss = self._validate()
            row = {
                "epoch": self.epoch,
                "loss": _told(loss),
                "held_ndcg@10": _told(ndcg),
                "held_loss": _told(held_loss),
                "seconds": round(time.monotonic() - began, 2),
                "cpu_seconds": round(time.process_time() - began_cpu, 2),
                "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
            }
            self.outcome.rows.append(row)
            log_.info("%s", row)
            if math.isnan(ndcg) or (ndcg, -held_loss) > (self.outcome.ndcg, -self.outcome.held_loss):
                self.outcome = Outcome(
                    epoch=self.epoch, loss=loss, ndcg=ndcg, held_loss=held_loss, rows=self.outcome.rows
                )
                self.best = {n: a.clone() for n, a in self.average.items()}
            self._save()
        _put(self.parameters, self.best)
        self.tower.eval()
        progress(1.0, self.outcome.loss)
        return self.outcome

    def _pass(self, progress: Callable[[float, float], None]) -> float:
        self.tower.train()
        total, count = 0.0, 0.0
        cuts = cut(self.lines, self.length, self.random, overlapping=False)
        for some in batches(cuts, self.settings.batch, self.random):
            for group in self.optimizer.param_groups:
                group["lr"] = self.settings.learning_rate * min(1.0, (self.step + 1) / _WARM_UP)
            loss, weight = self._loss(self.lines, some, self.drop)
            self.optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(list(self.parameters.values()), 1.0)
            self.optimizer.step()
            share = average_share(self.step, _AVERAGED * self.steps)
            with torch.no_grad():
                torch._foreach_lerp_(list(self.average.values()), list(self.parameters.values()), 1.0 - share)
            self.step += 1
            total, count = total + loss.item() * weight, count + weight
            progress(min(1.0, self.step / (self.steps * self.settings.epochs)), loss.item())
        return total / max(count, 1e-9)

    def _loss(self, lines: Timelines, cuts: Ints, drop: Any) -> tuple[Tensor, float]:
        """The loss of a batch of windows, and the sum of its questions' weights."""
        columns, encoded = self.columns, self.encoded
        asked, question_BQ = windows(lines, cuts, 4 * self.length, self.random)
        question_M = question_BQ[question_BQ >= 0]
        chosen_M = lines.question_slot_M[question_M]
        slots_C, correction_C = columns.draw(chosen_M, self.random)
        known = slots_C if columns.full else np.union1d(slots_C, asked.slots_BL[asked.slots_BL >= 0])
        place_N = np.full(columns.count, -1)
        place_N[known] = np.arange(len(known))
        id_rows = np.where(self.random.random(len(known)) < ID_DROPOUT, 0, encoded.id_rows_N[known])
        fields = encoded.fields if columns.full else {n: a[known] for n, a in encoded.fields.items()}
        items_UW = self.tower.items(id_rows, fields, self.everything)
        slots_BL = np.where(asked.slots_BL >= 0, place_N[asked.slots_BL], -1)
        users_MD = self.tower.users(items_UW, asked, torch.from_numpy(slots_BL), drop)
        items_CW = items_UW if columns.full else items_UW[torch.from_numpy(place_N[slots_C])]
        biases_C = items_CW[:, layout.BIAS]
        if correction_C is not None:
            biases_C = biases_C - torch.from_numpy(correction_C)
        weight_M = torch.from_numpy(lines.question_weight_M[question_M])
        target_M = torch.from_numpy(np.searchsorted(slots_C, chosen_M))
        bars_B = self.random.random(len(cuts)) >= OPEN_SHARE
        barred = self._barred(lines, cuts, question_BQ, slots_C, target_M, bars_B)
        loss = cross_entropy(users_MD, items_CW[:, layout.VECTOR].contiguous(), biases_C, target_M, weight_M, barred)
        return loss, float(weight_M.sum())

    def _barred(
        self, lines: Timelines, cuts: Ints, question_BQ: Ints, slots_C: Ints, target_M: Tensor, bars_B: Bools
    ) -> Barred:
        column_N = np.full(self.columns.count, -1)
        column_N[slots_C] = np.arange(len(slots_C))
        question_R, column_R = had(lines, cuts, question_BQ, column_N, bars_B)
        gone = None
        if self.times.matter:
            asked_M = torch.from_numpy(lines.question_time_us_M[question_BQ[question_BQ >= 0]])
            from_C, until_C = self.times.from_us_N[slots_C], self.times.until_us_N[slots_C]
            gone = (asked_M, torch.from_numpy(from_C), torch.from_numpy(until_C))
        return Barred(target_M, len(slots_C), question_R, column_R, gone)

    # Held-out choices

    @torch.no_grad()
    def _validate(self) -> tuple[float, float]:
        """NDCG@10 and cross-entropy of the held-out choices under the averaged weights; NaN without any."""
        cuts = self.held.cuts
        if not len(cuts):
            return math.nan, math.nan
        trained = {n: p.detach().clone() for n, p in self.parameters.items()}
        _put(self.parameters, self.average)
        self.tower.eval()
        lines, gains, losses = self.held.lines, [], []
        items_NW = self.tower.items(self.encoded.id_rows_N, self.encoded.fields)
        every = np.arange(self.columns.count)
        for start in range(0, len(cuts), 256):
            some = cuts[start : start + 256]
            asked, question_BQ = windows(lines, some, 1, np.random.default_rng(0))
            users_MD = self.tower.users(items_NW, asked, torch.from_numpy(asked.slots_BL))
            target_M = torch.from_numpy(lines.question_slot_M[question_BQ[:, 0]])
            scores_MN = torch.addmm(items_NW[:, layout.BIAS], users_MD, items_NW[:, layout.VECTOR].T)
            self._barred(lines, some, question_BQ, every, target_M, np.ones(len(some), bool)).bar(scores_MN, 0)
            own_M1 = scores_MN.gather(1, target_M[:, None])
            rank_M = (~(scores_MN < own_M1)).sum(1)  # NaN, of weights that diverged, is the last place
            gains.append(torch.where(rank_M <= CUT, 1 / (1.0 + rank_M).log2(), 0.0))
            losses.append(scores_MN.logsumexp(1) - own_M1[:, 0])
        _put(self.parameters, trained)
        return float(torch.cat(gains).mean()), float(torch.cat(losses).mean())

    # What is kept

    def _save(self) -> None:
        if self.folder is None:
            return
        names = {id(p): n for n, p in self.parameters.items()}
        tensors = {f"trained/{n}": p.detach() for n, p in self.parameters.items()}
        tensors |= {f"average/{n}": a for n, a in self.average.items()} | {f"best/{n}": a for n, a in self.best.items()}
        for parameter, state in self.optimizer.state.items():
            tensors |= {f"{key}/{names[id(parameter)]}": state[key] for key in ("exp_avg", "exp_avg_sq")}
        tensors["generator"] = self.generator.get_state()
        kept = self.outcome
        figures = [one if math.isfinite(one) else None for one in (kept.loss, kept.ndcg, kept.held_loss)]
        state = {
            "name": self.name,
            "step": self.step,
            "random": self.random.bit_generator.state,
            "best": [kept.epoch, *figures],
            "rows": kept.rows,
        }
        path = checkpoint.save(self.folder, self.epoch, {n: t.numpy() for n, t in tensors.items()}, state)
        checkpoint.prune(self.folder, 2, good=path)
        lines = "".join(json.dumps(row) + "\n" for row in kept.rows)
        (self.folder / ROWS).write_text(lines, encoding="utf-8")

    def _resume(self) -> None:
        found = None if self.folder is None else checkpoint.latest(self.folder)
        if found is None:
            return
        if found.state["name"] != self.name:
            log_.warning("%s: is of a training with other records or settings; this one starts again", self.folder)
            for path in self.folder.glob("step-*") if self.folder is not None else ():
                discard(path)
            return
        tensors = {n: torch.from_numpy(a.copy()) for n, a in found.tensors.items()}
        for name, parameter in self.parameters.items():
            self.average[name] = tensors[f"average/{name}"]
            if f"exp_avg/{name}" in tensors:
                self.optimizer.state[parameter] = {
                    "step": torch.tensor(float(found.state["step"])),
                    "exp_avg": tensors[f"exp_avg/{name}"],
                    "exp_avg_sq": tensors[f"exp_avg_sq/{name}"],
                }
        _put(self.parameters, {n: tensors[f"trained/{n}"] for n in self.parameters})
        self.best = {n: tensors[f"best/{n}"] for n in self.parameters}
        self.generator.set_state(tensors["generator"])
        self.random.bit_generator.state = found.state["random"]
        self.step, self.epoch = found.state["step"], found.step
        epoch, *figures = found.state["best"]
        loss, ndcg, held_loss = (math.nan if one is None else one for one in figures)
        rows = found.state["rows"]
        self.outcome = Outcome(epoch=epoch, loss=loss, ndcg=ndcg, held_loss=held_loss, rows=rows)
        log_.info("%s: goes on after pass %d", self.folder, self.epoch)


def there(times: Times, lines: Timelines) -> Times:
    """When the items were there, told by the events, too.

    The time of an item's record is often that of a first load of a catalogue. If somebody had the item before it, the
    item counts as there from the beginning. Else it would be barred for nearly all events of older histories.
    """
    known_E = lines.times_us_E > 0
    first_N = np.full(len(times.from_us_N), np.iinfo(np.int64).max)
    np.minimum.at(first_N, lines.slots_E[known_E], lines.times_us_E[known_E])
    return Times(np.where(first_N < times.from_us_N, 0, times.from_us_N), times.until_us_N)


def name_of(spec: FeatureSpec, settings: Training, lines: Timelines, times: Times, encoded: EncodedItems) -> str:
    """What tells a training from one with other records or settings. How long it lasts makes no other one of it."""
    told = [getattr(settings, one) for one in ("dim", "layers", "heads", "dropout", "batch", "learning_rate", "seed")]
    content = hashlib.sha256(msgspec.json.encode([spec.hash, *told, settings.held_out]))
    arrays: list[npt.NDArray[Any]] = [times.from_us_N, times.until_us_N, encoded.id_rows_N]
    arrays += [encoded.fields[field_name] for field_name in sorted(encoded.fields)]
    arrays += [lines.first_T1, lines.slots_E, lines.times_us_E, lines.actions_E]
    arrays += [lines.question_at_M, lines.question_slot_M, lines.question_time_us_M, lines.question_weight_M]
    arrays += [lines.context[field_name] for field_name in sorted(lines.context)]
    for array in arrays:
        content.update(np.ascontiguousarray(array).tobytes())
    return content.hexdigest()

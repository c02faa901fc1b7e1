"""The watch in real training: a simulated world, a teacher that knows its truth, and what becomes of the student."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache

import numpy as np
import pytest
import torch

from recdistill.config import LossSettings, StudentSettings, WatchSettings
from recdistill.data.simulated.simulator import SimulatorSettings, simulate
from recdistill.features import FeatureSpec, Lists
from recdistill.loops.trainers import make_trainer
from recdistill.metrics import ndcg
from recdistill.records import Example, Impression, Item, Ranking
from recdistill.train import Batch, Trainer
from recdistill.watch.detectors import Chance, Detectors
from recdistill.watch.known import Known

pytestmark = pytest.mark.slow

BATCH = 128
STUDENT = StudentSettings(dim=16, hidden=32, context_dim=4)
Change = Callable[[int, np.ndarray, np.random.Generator], np.ndarray]
Name = Callable[[int], str]


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class World:
    """Examples in the order of time, scored by the truth with some noise; the last ones are held out."""

    def __init__(self, seed: int, impressions: int) -> None:
        data, truth = simulate(
            SimulatorSettings(
                items=600, users=impressions // 6, impressions=impressions, days=60, shortest=15, longest=30, history=20
            ),
            seed=seed,
        )
        random = np.random.default_rng(seed)
        taken: dict[str, set[str]] = {}
        for click in data.feedback:
            taken.setdefault(click.impression_id, set()).add(click.item)
        self.spec: FeatureSpec = data.spec
        self.items: list[Item] = list(data.items)
        self.examples: list[Example] = []
        for impression in data.impressions:
            rows = [truth.row(c.item) for c in impression.candidates]
            scores = truth.utilities(impression.id)[rows] + 0.5 * random.normal(size=len(rows))
            labels = tuple(float(c.item in taken.get(impression.id, ())) for c in impression.candidates)
            asked = Ranking(impression, "t", "1", "logit", tuple(scores.tolist()), (True,) * len(rows))
            self.examples.append(Example(asked, labels, "closed"))
        cut = int(0.8 * len(self.examples))
        self.learnt, self.held = self.examples[:cut], self.examples[cut:]

    def train(
        self, change: Change | None = None, name: Name | None = None, *, seed: int = 0, passes: int = 1, **watch: object
    ) -> tuple[Trainer, list[str]]:
        """A student of the lists as some event has changed them, and what was said on the way."""
        settings = WatchSettings(**{"act": "quarantine", **watch})  # type: ignore[arg-type]
        trainer = make_trainer(self.spec, STUDENT, LossSettings(), seed=seed, watch=settings)
        assert trainer.apply_items(self.items) == []
        random, batches, news = np.random.default_rng(seed), [], []
        for start in range(0, len(self.learnt), BATCH):
            batch = self.learnt[start : start + BATCH]
            lists = trainer.encode(batch).lists
            if change is not None:
                altered(lists, start, change, random)
            names = [name(start + i) if name else "t@1" for i in range(len(batch))]
            batches.append(Batch.of(lists, ["logit"] * len(batch), names, settings.comparable))
        for number in range(passes):
            assert trainer.watch is not None
            trainer.watch.rewind()
            for one in batches:
                trainer.learn(one.once_more() if number > 0 else one)
            news += trainer.watch.news
            trainer.watch.news.clear()
        return trainer, news

    def ndcg(self, trainer: Trainer) -> float:
        """Mean NDCG@10 of the student's order of each held-out list that has a click."""
        clicked = [example for example in self.held if any(example.labels)]
        return float(np.mean([ndcg(scores_of(trainer, e.ranking.impression), e.labels, k=10) for e in clicked]))

    def spread(self, trainer: Trainer) -> float:
        """Mean standard deviation of the student's scores of a held-out list."""
        return float(np.mean([scores_of(trainer, e.ranking.impression).std() for e in self.held[:200]]))


def scores_of(trainer: Trainer, impression: Impression) -> np.ndarray:
    slots = trainer.catalogue.slots([c.item for c in impression.candidates])
    return np.asarray(trainer.score([impression], slots)[0])


def altered(lists: Lists, start: int, change: Change, random: np.random.Generator) -> None:
    for i, real in enumerate(lists.scored_BL):
        lists.teacher_scores_BL[i, real] = change(start + i, lists.teacher_scores_BL[i, real], random)


@cache
def world(seed: int = 0, impressions: int = 5000) -> World:
    return World(seed, impressions)


@cache
def of_a_sound_teacher() -> tuple[float, float]:
    """The figure of a student whose teacher stays as it is, and the spread of its scores."""
    plain, news = world().train()
    assert news == []
    return world().ndcg(plain), world().spread(plain)


HALF = 2000


def shuffled(at: int, scores: np.ndarray, random: np.random.Generator) -> np.ndarray:
    return random.permutation(scores) if at >= HALF else scores


@pytest.mark.parametrize(("factor", "offset"), [(30.0, -7.0), (0.02, 3.0)])
def test_an_affine_rescaling_in_mid_stream_moves_the_student_by_less_than_half_a_percent(
    factor: float, offset: float
) -> None:
    here = world()

    def change(at: int, scores: np.ndarray, random: np.random.Generator) -> np.ndarray:
        return factor * scores + offset if at >= HALF else scores

    plain, usual = of_a_sound_teacher()
    rescaled, news = here.train(change)
    assert abs(here.ndcg(rescaled) / plain - 1) < 0.005
    [said] = news
    assert "the scale of teacher t@1 jumped" in said
    # Taken as the scale says, the unit is learnt: the student's own scores spread by it.
    followed, _ = here.train(change, comparable="scale")
    assert here.spread(rescaled) == pytest.approx(usual, rel=0.02)
    assert not 0.8 < here.spread(followed) / usual < 1.25


def test_a_shuffled_teacher_is_quarantined_and_does_no_harm() -> None:
    here = world()
    watched, news = here.train(shuffled)
    believed, _ = here.train(shuffled, act="notice")
    assert watched.watch is not None
    assert len(news) == 1
    known = watched.watch.now.known["t@1"]
    assert known.reason == "order"
    assert HALF - 30 <= known.since <= HALF + 30
    quarantined = watched.watch.counts["quarantined_lists"]
    assert len(here.learnt) - HALF - 2000 <= quarantined <= len(here.learnt) - HALF + BATCH
    assert here.ndcg(watched) > here.ndcg(believed)


def test_of_new_versions_the_honest_one_is_learnt_and_the_random_one_is_not() -> None:
    here = world()

    def name(at: int) -> str:
        return "t@2" if at >= HALF else "t@1"

    honest, news = here.train(name=name)
    assert honest.watch is not None
    assert "is learnt from" in news[-1]
    assert 0 < honest.watch.counts["probation_lists"] < 400
    assert honest.watch.counts["quarantined_lists"] == 0
    random, news = here.train(shuffled, name)
    assert random.watch is not None
    assert "too little" in news[-1]
    kept_out = random.watch.counts["probation_lists"] + random.watch.counts["quarantined_lists"]
    assert kept_out == len(here.learnt) - HALF


def test_several_passes_leave_a_sound_teacher_alone_and_learn_no_shuffled_list() -> None:
    here = world()
    trainer, news = here.train(passes=4)
    assert news == []
    trainer, news = here.train(shuffled, passes=3)
    assert len(news) == 1
    assert trainer.watch is not None
    rest = len(here.learnt) - HALF
    assert trainer.watch.counts["quarantined_lists"] == pytest.approx(3 * rest, abs=2 * BATCH)


@pytest.mark.slow
def test_twenty_clean_runs_accuse_nobody() -> None:
    """Twenty worlds and students, in which tastes drift and items come and go."""
    for seed in range(20):
        _, news = World(seed, 2000).train(seed=seed)
        assert news == [], seed


def test_a_clean_run_accuses_nobody() -> None:
    here = world()
    for seed in (1, 2):
        assert here.train(seed=seed)[1] == []


def test_a_list_with_one_score_teaches_as_one_with_none() -> None:
    here = world()

    def end(scored: int) -> dict[str, bytes]:
        trainer = make_trainer(here.spec, STUDENT, LossSettings(), seed=0, watch=WatchSettings(act="quarantine"))
        trainer.apply_items(here.items)
        lists = trainer.encode(here.learnt[:64]).lists
        lists.scored_BL[::2, scored:] = False
        names = ["t@1"] * 64
        trainer.learn(Batch.of(lists, ["logit"] * 64, names, "standard"))
        return {key: value.tobytes() for key, value in trainer.weights().items()}

    assert end(1) == end(0)
    assert end(2) != end(0)


def test_lists_that_are_not_believed_make_the_others_weigh_no_more() -> None:
    """63 lists of 64 out: the one that is left moves the student by a 64th of what 64 copies of it would."""
    here = world()

    def step(names: list[str]) -> tuple[float, float]:
        trainer = make_trainer(here.spec, STUDENT, LossSettings(), seed=0, watch=WatchSettings(act="quarantine"))
        trainer.apply_items(here.items)
        lists = trainer.encode([here.learnt[0]] * 64).lists
        assert trainer.watch is not None
        trainer.watch.now.at = 5000
        trainer.watch.now.known["old@1"] = Known(0, detectors=Detectors(chance=Chance(proven=True)))
        figures = trainer.learn(Batch.of(lists, ["logit"] * 64, names, "standard"))
        rest = trainer.terms.label * figures["label"]
        return (figures["loss"] - rest) / figures["soft"], figures["soft"]

    all_of_it, soft = step(["old@1"] * 64)
    a_64th, same = step(["old@1"] + ["new@1"] * 63)
    assert same == pytest.approx(soft, rel=0.2)  # rows differ in what dropout leaves them
    assert a_64th == pytest.approx(all_of_it / 64, rel=1e-3)

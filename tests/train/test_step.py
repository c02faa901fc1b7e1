"""The trainer: the same mathematics as a plain torch loop, what it learns, and what a list counts."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
import pytest
from support.steps import BATCHES, ITEMS, SAMPLED, SETTINGS, SPEC, STEADY, STILL, N, bytes_of, example, item, trainer

from recdistill import losses
from recdistill.config import LossSettings, StudentSettings
from recdistill.errors import UsageError
from recdistill.features import FeatureSpec, Field, IdSpec
from recdistill.loops.trainers import make_trainer
from recdistill.records import Candidate, Event, Example, Impression, Item, LabelState, Ranking
from recdistill.train import Trainer, rivals
from recdistill.watch.units import teacher_logits
from references.plain_training import PlainLoop


@pytest.mark.many
@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("way", ["whole", "a sample of all", "soft alone"])
def test_learns_as_a_plain_torch_loop_does(way: str, sparse: bool) -> None:
    loss = LossSettings(soft=0.7, label=0.3, temperature=2.0, full_softmax_items=0 if "sample" in way else 1000)
    if way == "soft alone":
        loss = msgspec.structs.replace(loss, label=0.0)
    whole = loss.label != 0
    ours = trainer(loss=loss, id_dropout=0.0, dropout=0.0, spec=STEADY)  # a plain loop takes no row back
    for batch in BATCHES:  # all context values are admitted before the weights are copied
        ours.encode(batch)
    ours.apply_items([item(7, withdrawn=True, version=1)])
    heights = {key: SPEC.rows(key) for key in ours.student.tables}
    alike = msgspec.structs.replace(SETTINGS, id_dropout=0.0, dropout=0.0)
    plain = PlainLoop(ours.weights(), heights, alike, loss, sparse=sparse)
    compared = 0
    for batch in BATCHES * 3:
        lists = ours.encode(batch).lists
        teacher_BL = teacher_logits(lists, ["logit"] * len(batch))
        live_N = ours.catalogue.live_N
        expected = plain.learn(ours.catalogue.encoded(), lists, teacher_BL, live_N, whole=whole)
        figures = ours.learn(ours.encode(batch))
        assert figures["loss"] == pytest.approx(expected, rel=2e-4)
        compared += figures["positives"] > 0
    assert compared == 36
    theirs = plain.weights()
    for name, value in ours.weights().items():
        assert np.allclose(value, theirs[name][: len(value)], atol=2e-4), name


@pytest.mark.slow
def test_loss_falls() -> None:
    made = trainer()
    first = np.mean([made.learn(made.encode(batch))["label"] for batch in BATCHES])
    for _ in range(20):
        last = np.mean([made.learn(made.encode(batch))["label"] for batch in BATCHES])
    assert last < 0.8 * first


def test_the_sums_of_all_rows_halve_in_the_time_that_is_asked_for() -> None:
    """Steps 1 to 64 learn nothing but lists without a score and without a label; half-life: 32 steps of 256 lists."""
    made = trainer(average_lists=0, forget_lists=32 * 256)
    for batch in BATCHES:
        made.learn(made.encode(batch))
    before = {key: sums.clone() for key, sums in made.student.sparse_state.items()}
    assert all(bool(sums.any()) for sums in before.values())
    asked = Impression("r", 1, candidates=(Candidate("i1"), Candidate("i2")))
    silent = Example(Ranking(asked, "t", "1", "logit", (0.0, 0.0), (False, False)), (0.0, 0.0), "none")
    for _ in range(64):
        made.learn(made.encode([silent]))
    for key, sums in made.student.sparse_state.items():
        assert np.allclose(sums.numpy(), before[key].numpy() / 4, rtol=1e-5, atol=0), key


def test_a_sample_of_all_live_items_is_the_whole_catalogue() -> None:
    changes = [item(7, withdrawn=True, version=1), item(12, withdrawn=True, version=1)]
    whole = trainer(loss=LossSettings(full_softmax_items=N - 2), init=1.0, **STILL)
    sampled = trainer(loss=LossSettings(full_softmax_items=N - 3, sampled_items=N - 2), init=1.0, **STILL)
    for made in (whole, sampled):
        made.apply_items(changes)
    for batch in BATCHES:
        one, other = whole.learn(whole.encode(batch)), sampled.learn(sampled.encode(batch))
        assert one["positives"] > 0
        assert other["label"] == pytest.approx(one["label"], abs=1e-5)
        assert other["soft"] == pytest.approx(one["soft"], abs=1e-5)


@pytest.mark.slow
def test_the_sampled_normaliser_is_right_on_average() -> None:
    """The label loss of a list with one positive is log Z − s; the mean of exp of it is Σ_j exp(s_j − s)."""
    one = next(e for b in BATCHES for e in b if np.count_nonzero(e.labels) == 1 and len(e.ranking.impression.history))
    whole = trainer(loss=LossSettings(), init=1.0, **STILL)
    # By counts, the items of this one list would soon be nearly all that is drawn; tests of Rivals have that case.
    sampled = trainer(loss=msgspec.structs.replace(SAMPLED, sampled_power=0.0), init=1.0, **STILL)
    found = np.exp([sampled.learn(sampled.encode([one]))["label"] for _ in range(1500)])
    expected = np.exp(whole.learn(whole.encode([one]))["label"])
    error = found.std() / np.sqrt(len(found))
    assert 0 < error < 0.05 * expected
    assert abs(found.mean() - expected) < 4 * error
    assert len(np.unique(found)) > 100  # each step draws anew


@pytest.mark.slow
def test_learning_from_samples_lowers_the_loss_over_all() -> None:
    def over_all(made: Trainer) -> float:
        judge = make_trainer(SPEC, msgspec.structs.replace(SETTINGS, **STILL), LossSettings(), seed=3)
        judge.restore(*made.state())
        return float(np.mean([judge.learn(judge.encode(batch))["label"] for batch in BATCHES]))

    whole, sampled = trainer(), trainer(loss=SAMPLED)
    before = over_all(sampled)
    for _ in range(20):
        for batch in BATCHES:
            whole.learn(whole.encode(batch))
            sampled.learn(sampled.encode(batch))
    assert over_all(whole) < 0.8 * before
    assert over_all(sampled) < 0.85 * before


def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def losses_of() -> list[float]:
        made = trainer(id_dropout=0.0, dropout=0.0)
        made.apply_items([item(7, withdrawn=True, version=1)])
        return [made.learn(made.encode(batch))["loss"] for batch in BATCHES]

    at_once = losses_of()
    monkeypatch.setattr(rivals, "LARGE", 20)
    monkeypatch.setattr(rivals, "CHUNK", 7)
    chunks: list[int | None] = []
    plain = losses.catalogue_scores

    def seen(*arguments: Any, chunk: int | None, **more: Any) -> Any:
        chunks.append(chunk)
        return plain(*arguments, chunk=chunk, **more)

    monkeypatch.setattr(losses, "catalogue_scores", seen)
    assert losses_of() == pytest.approx(at_once, rel=1e-5)
    assert set(chunks) == {7}


MEMORY = """
import numpy as np, torch
from recdistill.config import LossSettings, StudentSettings
from recdistill.features import FeatureSpec, IdSpec
from recdistill.records import Candidate, Example, Impression, Item, Ranking
from recdistill.loops.trainers import make_trainer
from recdistill.train import rivals
torch.set_num_threads(1)
count = 60_000
trainer = make_trainer(FeatureSpec(id=IdSpec(capacity=count)), StudentSettings(dim=4), LossSettings(), seed=0)
trainer.apply_items([Item(str(i), withdrawn=i % 10 == 0) for i in range(count)])
def peak():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))
def step(lists):
    asked = [Impression(str(b), 1, candidates=(Candidate(str(b + 1)), Candidate(str(b + 2)))) for b in range(lists)]
    shown = [Example(Ranking(one, "t", "1", "logit", (1.0, 0.0), (True, True)), (1.0, 0.0), "closed") for one in asked]
    trainer.learn(trainer.encode(shown))
step(2)
for large in (rivals.LARGE, 10**9):  # in chunks, and then at once
    rivals.LARGE, before = large, peak()
    step(512)
    print(peak() - before)
"""


@pytest.mark.slow
def test_memory_stays_flat() -> None:
    """512 lists of 60,000 items are 123 MB of scores in one piece."""
    run = subprocess.run([sys.executable, "-c", MEMORY], capture_output=True, text=True, check=True)
    chunks, at_once = map(int, run.stdout.split())
    scores = 512 * 60_000 * 4
    assert chunks < scores / 3  # 8 to 30 MB were seen, by what the imports had needed and given back
    assert chunks + at_once > scores


@pytest.mark.slow
def test_it_learns_the_teachers_order() -> None:
    """A teacher that a two-tower model can match is matched: scores of an untouched list come out in its order."""
    random = np.random.default_rng(0)
    taste = random.normal(size=(N, 3))
    made = trainer(loss=LossSettings(soft=1.0, label=0.0, temperature=1.0), id_dropout=0.0, embedding_learning_rate=0.1)

    def asked(number: int) -> tuple[Impression, np.ndarray]:
        seen = random.permutation(N)[:3]
        candidates = random.permutation(N)[:10]
        impression = Impression(
            f"r{number}",
            100,
            None,
            tuple(Event(f"i{i}", t + 1) for t, i in enumerate(seen)),
            candidates=tuple(Candidate(f"i{i}") for i in candidates),
        )
        return impression, taste[candidates] @ taste[seen].sum(0)

    def learnt_from() -> Example:
        impression, scores = asked(0)
        return Example(Ranking(impression, "t", "1", "logit", tuple(scores.tolist()), (True,) * 10), (0.0,) * 10)

    for _ in range(400):
        made.learn(made.encode([learnt_from() for _ in range(32)]))
    agreement = []
    for number in range(50):
        impression, scores = asked(number)
        slots = made.catalogue.slots([c.item for c in impression.candidates])
        ours = made.score([impression], slots)[0]
        agreement.append(np.corrcoef(ours, scores)[0, 1])
    assert np.mean(agreement) > 0.9


def test_without_soft_the_teacher_has_no_say() -> None:
    def altered(one: Example) -> Example:
        ranking = msgspec.structs.replace(one.ranking, scores=tuple(-5.0 * s for s in one.ranking.scores))
        return msgspec.structs.replace(one, ranking=ranking)

    def end(loss: LossSettings, change: Callable[[Example], Example]) -> dict[str, bytes]:
        made = trainer(loss=loss)
        for batch in BATCHES:
            made.learn(made.encode([change(one) for one in batch]))
        return bytes_of(made)

    alone, distilled = LossSettings(soft=0.0, label=1.0), LossSettings()
    assert end(alone, altered) == end(alone, lambda one: one)
    assert end(distilled, altered) != end(distilled, lambda one: one)


def test_labels_of_an_open_window_say_nothing() -> None:
    def end(labels: bool) -> dict[str, bytes]:
        made = trainer()
        for step in range(5):
            batch = [example(step * 4 + i, closed=False) for i in range(4)]
            if not labels:
                batch = [msgspec.structs.replace(one, labels=(0.0,) * len(one.labels)) for one in batch]
            assert made.learn(made.encode(batch))["label"] == 0
        return bytes_of(made)

    assert end(labels=True) == end(labels=False)


def test_a_fresh_row_depends_on_its_id_alone() -> None:
    forward, backward = (
        make_trainer(SPEC, SETTINGS, LossSettings(), seed=3),
        make_trainer(SPEC, SETTINGS, LossSettings(), seed=3),
    )
    forward.apply_items(ITEMS)
    for one in reversed(ITEMS):  # one by one, the other way round, with steps between
        backward.apply_items([one])
    rows = {made: made.vocabulary.rows("id", [one.id for one in ITEMS]) for made in (forward, backward)}
    assert not np.array_equal(rows[forward], rows[backward])
    ours, theirs = (made.weights()["id"][rows[made]] for made in (forward, backward))
    assert np.array_equal(ours, theirs)
    assert len(np.unique(ours[:, 0])) == N
    assert np.array_equal(ours[:, SETTINGS.dim :], np.zeros((N, 2), np.float32))
    assert ours[:, : SETTINGS.dim].std() == pytest.approx(SETTINGS.init, rel=0.15)


def test_a_late_row_starts_as_an_early_one() -> None:
    late = trainer(items=20)
    for batch in BATCHES:
        late.learn(late.encode(batch))
    late.apply_items(ITEMS[20:])
    early = trainer()
    rows = late.vocabulary.rows("id", [one.id for one in ITEMS[20:]])
    assert np.array_equal(late.weights()["id"][rows], early.weights()["id"][rows])
    tensors, _ = late.state()
    assert np.array_equal(tensors["adagrad/id"][rows], np.zeros_like(tensors["adagrad/id"][rows]))


def test_id_dropout_trains_the_shared_rows() -> None:
    without, with_it = trainer(id_dropout=0.0), trainer(id_dropout=0.5)
    shared = slice(1, 1 + SPEC.id.hashed)
    start = with_it.weights()["id"][shared]
    for batch in BATCHES:
        without.learn(without.encode(batch))
        with_it.learn(with_it.encode(batch))
    assert np.array_equal(without.weights()["id"][shared], start)
    assert (with_it.weights()["id"][shared] != start).any(1).all()


@pytest.mark.slow
def test_an_item_without_a_row_is_placed_by_its_attributes() -> None:
    """Id dropout is there so that a new item lands near those of its kind before any training on it."""
    spec = FeatureSpec(
        item={"kind": Field("category", capacity=4, hashed=0, max_values=1)}, id=IdSpec(capacity=20, hashed=2)
    )
    made = make_trainer(
        spec, StudentSettings(dim=4, id_dropout=0.3), LossSettings(soft=1, label=0, temperature=1), seed=0
    )
    made.apply_items([Item(f"{kind}{i}", attributes={"kind": kind}) for kind in "ab" for i in range(10)])
    random = np.random.default_rng(0)

    def asked(kind: str) -> Impression:
        history = tuple(Event(f"{kind}{i}", 1 + t) for t, i in enumerate(random.permutation(10)[:3]))
        return Impression(
            "r",
            9,
            None,
            history,
            candidates=(Candidate(f"a{random.integers(10)}"), Candidate(f"b{random.integers(10)}")),
        )

    for _ in range(150):
        batch = []
        for kind in "ab" * 8:
            scores = (2.0, -2.0) if kind == "a" else (-2.0, 2.0)
            batch.append(Example(Ranking(asked(kind), "t", "1", "logit", scores, (True, True)), (0.0, 0.0)))
        made.learn(made.encode(batch))
    # The vocabulary is full, so these two have no rows of their own.
    made.apply_items([Item("new a", attributes={"kind": "a"}), Item("new b", attributes={"kind": "b"})])
    assert made.vocabulary.size("id") == spec.rows("id")
    scores_BN = made.score([asked("a"), asked("b")], made.catalogue.slots(["new a", "new b"]))
    assert scores_BN[0, 0] > scores_BN[0, 1] + 1
    assert scores_BN[1, 1] > scores_BN[1, 0] + 1


def test_items_that_do_not_fit_are_left_out() -> None:
    made = trainer()
    refused = made.apply_items([Item("bad", attributes={"image": [1.0]}), Item("good")])
    assert [(place, error.field) for place, error in refused] == [(0, "item.image")]
    assert made.catalogue.slot("bad") == -1
    assert made.catalogue.slot("good") == N


def test_figures() -> None:
    made = trainer()
    one = BATCHES[0][0]
    impression = msgspec.structs.replace(
        one.ranking.impression,
        history=(Event("never heard of", 5), Event("i1", 6)),
        context={"hour": "noon"},
        candidates=(Candidate("i1"), Candidate("i2"), Candidate("who"), Candidate("i3")),
    )
    ranking = Ranking(impression, "t", "1", "logit", (1.0, 0.0, 0.0, 2.0), (True, False, True, True))
    figures = made.learn(made.encode([Example(ranking, (1.0, 0.0, 1.0, 0.0), "closed")]))
    counts = {name: figures[name] for name in ("lists", "scored", "positives", "unknown", "unfit")}
    assert counts == {"lists": 1, "scored": 2, "positives": 1, "unknown": 2, "unfit": 1}
    # The default recipe: .7 of the teacher, .3 of the labels.
    assert figures["loss"] == pytest.approx(0.7 * figures["soft"] + 0.3 * figures["label"])


def test_nothing_known_is_a_step_that_changes_nothing() -> None:
    made = trainer()
    before = made.weights()
    ranking = Ranking(Impression("r", 0, candidates=(Candidate("who"),)), "t", "1", "logit", (1.0,), (True,))
    assert made.learn(made.encode([Example(ranking, (1.0,), "closed")]))["loss"] == 0
    assert made.step == 1
    assert all(np.array_equal(before[name], value) for name, value in made.weights().items())
    empty = make_trainer(SPEC, SETTINGS, LossSettings(), seed=0)
    assert empty.learn(empty.encode([Example(ranking, (1.0,), "closed")]))["loss"] == 0


def test_wrong_calls() -> None:
    with pytest.raises(UsageError, match="no examples"):
        trainer().learn(trainer().encode([]))
    with pytest.raises(UsageError, match="nothing to learn from"):
        make_trainer(SPEC, SETTINGS, LossSettings(soft=0, label=0), seed=0)


def gradient(batch: list[Example], loss: LossSettings, whole: int = 8) -> np.ndarray:
    """The gradient of the user tower's last bias in the first step."""
    settings = msgspec.structs.replace(SETTINGS, id_dropout=0.0, dropout=0.0)
    fresh = make_trainer(SPEC, settings, loss, seed=3, batch=whole)
    fresh.apply_items(ITEMS)
    fresh.learn(fresh.encode(batch))
    found = fresh.student.dense["user.b2"].grad
    assert found is not None
    return found.numpy().copy()


def test_a_list_with_a_weight_counts_as_so_many_lists() -> None:
    batch = [example(1), example(2)]
    assert min(sum(one.ranking.scored) for one in batch) >= 2
    rare = msgspec.structs.replace(batch[1], ranking=msgspec.structs.replace(batch[1].ranking, sampled=0.25))
    loss = LossSettings(soft=1.0, label=0.0)
    weighed = gradient([batch[0], rare], loss)
    assert weighed == pytest.approx(gradient([batch[0], *[batch[1]] * 4], loss), rel=1e-4, abs=1e-7)
    assert weighed != pytest.approx(gradient(batch, loss), rel=1e-2)


def labelled(number: int, state: LabelState) -> Example:
    """An example with one label, on an item that the catalogue knows, and of some state."""
    one = example(number)
    known = next(at for at, c in enumerate(one.ranking.impression.candidates) if c.item != f"i{N}")
    labels = tuple(float(at == known) for at in range(len(one.labels)))
    return msgspec.structs.replace(one, labels=labels, label_state=state)


def test_a_list_counts_the_same_whatever_else_is_in_its_batch() -> None:
    """The gradient of a batch is the sum of what its lists give alone, with few and with many labelled lists."""
    loss = LossSettings(soft=0.7, label=0.3)
    soft = [labelled(number, "none") for number in range(5)]
    for labels in (1, 5):
        batch = [*soft, *[labelled(number, "labels") for number in range(labels)]]
        alone = np.sum([gradient([one], loss) for one in batch], axis=0)
        assert gradient(batch, loss) == pytest.approx(alone, rel=1e-3, abs=1e-6)
        assert np.abs(alone).max() > 1e-3


def test_scores_now_and_labels_later_are_both_at_once() -> None:
    loss = LossSettings(soft=0.7, label=0.3)
    for number in (1, 2):
        both = gradient([labelled(number, "closed")], loss)
        apart = [gradient([labelled(number, "none")], loss), gradient([labelled(number, "labels")], loss)]
        assert both == pytest.approx(np.sum(apart, axis=0), rel=1e-3, abs=1e-6)
        assert all(np.abs(part).max() > 1e-4 for part in apart)
        # A label alone does not move with the teacher's scores.
        ranking = labelled(number, "labels").ranking
        turned = msgspec.structs.replace(ranking, scores=tuple(-score for score in ranking.scores))
        other = msgspec.structs.replace(labelled(number, "labels"), ranking=turned)
        assert gradient([other], loss) == pytest.approx(apart[1])


def test_where_every_list_is_labelled_the_loss_is_the_mean_that_it_always_was() -> None:
    made = make_trainer(SPEC, SETTINGS, LossSettings(), seed=3, batch=8)
    made.apply_items(ITEMS)
    closed = [labelled(number, "closed") for number in range(40)]
    batch = [one for one in closed if sum(one.ranking.scored) >= 3][:8]  # one of them may be unknown
    for _ in range(5):
        figures = made.learn(made.encode(batch))
        assert figures["loss"] == pytest.approx(0.7 * figures["soft"] + 0.3 * figures["label"])
    figures = made.learn(made.encode(batch[:2]))  # a part of a batch makes a smaller step
    assert figures["loss"] == pytest.approx(0.25 * (0.7 * figures["soft"] + 0.3 * figures["label"]))

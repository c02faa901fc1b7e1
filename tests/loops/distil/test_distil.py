"""The distiller: what it has learnt depends on the log and the settings alone."""

import random
import shutil
import threading
from contextlib import ExitStack
from pathlib import Path

import msgspec
import numpy as np
import pytest
from support import world
from support.deaths import killed_again_and_again
from support.distilling import SPEC, STUDENT, assert_same_state, final, run, scored, settings

from recdistill import checkpoint
from recdistill.bundle import made, open_bundle, reading
from recdistill.config import (
    LogSettings,
    LossSettings,
    WatchSettings,
)
from recdistill.errors import CheckpointError, Fenced, WrongLog
from recdistill.loops import join, score
from recdistill.loops.distil.owner import NAME
from recdistill.loops.distil.seen import HALF_LIFE, Seen
from recdistill.loops.feed import feed
from recdistill.loops.wire import distil_from
from recdistill.records import DEAD_LETTERS, Columns, Example, Item, decode, encode, to_json
from recdistill.stream import Log, TopicPartition, open_log, standard_topics
from recdistill.teachers.function import FunctionTeacher
from recdistill.train import Batch, Trainer


@pytest.mark.slow
def test_whoever_shows_progress_is_told_loss_and_agreement(log: Log, tmp_path: Path) -> None:
    class Shown:
        def __init__(self) -> None:
            self.figures: list[dict[str, float]] = []

        def __call__(self, done: int, total: int | None) -> None:
            assert self.figures

        def tell(self, figures: dict[str, float]) -> None:
            self.figures.append(figures)

    shown = Shown()
    counts = run(log, settings(tmp_path / "s"), progress=shown)
    assert len(shown.figures) == counts["steps"]
    assert all(one["loss"] > 0 for one in shown.figures)
    assert -1 <= shown.figures[-1]["agreement"] <= 1
    assert 600 < counts["known"] < 150 * 6  # of the first lists some items came later
    assert counts["unknown"] >= 150 * 6 - counts["known"]  # and events, too


@pytest.mark.slow
def test_columns_give_the_checkpoint_that_objects_give(
    log: Log, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Byte for byte, also with records that are written in another form, and with some that are refused."""
    written_before = log.source(["examples"]).read(10_000, 1.0)
    with log.stage("other").transaction() as transaction:
        for lane, message in enumerate(written_before[:40]):
            assert message.value is not None
            plain = decode(Example, message.value)
            forms = (
                to_json(plain),
                b"noise",
                message.value[:1] + b"\0\0\0\5" + message.value[5:],
                message.value + b"\0",
            )
            transaction.send("examples", forms[lane % 4], partition=lane % 2)
    counts = run(log, settings(tmp_path / "columns"))
    asked: list[Example] = []

    def encode_objects(trainer: Trainer, examples: Columns) -> Batch:
        asked[:] = [decode(Example, value) for value in examples.values]
        return by_columns(trainer, asked)

    def see_objects(seen: Seen, examples: Columns, *, again: bool = False) -> None:
        seen.golden = [
            msgspec.structs.replace(one.ranking.impression, candidates=(), exclude=(), user=None) for one in asked[-8:]
        ]
        seen.examples += len(asked)
        seen.popular_unit *= 2.0 ** (len(asked) / HALF_LIFE)
        for one in asked:
            teacher = f"{one.ranking.teacher_id}@{one.ranking.teacher_version}"
            seen.teachers[teacher] = seen.teachers.get(teacher, 0) + int(one.label_state != "labels")
            for candidate, label in zip(one.ranking.impression.candidates, one.labels, strict=True):
                if label:
                    seen.popular[candidate.item] = seen.popular.get(candidate.item, 0.0) + seen.popular_unit

    by_columns = Trainer.encode
    monkeypatch.setattr(Trainer, "encode", encode_objects)
    monkeypatch.setattr(Seen, "take", see_objects)
    assert run(log, settings(tmp_path / "objects")) == counts
    assert counts["examples"] == len(written_before) + 20
    assert counts["dead_letters"] == 20
    assert_same_state(tmp_path / "columns", tmp_path / "objects")


def test_each_example_is_learnt_once_and_a_bundle_comes_out(log: Log, tmp_path: Path) -> None:
    counts = run(log, settings(tmp_path / "s"))
    assert counts["examples"] == 150
    assert counts["steps"] == 19  # 18 of 8, and the 6 that were left
    assert counts["items"] == 21
    [path] = (tmp_path / "s" / "bundles").iterdir()
    bundle = open_bundle(path)
    assert [item.id for item in bundle.items] == [f"item-{n}" for n in range(20)]
    assert next(item for item in bundle.items if item.id == "item-3").attributes == {"genre": "b"}
    assert bundle.manifest.provenance["teachers"] == {"hash@1": 150}
    assert run(log, settings(tmp_path / "s"))["examples"] == 0  # nothing is learnt twice


def test_a_damaged_bundle_of_this_step_is_made_again(
    log: Log, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run(log, settings(tmp_path / "s"))
    [path] = (tmp_path / "s" / "bundles").iterdir()
    whole = open_bundle(path).content_hash
    (path.parent / ".step-0000000005-ab12cd_9").mkdir()  # what a killed export of an earlier version left
    (path / "vectors.npy").write_bytes((path / "vectors.npy").read_bytes()[:-1])
    assert run(log, settings(tmp_path / "s"))["bundles"] == 1
    assert "the bundle of step 19 is made again" in caplog.text
    assert "vectors.npy: has" in caplog.text
    assert open_bundle(path).content_hash == whole
    assert [one.name for one in path.parent.iterdir()] == [path.name]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("passes", "loss"),
    [(1, LossSettings()), (3, LossSettings()), (2, LossSettings(full_softmax_items=5, sampled_items=6))],
    ids=["one pass", "three passes", "a sample of the catalogue"],
)
def test_a_distiller_that_is_killed_anywhere_ends_with_the_same_bytes(
    log: Log, tmp_path: Path, passes: int, loss: LossSettings
) -> None:
    run(log, settings(tmp_path / "whole", passes=passes), loss)
    chance = random.Random(passes)
    killed = killed_again_and_again(
        lambda die: run(log, settings(tmp_path / "killed", passes=passes), loss, progress=die),
        times=8,
        after=lambda: chance.randrange(1, 12),
    )
    run(log, settings(tmp_path / "killed", passes=passes), loss)
    assert killed >= 3
    assert_same_state(tmp_path / "whole", tmp_path / "killed")
    one, two = (next((tmp_path / name / "bundles").iterdir()) for name in ("whole", "killed"))
    assert open_bundle(one).content_hash == open_bundle(two).content_hash


@pytest.mark.slow
def test_batches_kept_in_memory_change_nothing(log: Log, tmp_path: Path) -> None:
    run(log, settings(tmp_path / "kept", passes=3))
    run(log, settings(tmp_path / "read", passes=3, memory_mb=0))
    assert_same_state(tmp_path / "kept", tmp_path / "read")


def test_an_item_that_does_not_fit_the_specification_goes_to_the_dead_letters(log: Log, tmp_path: Path) -> None:
    feed(log, [Item(id="odd", attributes={"title": 5.0}), *world.impressions(10, seed=4)[9:]])
    scored(log)
    join.run(log, soft="with_labels", window_s=5, wait_s=0.02, stop=threading.Event(), drain=True, flush=True)
    counts = run(log, settings(tmp_path / "s"))
    assert counts["dead_letters"] == 1
    source = log.source([DEAD_LETTERS])
    [letter] = source.read(10, 0.0)
    source.close()
    assert dict(letter.headers)["topic"] == b"items"
    assert b"title" in dict(letter.headers)["error"]


def test_a_stop_signal_saves_the_last_whole_batch(log: Log, tmp_path: Path) -> None:
    stop = threading.Event()
    chosen = settings(tmp_path / "s", checkpoint_every=1000)
    run(log, chosen, stop=stop, progress=lambda done, total: stop.set())
    assert final(tmp_path / "s").step == 1
    counts = run(log, chosen)
    assert counts["examples"] == 142


@pytest.mark.slow
def test_passes_go_over_a_range_that_later_records_do_not_move(log: Log, tmp_path: Path) -> None:
    stop = threading.Event()
    chosen = settings(tmp_path / "s", passes=2, checkpoint_every=1)
    run(log, chosen, stop=stop, progress=lambda done, total: stop.set())
    lists = [msgspec.structs.replace(one, id=f"more-{one.id}") for one in world.impressions(40, seed=9)]
    feed(log, lists)
    scored(log)
    join.run(log, soft="with_labels", window_s=5, wait_s=0.02, stop=threading.Event(), drain=True, flush=True)
    counts = run(log, chosen)
    assert counts["examples"] == 2 * 150 - 8
    assert run(log, chosen)["examples"] == 40  # the later ones once


@pytest.mark.parametrize(("setting", "value"), [("dim", 8), ("hidden", 16), ("context_dim", 2)])
def test_another_shape_does_not_go_on_with_a_student(log: Log, tmp_path: Path, setting: str, value: int) -> None:
    run(log, settings(tmp_path / "s"))
    other = msgspec.structs.replace(STUDENT, **{setting: value})
    before = getattr(STUDENT, setting)
    with pytest.raises(
        CheckpointError, match=rf"was made with student\.{setting} = {before}, .* now say {value}; set it"
    ):
        distil_from(log, SPEC, other, LossSettings(), settings(tmp_path / "s"), stop=threading.Event(), drain=True)


def test_another_seed_does_not_go_on_with_a_student(log: Log, tmp_path: Path) -> None:
    run(log, settings(tmp_path / "s"))
    with pytest.raises(CheckpointError, match="was made with seed = 0, the settings now say 1"):
        run(log, settings(tmp_path / "s", seed=1))


def test_a_checkpoint_from_before_samples_goes_on_and_says_its_settings_from_then_on(log: Log, tmp_path: Path) -> None:
    stop = threading.Event()
    run(log, settings(tmp_path / "s"), stop=stop, progress=lambda done, total: stop.set())
    found = final(tmp_path / "s")
    del found.state["stream"]["events"]
    for name in ("full_softmax_items", "sampled_items"):
        del found.state["stream"]["recipe"]["loss"][name]
    checkpoint.save(found.path.parent, found.step, found.tensors, found.state)
    assert run(log, settings(tmp_path / "s"))["examples"] == 142
    assert final(tmp_path / "s").state["stream"]["recipe"]["loss"]["sampled_items"] == 2048


def test_another_log_is_refused(log: Log, tmp_path: Path) -> None:
    run(log, settings(tmp_path / "s"))
    other = open_log(LogSettings(path=str(tmp_path / "other.sqlite")))
    other.create_topics(standard_topics(partitions=2, lanes=2))
    with pytest.raises(WrongLog):
        run(other, settings(tmp_path / "s"))
    other.close()


@pytest.mark.slow
def test_records_that_do_not_decode_take_no_part_and_are_kept(log: Log, tmp_path: Path) -> None:
    run(log, settings(tmp_path / "clean"))
    with log.stage("hostile").transaction() as transaction:
        transaction.send("examples", b"\x00nothing", partition=0)
        transaction.send("examples", b"{}", partition=1)
    counts = run(log, settings(tmp_path / "dirty", passes=2))
    assert counts["dead_letters"] == 2
    source = log.source([DEAD_LETTERS])
    letters = source.read(10, 0.0)
    source.close()
    assert sorted(letter.value or b"" for letter in letters) == [b"\x00nothing", b"{}"]


@pytest.mark.slow
def test_a_running_distiller_keeps_as_many_bundles_as_it_says_and_those_that_are_read(log: Log, tmp_path: Path) -> None:
    place, most, held = tmp_path / "s" / "bundles", [], ExitStack()
    run(log, settings(tmp_path / "s"))  # the range is behind it: from here on it exports as it goes
    lists = [msgspec.structs.replace(one, id=f"more-{one.id}") for one in world.impressions(160, seed=9)]
    feed(log, lists)
    scored(log)
    join.run(log, soft="with_labels", window_s=5, wait_s=0.02, stop=threading.Event(), drain=True, flush=True)
    stop = threading.Event()

    def look(done: int, total: int | None) -> None:
        found = made(place)
        most.append(len(found))
        if len(most) == 5:
            held.enter_context(reading(found[0]))
            most.append(-int(found[0].name.removeprefix("step-")))
        if len(most) == 20:
            stop.set()

    with held:
        run(
            log,
            settings(tmp_path / "s", export_every=2, keep=2, export_beside=False),
            drain=False,
            stop=stop,
            progress=look,
        )
        assert max(most[:5]) == 2
        assert max(most[5:]) == 3  # with the one that is read
        assert f"step-{-min(most):010d}" in [path.name for path in place.iterdir()]
    run(log, settings(tmp_path / "s", keep=2))
    assert len(made(place)) == 2


def test_a_stop_writes_one_checkpoint(log: Log, tmp_path: Path) -> None:
    counts = run(log, settings(tmp_path / "s"))
    assert counts["checkpoints"] == 5  # the range's, those of steps 5, 10 and 15, and the last
    assert counts["bundles"] == 1


@pytest.mark.slow
def test_a_bundle_names_its_parent_also_after_a_kill_between_the_two(log: Log, tmp_path: Path) -> None:
    run(log, settings(tmp_path / "s"))
    [first] = made(tmp_path / "s" / "bundles")
    shutil.rmtree(final(tmp_path / "s").path)  # as if the kill had come before the last checkpoint
    feed(log, [msgspec.structs.replace(one, id=f"more-{one.id}") for one in world.impressions(16, seed=9)])
    scored(log)
    join.run(log, soft="with_labels", window_s=5, wait_s=0.02, stop=threading.Event(), drain=True, flush=True)
    run(log, settings(tmp_path / "s"))  # to the end of the range
    run(log, settings(tmp_path / "s"))  # and what came later
    second = made(tmp_path / "s" / "bundles")[-1]
    assert second != first
    assert open_bundle(second).manifest.provenance["parent"] == open_bundle(first).content_hash


@pytest.mark.slow
def test_a_newer_one_in_the_log_fences_this_one(log: Log, tmp_path: Path) -> None:
    with log.stage("hostile").transaction() as transaction:
        transaction.send("examples", b"\x00nothing", partition=0)
    run(log, settings(tmp_path / "s"), stop=(stop := threading.Event()), progress=lambda done, total: stop.set())
    student = msgspec.json.decode((tmp_path / "s" / NAME).read_bytes())["student"]
    before = final(tmp_path / "s").step

    def take_over(done: int, total: int | None) -> None:
        log.stage(f"distil-{student}", [TopicPartition("items", 0)]).close()

    with pytest.raises(Fenced, match="newer process"):
        run(log, settings(tmp_path / "s", checkpoint_every=1), progress=take_over)
    assert final(tmp_path / "s").step == before
    assert not (tmp_path / "s" / "bundles").exists()
    with pytest.raises(Fenced, match="newer process"):
        run(log, settings(tmp_path / "s", checkpoint_every=1000), progress=take_over)
    source = log.source([DEAD_LETTERS])
    assert source.read(10, 0.0) == []
    source.close()
    assert run(log, settings(tmp_path / "s"))["dead_letters"] == 1


@pytest.mark.slow
def test_two_students_of_one_log_do_not_fence_each_other(log: Log, tmp_path: Path) -> None:
    def other(done: int, total: int | None) -> None:
        if done and not (tmp_path / "b" / "bundles").exists():
            run(log, settings(tmp_path / "b"))

    run(log, settings(tmp_path / "a", checkpoint_every=1), progress=other)
    assert_same_state(tmp_path / "a", tmp_path / "b")


def test_a_second_one_on_the_folder_is_refused_and_the_first_goes_on(log: Log, tmp_path: Path) -> None:
    def other(done: int, total: int | None) -> None:
        with pytest.raises(CheckpointError, match="another distiller works in this folder"):
            run(log, settings(tmp_path / "s"))

    assert run(log, settings(tmp_path / "s"), progress=other)["examples"] == 150


def test_items_that_are_refused_come_in_their_order_with_their_places(log: Log, tmp_path: Path) -> None:
    with log.stage("hostile").transaction() as transaction:
        transaction.send("items", b"\x00nothing")
        transaction.send("items", encode(Item(id="odd", attributes={"title": 5.0})))
        transaction.send("items", encode(Item(id="good")))
        transaction.send("items", b"more of nothing")
    feed(log, world.impressions(10, seed=4)[9:])
    scored(log)
    join.run(log, soft="with_labels", window_s=5, wait_s=0.02, stop=threading.Event(), drain=True, flush=True)
    counts = run(log, settings(tmp_path / "s"))
    assert counts["dead_letters"] == 3
    assert counts["items"] == 22
    source = log.source([DEAD_LETTERS])
    letters = source.read(10, 0.0)
    source.close()
    assert [letter.value for letter in letters] == [
        b"\x00nothing",
        encode(Item(id="odd", attributes={"title": 5.0})),
        b"more of nothing",
    ]
    places = [int(dict(letter.headers)["offset"]) for letter in letters]
    assert [place - places[0] for place in places] == [0, 1, 3]


@pytest.mark.slow
def test_weights_really_move(log: Log, tmp_path: Path) -> None:
    run(log, settings(tmp_path / "s"))
    start = run(log, settings(tmp_path / "t", passes=3))
    assert start["examples"] == 450
    one, two = final(tmp_path / "s").tensors, final(tmp_path / "t").tensors
    assert not np.allclose(one["weights/id"], two["weights/id"])


def test_no_history_in_a_bundle_is_somebodys(log: Log, tmp_path: Path) -> None:
    run(log, settings(tmp_path / "s"))
    [path] = (tmp_path / "s" / "bundles").iterdir()
    bundle = open_bundle(path)
    histories = [tuple(event.item for event in one.history) for one in bundle.golden]
    assert sum(len(history) > 1 for history in histories) >= 3
    theirs = {tuple(event.item for event in one.history) for one in world.impressions(150)}
    assert not {history for history in histories if len(history) > 1} & theirs
    assert {item for history in histories for item in history} <= {item for item, _ in bundle.popular}
    # What was done, and when, is as in the stream.
    done = [[(event.action, event.time_us) for event in one.history] for one in world.impressions(150)]
    assert all([(event.action, event.time_us) for event in one.history] in done for one in bundle.golden)


def _with_part_of_the_candidates(log: Log) -> None:
    teacher = FunctionTeacher(world.by_hash, "hash", "1", "logit")
    score.run(log, teacher, wait_s=0.02, budget=0.5, stop=threading.Event(), drain=True)
    join.run(log, soft="with_labels", window_s=5, wait_s=0.02, stop=threading.Event(), drain=True, flush=True)


@pytest.mark.parametrize(
    ("recipe", "comparable", "says"),
    [
        ("listmle", "standard", "list_mle takes the scored ones for the whole list"),
        ("default", "standard", None),
        ("margin-mse", "standard", 'set watch.comparable = "scale"'),
        ("margin-mse", "scale", "margin_mse takes the scored ones"),
    ],
)
def test_a_loss_that_cannot_keep_its_promise_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, recipe: str, comparable: str, says: str | None
) -> None:
    log = open_log(LogSettings(path=str(tmp_path / "log.sqlite")))
    log.create_topics(standard_topics(partitions=1, lanes=1))
    lists = world.impressions(40)
    feed(log, [*world.items(20), *lists, *world.feedback(lists)])
    _with_part_of_the_candidates(log)
    watch = WatchSettings(comparable=comparable)  # type: ignore[arg-type]
    chosen = settings(tmp_path / "s")
    distil_from(log, SPEC, STUDENT, LossSettings(recipe=recipe), chosen, watch, stop=threading.Event(), drain=True)
    log.close()
    warned = [record.getMessage() for record in caplog.records if "takes the scored ones" in record.getMessage()]
    warned += [record.getMessage() for record in caplog.records if "margin_mse fits" in record.getMessage()]
    assert any(says in sentence for sentence in warned) if says else not warned
    assert len(warned) == len(set(warned))

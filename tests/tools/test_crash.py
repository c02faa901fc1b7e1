"""The storm in its short form, and whether its comparison would notice what it is there to notice."""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import msgspec
import pytest

from recdistill import checkpoint
from recdistill.config import LogSettings, Settings
from recdistill.loops.feed import feed
from recdistill.records import Impression
from recdistill.stream import Log, open_log, standard_topics
from recdistill.stream.testing import everything
from tools.crash import compare, stream
from tools.crash.__main__ import main, table
from tools.crash.disk import Disk, install
from tools.crash.fleet import Failed
from tools.crash.storm import PARTITIONS, Outcome, Plan, run, settings_of
from tools.kafka_broker import KafkaBroker


def held(plan: Plan, folder: Path, broker: KafkaBroker | None = None) -> Outcome:
    said: list[str] = []
    outcome = run(plan, folder / "storm", broker, said.append)
    assert outcome.failed == "", "\n".join([*said, outcome.failed])
    assert outcome.impressions > 0
    assert outcome.examples > 0
    assert outcome.steps > 0
    return outcome


@pytest.mark.e2e
@pytest.mark.slow
def test_kills_and_a_zombie_on_the_embedded_log_change_nothing(tmp_path: Path) -> None:
    outcome = held(Plan(log="embedded", seed=3, kills=6), tmp_path)
    assert {name: outcome.did[f"kills of {name}"] for name in ("scorer", "joiner", "distiller")} == {
        "scorer": 2,
        "joiner": 2,
        "distiller": 2,
    }


@pytest.mark.e2e
@pytest.mark.slow
def test_power_cuts_leave_a_student_that_the_log_still_bears_out(tmp_path: Path) -> None:
    outcome = held(Plan(log="embedded", seed=4, cuts=2), tmp_path)
    assert outcome.did["power cuts"] == 2


@pytest.mark.kafka
@pytest.mark.e2e
@pytest.mark.slow
def test_kills_on_kafka_change_nothing(kafka_broker_factory: Callable[..., KafkaBroker], tmp_path: Path) -> None:
    outcome = held(Plan(log="kafka", seed=5, kills=6, broker_kills=1), tmp_path, kafka_broker_factory())
    assert outcome.did["kills of the broker"] == 1
    assert [outcome.did[f"kills of {name}"] for name in ("scorer", "joiner", "distiller")] == [2, 2, 2]


@pytest.fixture
def chosen(tmp_path: Path) -> Settings:
    (tmp_path / "machine").mkdir()
    return settings_of(Plan(log="embedded", seed=0), tmp_path, tmp_path / "machine", None)


@pytest.fixture
def log(chosen: Settings) -> Iterator[Log]:
    opened = open_log(chosen.log)
    opened.create_topics(standard_topics(PARTITIONS, 2))
    for n in range(6):
        with closing(opened.stage("somebody")) as stage:
            stream.abort(stage, 1)
        stream.write(opened, stream.part(n, seed=1))
    yield opened
    opened.close()


def done(chosen: Settings, tmp_path: Path, *verbs: str) -> None:
    config = compare.write_settings(tmp_path / "settings.toml", chosen)
    for name in verbs:
        compare.verb(config, name, "--drain", "--json")


def test_a_stream_is_disturbed_and_has_gaps(log: Log) -> None:
    records = [one for n in range(40) for one in stream.part(n, seed=1) if isinstance(one, Impression)]
    ids = [one.id for one in records]
    assert len(set(ids)) == 320 < len(ids)  # some come twice
    times = [one.time_us for one in records]
    assert sum(late < early for early, late in itertools.pairwise(times)) > 80
    offsets = [message.offset for message in everything(log, "impressions") if message.tp.partition == 0]
    assert any(later - earlier > 1 for earlier, later in itertools.pairwise(offsets))
    assert stream.last_part(log) == 5


def test_a_missing_and_a_second_ranking_are_noticed(log: Log, chosen: Settings, tmp_path: Path) -> None:
    with pytest.raises(Failed, match=r"impressions, 0 rankings and dead letters: \d+ have none"):
        compare.one_ranking_each(log)
    done(chosen, tmp_path, "score")
    assert compare.one_ranking_each(log) == len(everything(log, "impressions")) - 1  # and one that nobody can read
    twice = everything(log, "rankings")[7]
    with closing(log.stage("somebody")) as stage, stage.transaction() as transaction:
        transaction.send("rankings", twice.value, partition=twice.tp.partition, headers=twice.headers)
    with pytest.raises(Failed, match="0 have none .*1 too many"):
        compare.one_ranking_each(log)


def test_a_missing_and_a_second_dead_letter_are_noticed(log: Log, chosen: Settings, tmp_path: Path) -> None:
    with pytest.raises(Failed, match="1 records of feedback have no dead letter"):
        compare.bad_feedback(log)
    done(chosen, tmp_path, "score", "join")
    assert compare.bad_feedback(log) == 1
    [letter] = [one for one in everything(log, "dead-letters") if dict(one.headers)["topic"] == b"feedback"]
    with closing(log.stage("somebody")) as stage, stage.transaction() as transaction:
        transaction.send("dead-letters", letter.value, headers=letter.headers)
    with pytest.raises(Failed, match="the stage join wrote 1 dead letters of feedback twice"):
        compare.bad_feedback(log)


def test_an_example_too_many_and_another_order_are_noticed(log: Log, chosen: Settings, tmp_path: Path) -> None:
    feed(log, stream.last_records(6, PARTITIONS))
    done(chosen, tmp_path, "score", "join")
    calm = compare.calm_joiner(log, chosen, tmp_path / "calm")
    assert compare.same_examples(log, calm, "a calm joiner") == len(calm["examples"]) > 20
    swapped = [calm["examples"][1], calm["examples"][0], *calm["examples"][2:]]
    with pytest.raises(Failed, match="first difference at 0; .* only their order differs"):
        compare.same_examples(log, {"examples": swapped}, "a calm joiner")
    with pytest.raises(Failed, match="1 are missing, 0 are too many"):
        compare.same_examples(log, {"examples": [*calm["examples"], b"one more"]}, "a calm joiner")


@pytest.mark.slow
def test_a_student_that_differs_in_one_bit_is_noticed(log: Log, chosen: Settings, tmp_path: Path) -> None:
    feed(log, stream.last_records(6, PARTITIONS))
    done(chosen, tmp_path, "score", "join", "distil")
    steps, tensors = compare.same_student(chosen, tmp_path / "calm")
    assert steps > 0
    student = Path(chosen.distil.directory)
    found = checkpoint.latest(student / "checkpoints")
    assert found is not None
    name = max(found.tensors, key=lambda one: found.tensors[one].size)
    flipped = dict(found.tensors)
    flipped[name] = flipped[name].copy()
    flipped[name].reshape(-1).view("u1")[0] ^= 1
    checkpoint.save(student / "checkpoints", found.step, flipped, found.state)
    assert tensors == len(flipped)
    with pytest.raises(Failed, match=f"these tensors differ from a calm student's: {name}"):
        compare.same_student(chosen, tmp_path / "again")


def test_a_cut_leaves_what_was_flushed_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "root"
    (root / "inner").mkdir(parents=True)
    disk = Disk(tmp_path / "disk")
    disk.flushed_all(root)
    end = install(str(tmp_path / "disk"))
    try:
        for name, names in (("whole", True), ("nameless", False)):
            handle = os.open(root / "inner" / name, os.O_WRONLY | os.O_CREAT)
            os.write(handle, b"safe")
            os.fsync(handle)
            os.write(handle, b" and not flushed")
            os.close(handle)
            if names:
                folder = os.open(root / "inner", os.O_RDONLY)
                os.fsync(folder)
                os.close(folder)
        (root / "inner" / "whole").rename(root / "inner" / "renamed")
        (root / "new").mkdir()
    finally:
        end()
    disk.cut(root, tmp_path / "left")
    assert [(one.name, one.read_bytes()) for one in (tmp_path / "left" / "inner").iterdir()] == [("whole", b"safe")]
    assert not (tmp_path / "left" / "new").exists()


def test_a_cut_takes_from_the_log_what_nobody_flushed(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    settings = LogSettings(path=str(root / "log.sqlite"))
    with closing(open_log(settings)) as log:
        log.create_topics(standard_topics())
    disk = Disk(tmp_path / "disk")
    disk.flushed_all(root)
    end = install(str(tmp_path / "disk"))
    try:
        log = open_log(settings)
        stream.write(log, stream.part(0, seed=0))
        log.sync()
        stream.write(log, stream.part(1, seed=0))
        disk.cut(root, tmp_path / "left")
        log.close()
    finally:
        end()
    with closing(open_log(msgspec.structs.replace(settings, path=str(tmp_path / "left" / "log.sqlite")))) as left:
        assert stream.last_part(left) == 0


def test_a_storm_that_failed_says_how_to_repeat_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(plan: Plan, folder: Path, broker: object, say: object) -> Outcome:
        folder.mkdir(parents=True)
        return Outcome(plan, failed="two rankings of one impression" if plan.cuts else "")

    monkeypatch.setattr("tools.crash.__main__.run", fails)
    assert main(["--log", "embedded", "--kills", "2", "--seed", "9", "--folder", str(tmp_path / "all")]) == 1
    said = capsys.readouterr()
    assert "recdistill: two rankings of one impression" in said.err
    assert 'ARGS="--log embedded --seed 9 --kills 0 --zombies 0 --broker-kills 0 --power-cuts 20"' in said.err
    assert [one.name for one in (tmp_path / "all").iterdir()] == ["1-embedded-cuts"]
    assert "FAILED" in said.out
    assert threading.active_count() < 20


def test_the_table_counts_each_kind(tmp_path: Path) -> None:
    outcome = Outcome(Plan(log="kafka", seed=0), seconds=3.2, impressions=5, examples=4, steps=1)
    outcome.did["kills of joiner"] = 17
    assert table([outcome]).splitlines()[1:] == [
        "kafka     kills of joiner                 17",
        "kafka     3 s: equal to an undisturbed run: 5 rankings, 4 examples, 1 steps",
    ]

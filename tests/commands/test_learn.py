"""Where the stages begin: `--from` and `--warm-start`, typed as a person types them."""

from __future__ import annotations

import re
from contextlib import closing
from pathlib import Path

import pytest
from support import world
from support.small_shop import Shop, open_shop

from recdistill import checkpoint
from recdistill.bundle import open_bundle
from recdistill.loops.feed import feed
from recdistill.loops.teach import taught_us
from recdistill.records import Example, Feedback, decode
from recdistill.stream import TopicPartition
from recdistill.stream.embedded import EmbeddedLog

LISTS = TopicPartition("impressions", 0)
EXAMPLES = TopicPartition("examples", 0)


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Shop:
    return open_shop(tmp_path, monkeypatch, capsys)


def trim(shop: Shop, tp: TopicPartition, before: int) -> None:
    log = EmbeddedLog(shop.settings.path)
    log.trim(tp, before)
    log.close()


def test_retention_that_overtook_a_scorer_is_one_sentence_and_a_way_on(shop: Shop) -> None:
    shop.write(lists=60)
    shop.figures("score", "--drain")
    with closing(shop.log()) as log:
        feed(log, world.impressions(100)[60:])
    at = [message.offset for message in shop.read("impressions")]
    trim(shop, LISTS, at[80])  # 20 lists are gone before they were scored
    code, _, err = shop.type("score", "--drain")
    assert code == 4
    assert f"of impressions/0 is outside of what the log holds ({at[80]} to" in err
    assert "checkpoint" not in err  # a scorer has none
    assert "`recdistill score --from beginning`" in err
    assert err.count("\n") == 1
    assert shop.figures("score", "--drain", "--from", "beginning")["rankings"] == 20
    assert shop.figures("score", "--drain").get("rankings", 0) == 0  # the way on is remembered


def test_from_takes_a_time_of_the_records_or_a_position(shop: Shop) -> None:
    shop.write(lists=60)  # list n is of second n + 1 after 1970
    assert shop.figures("score", "--drain", "--from", "@41")["rankings"] == 20
    assert shop.figures("score", "--drain", "--from", "1970-01-01T00:00:59Z")["rankings"] == 2
    offset = shop.read("impressions")[55].offset
    assert shop.figures("score", "--drain", "--from", str(offset))["rankings"] == 5
    assert shop.figures("score", "--drain", "--from", f"impressions/0:{offset}")["rankings"] == 5
    assert shop.figures("score", "--drain", "--from", "latest").get("rankings", 0) == 0
    assert len(shop.read("rankings")) == 20 + 2 + 5 + 5


@pytest.mark.parametrize(
    ("place", "what"),
    [
        ("yesterday", "--from: 'yesterday' is no place in a log"),
        ("99999", "outside of what the log holds"),
        ("feedback/0:3", "names feedback/0, and what is read is impressions/0"),
    ],
)
def test_a_place_that_is_none_is_one_sentence(shop: Shop, place: str, what: str) -> None:
    shop.write(lists=5)
    code, out, err = shop.type("score", "--drain", "--from", place)
    assert code in (2, 4)
    assert what in err
    assert err.count("\n") == 1
    assert out == ""
    assert shop.read("rankings") == []


def test_a_joiner_that_is_told_where_to_begin_goes_on_in_the_turn_of_its_lanes(shop: Shop) -> None:
    shop.write(lists=61, lanes=2)
    shop.figures("score", "--drain")
    first = shop.figures("join", "--drain")["examples"]
    with closing(shop.log()) as log:
        made = world.impressions(80)[61:]
        feed(log, [*made, *world.feedback(made)])
    shop.figures("score", "--drain")
    # The open lists are given up: only what comes from second 70 on is joined.
    second = shop.figures("join", "--drain", "--from", "@70")["examples"]
    ids = [
        [decode(Example, m.value).ranking.impression.id for m in shop.read("examples") if m.tp.partition == lane]
        for lane in (0, 1)
    ]
    assert abs(len(ids[0]) - len(ids[1])) <= 1
    assert len(ids[0]) + len(ids[1]) == first + second
    assert "imp-69" in ids[0] + ids[1]
    assert "imp-65" not in ids[0] + ids[1]


def learn(shop: Shop) -> Path:
    """A student of 60 lists; its newest bundle."""
    shop.write(lists=60)
    shop.figures("score", "--drain")
    shop.figures("join", "--drain")
    shop.figures("distil", "--drain")
    return max((shop.folder / "student" / "bundles").iterdir())


def another_log(shop: Shop, monkeypatch: pytest.MonkeyPatch, lists: int = 100) -> None:
    shop.settings = type(shop.settings)(path=str(shop.folder / "other.sqlite"))
    monkeypatch.setenv("RECDISTILL__LOG__PATH", "other.sqlite")
    shop.write(lists=lists)
    shop.figures("score", "--drain")
    shop.figures("join", "--drain")


@pytest.mark.slow
def test_another_log_is_refused_and_a_warm_start_leads_on(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = learn(shop)
    before = open_bundle(bundle)
    another_log(shop, monkeypatch)
    code, _, err = shop.type("distil", "--drain")
    assert code == 4
    assert "but the saved position is for log" in err
    assert "recdistill distil --warm-start student --set distil.directory=NEW" in err
    for source in ("student", str(bundle)):
        new = shop.folder / f"new-{Path(source).name}"
        told = ("distil", "--drain", "--warm-start", source, "--set", f"distil.directory={new.name}")
        figures = shop.figures(*told)
        assert figures["examples"] > 80
        made = open_bundle(max((new / "bundles").iterdir()))
        [restart] = made.manifest.provenance["restarts"]
        assert restart["how"] == "warm-start"
        assert restart["step"] == before.manifest.provenance["step"]
        assert restart["left"] == before.manifest.provenance["positions"]["lanes"]
        if source != "student":
            assert restart["source"] == made.manifest.provenance["parent"] == before.content_hash
        assert made.manifest.provenance["step"] == restart["step"] + figures["steps"]
        # Started again in the same way, it goes on with its own student.
        assert shop.figures(*told).get("steps", 0) == 0
    code, _, err = shop.type("distil", "--drain", "--warm-start", str(bundle), "--set", "distil.directory=new-student")
    assert code == 6
    assert "there is a student already, and it did not start from" in err


@pytest.mark.slow
def test_a_warm_start_begins_with_the_older_weights(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """A student that starts warm and learns nothing answers as the older one does."""
    bundle = learn(shop)
    shop.settings = type(shop.settings)(path=str(shop.folder / "empty.sqlite"))
    monkeypatch.setenv("RECDISTILL__LOG__PATH", "empty.sqlite")
    shop.write(items=0, lists=0)
    older = checkpoint.latest(shop.folder / "student" / "checkpoints")
    assert older is not None
    for source in ("student", str(bundle)):
        directory = f"again-{Path(source).name}"
        shop.figures("distil", "--drain", "--warm-start", source, "--set", f"distil.directory={directory}")
        found = checkpoint.latest(shop.folder / directory / "checkpoints")
        assert found is not None
        weights = [name for name in older.tensors if name.startswith("weights/")]
        assert weights
        for name in weights:
            assert (found.tensors[name] == older.tensors[name]).all(), name
        again = open_bundle(max((shop.folder / directory / "bundles").iterdir()))
        assert [item.id for item in again.items] == [item.id for item in open_bundle(bundle).items]


@pytest.mark.parametrize("what", ["nothing-there", "shop.toml"])
def test_a_warm_start_from_nothing_is_one_sentence(shop: Shop, what: str) -> None:
    shop.write(lists=5)
    code, _, err = shop.type("distil", "--drain", "--warm-start", what)
    assert code == 6
    assert f"{what}: there is nothing to start from" in err
    assert err.count("\n") == 1


@pytest.mark.slow
def test_retention_that_overtook_a_student_and_from_leads_on(shop: Shop) -> None:
    learn(shop)
    with closing(shop.log()) as log:
        made = world.impressions(200)[60:]
        feed(log, [*made, *world.feedback(made)])
    shop.figures("score", "--drain")
    shop.figures("join", "--drain")
    at = [message.offset for message in shop.read("examples")]
    trim(shop, EXAMPLES, at[150])
    code, _, err = shop.type("distil", "--drain")
    assert code == 4
    assert "outside of what the log holds" in err
    assert "`recdistill distil --from beginning`" in err
    assert err.count("\n") == 1
    left = len(at) - 150
    assert shop.figures("distil", "--drain", "--from", "beginning")["examples"] == left
    bundle = open_bundle(max((shop.folder / "student" / "bundles").iterdir()))
    [restart] = bundle.manifest.provenance["restarts"]
    assert restart["how"] == "from"
    assert restart["to"]["offsets"] == [at[150]]
    assert shop.figures("distil", "--drain").get("examples", 0) == 0


def test_a_new_student_begins_where_it_is_told(shop: Shop) -> None:
    learn(shop)
    every = shop.read("examples")
    half = decode(Example, every[len(every) // 2].value).ranking.impression.time_us // 1_000_000
    figures = shop.figures("distil", "--drain", "--from", f"@{half}", "--set", "distil.directory=later")
    assert figures["examples"] == len(every) - len(every) // 2


def test_teach_learns_from_a_place_on(shop: Shop) -> None:
    shop.write(lists=60)
    code, _, err = shop.type("teach", "--kind", "linear", "--from", "latest", "--set", "teacher.path=t1")
    assert code == 5, err
    assert shop.type("teach", "--kind", "linear", "--from", "@30", "--set", "teacher.path=t2")[0] == 0


def test_a_list_is_scored_with_the_item_that_a_tombstone_withdrew(shop: Shop) -> None:
    """The student's bundle does not hold it, and a record of the same version brings it back."""
    shop.write(lists=60)
    with closing(shop.log()) as log, closing(log.stage("shop")) as stage:
        with stage.transaction() as transaction:
            transaction.send("items", None, key=b"item-3")
        feed(log, world.impressions(80)[60:])
    shop.figures("score", "--drain")
    shop.figures("join", "--drain")
    assert shop.figures("distil", "--drain").get("dead_letters", 0) == 0
    bundle = open_bundle(max((shop.folder / "student" / "bundles").iterdir()))
    assert "item-3" not in {item.id for item in bundle.items}
    assert len(bundle.items) == 19
    assert "'item-3' is withdrawn" in shop.type("inspect", "items", "--from-end", "-n", "1")[1]


@pytest.mark.slow
def test_what_a_kill_left_of_an_export_is_cleared_and_a_damaged_bundle_is_made_again(shop: Shop) -> None:
    bundle = learn(shop)
    whole = open_bundle(bundle).content_hash
    for name in (
        ".step-0000000099.deadbeef.part",
        ".step-0000000004-a1b2c3d4",
    ):  # as this version and an older one leave
        left = bundle.parent / name
        left.mkdir()
        (left / "items.bin").write_bytes(b"half")
    damaged = bytearray((bundle / "vectors.npy").read_bytes())
    damaged[-1] ^= 1
    (bundle / "vectors.npy").write_bytes(damaged)
    assert shop.type("inspect", str(bundle))[0] == 6
    shop.figures("distil", "--drain")  # there is nothing new to learn
    assert open_bundle(bundle).content_hash == whole
    assert [path.name for path in bundle.parent.iterdir() if path.name.startswith(".")] == []


@pytest.mark.slow
def test_a_bundle_names_its_true_parent_after_a_kill_between_export_and_save(shop: Shop) -> None:
    first = learn(shop)
    with closing(shop.log()) as log:
        made = world.impressions(120)[60:]
        feed(log, [*made, *world.feedback(made)])
    shop.figures("score", "--drain")
    shop.figures("join", "--drain")
    at = shop.read("examples")
    checkpoints = shop.folder / "student" / "checkpoints"
    before = {path.name for path in checkpoints.iterdir()}
    # The run saves, exports, and is killed before it saves again: its checkpoint does not know of the bundle.
    shop.figures("distil", "--drain", "--set", "distil.checkpoint_every=1000")
    second = max(first.parent.iterdir())
    assert second != first
    for path in checkpoints.iterdir():
        if path.name not in before:
            state = path / "state.json"
            assert open_bundle(second).content_hash not in state.read_text()
    with closing(shop.log()) as log:
        more = world.impressions(200)[120:]
        feed(log, [*more, *world.feedback(more)])
    shop.figures("score", "--drain")
    shop.figures("join", "--drain")
    shop.figures("distil", "--drain")
    third = open_bundle(max(first.parent.iterdir()))
    assert third.manifest.provenance["parent"] == open_bundle(second).content_hash
    assert open_bundle(second).manifest.provenance["parent"] == open_bundle(first).content_hash
    assert len(shop.read("examples")) > len(at)


@pytest.mark.slow
def test_teach_goes_on_where_it_was_stopped(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    from recdistill.teachers.builtin.epochs import CausalTraining

    shop.write(lists=60)
    settings = ["kind=attention", "epochs=3", "dim=8", "layers=1", "batch=4"]
    typed = ["teach", "--kind", "builtin", *(word for one in settings for word in ("--set", f"teacher_training.{one}"))]
    whole = shop.figures(*typed, "--set", "teacher.path=whole")
    saved = CausalTraining._save

    def stopped(self: CausalTraining) -> None:
        saved(self)
        if self.epoch == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(CausalTraining, "_save", stopped)
        assert shop.type(*typed, "--set", "teacher.path=parts")[0] != 0
    assert not Path("parts").exists()
    assert [one.name for one in sorted(Path("parts.training").glob("step-*"))] == ["step-1", "step-2"]
    again = shop.figures(*typed, "--set", "teacher.path=parts")
    assert again["version"] == whole["version"]
    assert again["epoch"] in (1, 2, 3)
    assert len(Path("parts.epochs.jsonl").read_text().splitlines()) == 3
    assert not Path("parts.training").exists(), "the state is kept only while it is needed"


def test_a_kill_while_a_teacher_is_replaced_loses_none(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    shop.write(lists=60)
    typed = ["teach", "--kind", "linear", "--set", "teacher.path=t1"]
    assert shop.type(*typed)[0] == 0
    before = Path("t1/teacher.json").read_bytes()
    rename = Path.rename

    def dies(path: Path, target: Path) -> Path:
        if path.name == "t1.new":
            raise KeyboardInterrupt
        return rename(path, target)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "rename", dies)
        assert shop.type(*typed, "--replace")[0] != 0
    code, _, err = shop.type(*typed)
    assert code != 0
    assert "t1: holds a teacher already; add --replace" in err
    assert Path("t1/teacher.json").read_bytes() == before
    assert shop.type(*typed, "--replace")[0] == 0
    assert sorted(path.name for path in Path().glob("t1*")) == ["t1", "t1.taught.json"]


def test_a_kill_right_after_a_teacher_was_put_in_place_does_not_hide_what_it_has_seen(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The judge leaves out lists up to that time, so a note of the teacher before would make its figures too good."""
    shop.write(lists=60)
    typed = ["teach", "--kind", "linear", "--set", "teacher.path=t1"]
    assert shop.type(*typed, "--until", "@20")[0] == 0
    early = taught_us(Path("t1"))
    assert early is not None
    rename = Path.rename

    def dies(path: Path, target: Path) -> Path:
        done = rename(path, target)
        if path.name == "t1.new":
            raise KeyboardInterrupt
        return done

    with monkeypatch.context() as patched:
        patched.setattr(Path, "rename", dies)
        assert shop.type(*typed, "--replace")[0] != 0
    late = taught_us(Path("t1"))
    assert late is not None
    assert late > early
    assert shop.type(*typed, "--replace", "--until", "@20")[0] == 0
    assert taught_us(Path("t1")) == early


def test_feedback_whose_action_has_no_weight_is_told_also_where_other_feedback_has_one(shop: Shop) -> None:
    """A shop that forgets to name `purchase` has labels all the same, and would not notice."""
    shop.write(lists=60)
    lists = world.impressions(60)
    bought = [
        Feedback(f"b-{n}", one.id, one.candidates[0].item, "purchase", 1.0, one.time_us + 1)
        for n, one in enumerate(lists)
    ]
    with closing(shop.log()) as log:
        feed(log, bought)
    shop.figures("score", "--drain")
    code, out, _ = shop.type("join", "--flush")
    assert code == 0
    told = re.search(r"(\d+) records of feedback gave no label: their action has no weight in join.labels", out)
    assert told is not None
    assert int(told[1]) >= 60
    assert "labelled" in out, "clicks gave labels"
    code, out, _ = shop.type("join", "--flush")
    assert "gave no label" not in out

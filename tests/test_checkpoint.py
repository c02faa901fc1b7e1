"""A checkpoint is there whole or not at all: writers killed at every call, every kind of damage, every reader's
answer."""

from __future__ import annotations

import itertools
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.kills import Killed, die_at
from support.tries import tries

from recdistill import checkpoint
from recdistill.errors import CheckpointError
from recdistill.sealed.folder import Hashed, Seal

FILES = ("tensors.safetensors", "state.json", "manifest.json")


def content(step: int) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    tensors = {
        "weights/id": np.arange(step, step + 6, dtype=np.float32).reshape(2, 3),
        "adam.step/a.b": np.array(step, np.float32),
    }
    return tensors, {"turn": step, "vocabulary": {"id": ["ä", "b\0c", "c"]}, "position": {"items": 2**53 + step}}


def listing(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def assert_is(found: checkpoint.Checkpoint | None, step: int) -> None:
    assert found is not None
    tensors, state = content(step)
    assert (found.step, found.state, set(found.tensors)) == (step, state, set(tensors))
    for name, value in tensors.items():
        assert found.tensors[name].dtype == value.dtype
        assert np.array_equal(found.tensors[name], value)


def test_comes_back_as_it_went(tmp_path: Path) -> None:
    path = checkpoint.save(tmp_path / "deep" / "er", 7, *content(7))
    assert path.name == "step-7"
    assert listing(path) == sorted(FILES)
    assert_is(checkpoint.latest(tmp_path / "deep" / "er"), 7)


@tries(20)
@given(
    arrays=st.dictionaries(
        st.text(min_size=1, max_size=8).filter(lambda name: name != "__metadata__"),
        st.tuples(st.sampled_from(["f4", "f8", "i4", "i8", "u1", "?"]), st.lists(st.integers(0, 3), max_size=3)),
        max_size=4,
    )
)
@pytest.mark.slow
def test_any_arrays(tmp_path_factory: pytest.TempPathFactory, arrays: dict[str, tuple[str, list[int]]]) -> None:
    folder = tmp_path_factory.mktemp("any")
    tensors = {name: np.ones(shape, kind) for name, (kind, shape) in arrays.items()}
    checkpoint.save(folder, 0, tensors, {})
    found = checkpoint.latest(folder)
    assert found is not None
    assert {name: (value.dtype, value.shape) for name, value in found.tensors.items()} == {
        name: (value.dtype, value.shape) for name, value in tensors.items()
    }


def test_the_newest_by_number_not_by_name(tmp_path: Path) -> None:
    for step in (9, 100, 20):
        checkpoint.save(tmp_path, step, *content(step))
    assert_is(checkpoint.latest(tmp_path), 100)


def test_nothing_there_is_none(tmp_path: Path) -> None:
    assert checkpoint.latest(tmp_path) is None
    assert checkpoint.latest(tmp_path / "absent") is None


def test_same_content_same_bytes(tmp_path: Path) -> None:
    tensors, state = content(3)
    first = checkpoint.save(tmp_path / "a", 3, tensors, state)
    turned = dict(reversed(state.items()))
    second = checkpoint.save(tmp_path / "b", 3, dict(reversed(tensors.items())), turned)
    assert [(first / name).read_bytes() for name in FILES] == [(second / name).read_bytes() for name in FILES]


def test_saving_a_step_again(tmp_path: Path) -> None:
    path = checkpoint.save(tmp_path, 3, *content(3))
    before = path.stat().st_ino
    checkpoint.save(tmp_path, 3, *content(3))
    assert path.stat().st_ino == before  # equal and whole: left alone
    checkpoint.save(tmp_path, 3, content(3)[0], {"turn": "other"})
    found = checkpoint.latest(tmp_path)
    assert found is not None
    assert found.state == {"turn": "other"}
    (path / "state.json").write_bytes(b"{}")
    checkpoint.save(tmp_path, 3, *content(3))
    assert_is(checkpoint.latest(tmp_path), 3)
    assert listing(tmp_path) == ["step-3"]


@pytest.mark.parametrize("state", [{"x": float("nan")}, {"x": np.float32(1)}, {"x": b"raw"}])
def test_a_state_that_json_cannot_say(tmp_path: Path, state: dict[str, Any]) -> None:
    with pytest.raises(CheckpointError, match="is not JSON"):
        checkpoint.save(tmp_path, 1, {}, state)
    assert checkpoint.latest(tmp_path) is None


def test_a_disk_that_does_not_take_it(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(CheckpointError, match="cannot be written"):
        checkpoint.save(tmp_path / "file", 1, *content(1))


def work(folder: Path, what: str) -> None:
    """What a distiller does to its checkpoints: saves a new step, saves the same one again, deletes old ones."""
    if what == "the first":
        checkpoint.save(folder, 2, *content(2))
    elif what == "a new step":
        checkpoint.save(folder, 2, *content(2))
        checkpoint.prune(folder, 1)
    elif what == "the same step again":
        checkpoint.save(folder, 1, content(1)[0], {"turn": "again"})
        checkpoint.prune(folder, 1)
    else:
        checkpoint.prune(folder, 1)


@pytest.mark.many
@pytest.mark.parametrize("after", [False, True], ids=["before the call", "after it"])
@pytest.mark.parametrize("what", ["the first", "a new step", "the same step again", "only old ones go"])
def test_a_writer_killed_at_any_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str, after: bool) -> None:
    """`keep` is 1 throughout: nothing but the order of the calls stands between a kill and an empty folder."""
    kills, nth = 0, 0
    while True:
        nth += 1
        folder = tmp_path / f"{nth}"
        if what != "the first":
            checkpoint.save(folder, 1, *content(1))
        if what == "only old ones go":
            checkpoint.save(folder, 2, *content(2))
        with monkeypatch.context() as patch:
            calls = die_at(patch, nth, after=after)
            try:
                work(folder, what)
            except Killed:
                kills += 1
            else:
                assert calls() < nth
                break
        found = checkpoint.latest(folder)
        if what == "the first":
            if found is not None:
                assert_is(found, 2)
        elif what == "the same step again":
            assert found is not None
            assert (found.step, found.state["turn"]) in {(1, 1), (1, "again")}
        else:
            assert found is not None
            assert_is(found, found.step)
            assert found.step == 2 or what == "a new step"
        # And the next life is not disturbed by what the dead one left: it does the same, and sweeps.
        work(folder, what)
        checkpoint.prune(folder, 1)
        assert listing(folder) == ["step-1" if what == "the same step again" else "step-2"]
        last = checkpoint.latest(folder)
        assert last is not None
        assert last.state["turn"] == ("again" if what == "the same step again" else 2)
    assert kills >= 8, "so few calls cannot have written a checkpoint"


@pytest.mark.slow
@pytest.mark.parametrize("after", [False, True], ids=["before the call", "after it"])
def test_killed_twice_while_it_saves_the_same_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: bool
) -> None:
    """A second kill, while the next life puts in order what the first one left."""

    def killed(folder: Path, turn: str, nth: int) -> bool:
        with monkeypatch.context() as patch:
            die_at(patch, nth, after=after)
            try:
                checkpoint.save(folder, 1, content(1)[0], {"turn": turn})
            except Killed:
                return True
        return False

    saved = checkpoint.save(tmp_path / "saved", 1, *content(1)).parent
    pairs = 0
    for first in itertools.count(1):
        if not killed(Path(shutil.copytree(saved, tmp_path / f"{first}")), "again", first):
            break
        for second in itertools.count(1):
            folder = Path(shutil.copytree(tmp_path / f"{first}", tmp_path / f"{first}-{second}"))
            again = killed(folder, "once more", second)
            found = checkpoint.latest(folder)
            assert found is not None
            assert found.state["turn"] in ({1, "again", "once more"} if again else {"once more"})
            shutil.rmtree(folder)
            if not again:
                break
            pairs += 1
    assert pairs > 100


def test_a_writer_killed_inside_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint.save(tmp_path, 1, *content(1))

    def half(self: Any, data: bytes) -> int:
        self._raw.write(data[: len(data) // 2])
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Hashed, "write", half)
        with pytest.raises(Killed):
            checkpoint.save(tmp_path, 2, *content(2))
    assert_is(checkpoint.latest(tmp_path), 1)


KILLED = """
import sys
from pathlib import Path
import numpy as np
from recdistill import checkpoint

folder, turn = Path(sys.argv[1]), 0
print("ready", flush=True)
while True:
    turn += 1
    for step in (turn // 3, turn // 3):  # each step more than once, with another content
        checkpoint.save(folder, step, {"w": np.full(30_000, turn, np.float32)}, {"turn": turn})
        checkpoint.prune(folder, 1)
"""


@pytest.mark.slow
def test_a_process_killed_at_any_time(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Real SIGKILLs at random moments, always in the same folder, with `keep` 1."""
    random = np.random.default_rng(0)
    checkpoint.save(tmp_path, 0, {"w": np.zeros(30_000, np.float32)}, {"turn": 0})
    for _ in range(12):
        with subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path)], stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
            # The moment of the kill is the test's own input, not a wait for anything.
            time.sleep(random.uniform(0.0, 0.15))
            process.kill()
            assert process.wait(60) == -signal.SIGKILL
        found = checkpoint.latest(tmp_path)
        assert found is not None
        assert (found.tensors["w"] == found.state["turn"]).all()
    assert "skipped a checkpoint" not in caplog.text
    checkpoint.save(tmp_path, 10**6, *content(7))
    checkpoint.prune(tmp_path, 1)
    assert listing(tmp_path) == [f"step-{10**6}"]


def test_what_an_earlier_version_left_between_its_renames_is_found(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It renamed the old one to `.step-N.old`, then the new one to `step-N`: after a kill there was neither."""
    checkpoint.save(tmp_path, 21, *content(21)).rename(tmp_path / ".step-21.old")
    (tmp_path / ".step-21.tmp").mkdir()
    (tmp_path / ".step-20.old").mkdir()  # half deleted
    found = checkpoint.latest(tmp_path)
    assert_is(found, 21)
    assert ".step-21.old: is used" in caplog.text
    assert [path.name for path in checkpoint.prune(tmp_path, 1)] == [".step-20.old", ".step-21.tmp"]
    assert_is(checkpoint.latest(tmp_path), 21)
    checkpoint.save(tmp_path, 22, *content(22))
    checkpoint.prune(tmp_path, 1)
    assert listing(tmp_path) == ["step-22"]
    assert_is(checkpoint.latest(tmp_path), 22)


def test_a_new_one_that_is_damaged_does_not_push_out_the_old_one(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    new = checkpoint.save(tmp_path / "other", 3, *content(4)).rename(tmp_path / "step-3.new")
    checkpoint.save(tmp_path / "other", 3, *content(3)).rename(tmp_path / "step-3")
    (new / "state.json").write_bytes(b"{}")
    assert_is(checkpoint.latest(tmp_path), 3)
    (tmp_path / "other").rmdir()
    checkpoint.prune(tmp_path, 1)
    assert "step-3.new: does not verify; step-3 stays" in caplog.text
    assert listing(tmp_path) == ["step-3"]
    assert_is(checkpoint.latest(tmp_path), 3)


def test_a_file_may_join(tmp_path: Path) -> None:
    path = checkpoint.save(tmp_path, 3, *content(3), others={"shard-1.safetensors": b"rows"})
    found = checkpoint.latest(tmp_path)
    assert_is(found, 3)
    assert found is not None
    assert found.read("shard-1.safetensors") == b"rows"
    with pytest.raises(CheckpointError, match="names no file 'shard-2.safetensors'"):
        found.read("shard-2.safetensors")
    before = path.stat().st_ino
    checkpoint.save(tmp_path, 3, *content(3), others={"shard-1.safetensors": b"rows"})
    assert path.stat().st_ino == before
    (path / "shard-1.safetensors").write_bytes(b"rowz")
    with pytest.raises(CheckpointError, match=r"shard-1.safetensors: is not the file that manifest.json describes"):
        checkpoint.load(path)
    (path / "shard-1.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"shard-1.safetensors: is missing"):
        checkpoint.load(path)
    for name in ("../../outside.bin", "/tmp/outside.bin", ".hidden", "a/b.bin", ""):
        with pytest.raises(CheckpointError, match="cannot be the name of a file in it"):
            checkpoint.save(tmp_path, 4, *content(4), others={name: b""})
    assert listing(tmp_path) == ["step-3"]


def test_links_and_pipes_are_refused(tmp_path: Path) -> None:
    path = checkpoint.save(tmp_path, 3, *content(3))
    kept = (path / "state.json").rename(tmp_path / "state.json")
    (path / "state.json").symlink_to(kept)
    with pytest.raises(CheckpointError, match=r"state.json: cannot be read, or is a link"):
        checkpoint.load(path)
    (path / "state.json").unlink()
    os.mkfifo(path / "state.json")
    with pytest.raises(CheckpointError, match=r"state.json: is not a plain file"):
        checkpoint.load(path)


def test_every_flipped_byte_is_noticed(tmp_path: Path) -> None:
    path = checkpoint.save(tmp_path, 4, *content(4))
    for name in FILES:
        whole = (path / name).read_bytes()
        for i in range(len(whole)):
            for bit in (1, 128):
                (path / name).write_bytes(whole[:i] + bytes([whole[i] ^ bit]) + whole[i + 1 :])
                with pytest.raises(CheckpointError):
                    checkpoint.load(path)
        (path / name).write_bytes(whole)
    assert_is(checkpoint.load(path), 4)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", ["gone", "short", "long", "empty", "folder"])
def test_damage_is_skipped_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str, damage: str
) -> None:
    for step in (1, 2):
        checkpoint.save(tmp_path, step, *content(step))
    target = tmp_path / "step-2" / name
    whole = target.read_bytes()
    target.unlink()
    if damage == "folder":
        target.mkdir()
    elif damage != "gone":
        target.write_bytes({"short": whole[:-1], "long": whole + b" ", "empty": b""}[damage])
    with caplog.at_level(logging.WARNING):
        assert_is(checkpoint.latest(tmp_path), 1)
    assert "step-2" in caplog.text
    assert name in caplog.text


def test_one_that_the_disk_cannot_read_is_skipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The memory of a process cannot be read at its beginning, as a file with a bad sector there."""
    for step in (1, 2):
        checkpoint.save(tmp_path, step, *content(step))
    plain, bad = Seal._plain, tmp_path / "step-2" / "manifest.json"
    monkeypatch.setattr(Seal, "_plain", lambda seal, path: plain(seal, Path("/proc/self/mem") if path == bad else path))
    assert_is(checkpoint.latest(tmp_path), 1)


def test_when_none_verifies_it_does_not_start_anew(tmp_path: Path) -> None:
    path = checkpoint.save(tmp_path, 2, *content(2))
    (path / "state.json").write_bytes(b"")
    with pytest.raises(CheckpointError, match="none of 1 checkpoints verifies"):
        checkpoint.latest(tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        {"format": 2},
        {"step": 3},
        {"files": {}},
        {"files": {"../../secret": {"size": 1, "sha256": ""}}},
        {"more": 1},
    ],
)
def test_a_manifest_of_something_else(tmp_path: Path, change: dict[str, Any]) -> None:
    path = checkpoint.save(tmp_path, 2, *content(2))
    manifest = json.loads((path / "manifest.json").read_text())
    (path / "manifest.json").write_text(json.dumps(manifest | change, separators=(",", ":")))
    with pytest.raises(CheckpointError, match=r"manifest\.json"):
        checkpoint.load(path)


def test_a_folder_with_another_name(tmp_path: Path) -> None:
    path = checkpoint.save(tmp_path, 2, *content(2))
    with pytest.raises(CheckpointError, match="step-3"):
        checkpoint.load(path.rename(tmp_path / "step-3"))
    with pytest.raises(CheckpointError, match="not named"):
        checkpoint.load(tmp_path)
    (tmp_path / "step-02").mkdir()
    (tmp_path / "notes").mkdir()
    shutil.rmtree(tmp_path / "step-3")
    assert checkpoint.latest(tmp_path) is None


def test_prune_keeps_the_newest(tmp_path: Path) -> None:
    for step in (1, 2, 10, 30):
        checkpoint.save(tmp_path, step, *content(step))
    (tmp_path / ".step-40.tmp").mkdir()
    (tmp_path / "bundles").mkdir()
    gone = checkpoint.prune(tmp_path, 2)
    assert {path.name for path in gone} == {"step-1", "step-2", ".step-40.tmp"}
    assert listing(tmp_path) == ["bundles", "step-10", "step-30"]
    assert checkpoint.prune(tmp_path, 2) == []
    with pytest.raises(CheckpointError, match="at least one"):
        checkpoint.prune(tmp_path, 0)


def test_prune_keeps_the_last_good_one(tmp_path: Path) -> None:
    for step in (1, 2, 3, 4):
        checkpoint.save(tmp_path, step, *content(step))
    for step in (3, 4):
        (tmp_path / f"step-{step}" / "state.json").unlink()
    checkpoint.prune(tmp_path, 2)
    assert listing(tmp_path) == ["step-2", "step-3", "step-4"]
    assert_is(checkpoint.latest(tmp_path), 2)


def test_reads_and_writes_without_torch() -> None:
    code = "import sys, recdistill.checkpoint; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0

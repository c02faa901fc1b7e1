"""A checkpoint is there whole or not at all: writers killed at every call, every kind of damage, every reader's
answer."""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recdistill import checkpoint
from recdistill.errors import CheckpointError

FILES = ("tensors.safetensors", "state.json", "manifest.json")
CALLS = ("_write", "_flush_folder", "_remove")


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


@settings(max_examples=20, deadline=None)
@given(
    arrays=st.dictionaries(
        st.text(min_size=1, max_size=8).filter(lambda name: name != "__metadata__"),
        st.tuples(st.sampled_from(["f4", "f8", "i4", "i8", "u1", "?"]), st.lists(st.integers(0, 3), max_size=3)),
        max_size=4,
    )
)
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


class Stopped(BaseException):
    """What no `except Exception` may swallow: the writer is gone."""


def interrupt(monkeypatch: pytest.MonkeyPatch, nth: int, *, after: bool) -> Callable[[], int]:
    """Stops the writer at its nth call to the disk, before or after it took effect; returns how to count the calls."""
    calls = 0

    def wrap(real: Callable[..., Any]) -> Callable[..., Any]:
        def double(*args: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == nth and not after:
                raise Stopped
            result = real(*args)
            if calls == nth:
                raise Stopped
            return result

        return double

    for name in CALLS:
        monkeypatch.setattr(checkpoint, name, wrap(getattr(checkpoint, name)))
    monkeypatch.setattr(checkpoint.os, "rename", wrap(os.rename))
    return lambda: calls


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("replaces", [False, True])
def test_a_writer_stopped_at_any_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, replaces: bool, after: bool
) -> None:
    stops = 0
    for nth in range(1, 40):
        folder = tmp_path / f"{nth}"
        checkpoint.save(folder, 1, *content(1))
        if replaces:
            checkpoint.save(folder, 2, {}, {"turn": "other"})
        with monkeypatch.context() as patch:
            calls = interrupt(patch, nth, after=after)
            try:
                checkpoint.save(folder, 2, *content(2))
            except Stopped:
                stops += 1
            else:
                assert calls() < nth
                break
        found = checkpoint.latest(folder)
        assert found is not None
        if found.step == 2 and found.state != {"turn": "other"}:
            assert_is(found, 2)
        elif found.step == 1:
            assert_is(found, 1)
        # And the next life is not disturbed by what the dead one left.
        checkpoint.save(folder, 2, *content(2))
        assert_is(checkpoint.latest(folder), 2)
        checkpoint.prune(folder, 2)
        assert listing(folder) == ["step-1", "step-2"]
    else:
        pytest.fail("never came to its end")
    assert stops >= 8


def test_a_writer_stopped_inside_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint.save(tmp_path, 1, *content(1))

    def half(path: Path, data: bytes) -> None:
        path.write_bytes(data[: len(data) // 2])
        raise Stopped

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "_write", half)
        with pytest.raises(Stopped):
            checkpoint.save(tmp_path, 2, *content(2))
    assert_is(checkpoint.latest(tmp_path), 1)


KILLED = """
import os, signal, sys
from pathlib import Path
import numpy as np
from recdistill import checkpoint

nth, calls = int(sys.argv[2]), 0

def wrap(real):
    def double(*args):
        global calls
        calls += 1
        if calls == nth:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*args)
    return double

for name in ("_write", "_flush_folder", "_remove"):
    setattr(checkpoint, name, wrap(getattr(checkpoint, name)))
checkpoint.os.rename = wrap(os.rename)
checkpoint.save(Path(sys.argv[1]), 2, {"w": np.ones(3, np.float32)}, {"turn": 2})
"""


@pytest.mark.slow
def test_a_process_killed_at_any_call(tmp_path: Path) -> None:
    for nth in range(1, 30):
        folder = tmp_path / str(nth)
        checkpoint.save(folder, 1, *content(1))
        died = subprocess.run(
            [sys.executable, "-c", KILLED, str(folder), str(nth)], capture_output=True, text=True, timeout=60
        )
        if died.returncode == 0:
            break
        assert died.returncode == -signal.SIGKILL, died.stderr
        found = checkpoint.latest(folder)
        assert found is not None
        assert (found.step, found.state["turn"]) in {(1, 1), (2, 2)}
    else:
        pytest.fail("never came to its end")
    assert nth > 8


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

"""A verb in a process that was made ready before: it waits for the word, and tells why it failed."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from recdistill.config import LogSettings
from recdistill.demo.beside import START, Beside
from recdistill.errors import RecdistillError
from recdistill.records import Candidate, Impression, Ranking, encode, key_of
from recdistill.stream import open_log, standard_topics


def log_with_a_ranking(folder: Path) -> Path:
    log = open_log(LogSettings(path=str(folder / "log.sqlite")))
    log.create_topics(standard_topics(1, 1))
    stage = log.stage("test")
    with stage.transaction() as transaction:
        # The later ones close the window of the first. There are enough of them, so that their time is believed.
        for name, time_us in (("i", 1), *((f"later-{n}", 9_000_000 + n) for n in range(20))):
            impression = Impression(name, time_us, candidates=(Candidate("a"), Candidate("b")))
            ranking = Ranking(impression, "t", "1", "logit", (1.0, 0.0), (True, True))
            transaction.send("rankings", encode(ranking), key=key_of(ranking))
    stage.close()
    log.close()
    config = folder / "settings.toml"
    config.write_text(
        f'[log]\npath = "{folder / "log.sqlite"}"\n[join]\nsoft = "with_labels"\nwindow_s = 1.0\nidle_s = 0.5\n',
        encoding="utf-8",
    )
    return config


def examples(folder: Path) -> int:
    log = open_log(LogSettings(path=str(folder / "log.sqlite")))
    source = log.source(["examples"])
    found = len(source.read(10, 0.1))
    source.close()
    log.close()
    return found


@pytest.mark.slow
def test_it_waits_for_the_word_and_then_does_what_the_verb_does(tmp_path: Path) -> None:
    config = log_with_a_ranking(tmp_path)
    joiner = Beside("join", config, "--drain", needs="recdistill.loops.join")
    with pytest.raises(subprocess.TimeoutExpired):
        joiner._process.wait(timeout=2.0)
    assert examples(tmp_path) == 0
    joiner.begin()
    joiner.wait()
    assert examples(tmp_path) == 1


@pytest.mark.slow
def test_a_failure_is_told_in_its_own_words(tmp_path: Path) -> None:
    for needs, reason in (("json", "recdistill join: .*nothing.toml"), ("no_such_module", "No module named")):
        failing = Beside("join", tmp_path / "nothing.toml", needs=needs)
        failing.begin()
        with pytest.raises(RecdistillError, match=reason):
            failing.wait()


@pytest.mark.slow
def test_without_the_word_it_does_nothing(tmp_path: Path) -> None:
    config = log_with_a_ranking(tmp_path)
    command = [sys.executable, "-c", START, "json", "join", "--config", str(config), "--drain"]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert examples(tmp_path) == 0
    waiting = Beside("join", config, "--drain", needs="json")
    waiting.end()
    waiting._process.communicate(timeout=20)
    assert waiting._process.returncode != 0
    assert examples(tmp_path) == 0


@pytest.mark.slow
def test_it_does_not_outlive_a_demo_that_is_killed(tmp_path: Path) -> None:
    config = log_with_a_ranking(tmp_path)
    program = f"""
import os, signal
from pathlib import Path
from recdistill.demo.beside import Beside
joiner = Beside("join", Path({str(config)!r}), needs="recdistill.loops.join")  # follows the log until told to stop
joiner.begin()
print(joiner._process.pid, flush=True)
input()
os.kill(os.getpid(), signal.SIGKILL)
"""
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as demo:
        assert demo.stdout is not None
        joiner = int(demo.stdout.readline())
        until = time.monotonic() + 60
        while examples(tmp_path) == 0 and time.monotonic() < until:
            time.sleep(0.1)
        assert alive(joiner)
        demo.communicate("\n")
    assert examples(tmp_path) == 1
    until = time.monotonic() + 60
    while alive(joiner) and time.monotonic() < until:
        time.sleep(0.1)
    assert not alive(joiner)


def alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and that nobody has asked about does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False

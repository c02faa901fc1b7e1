"""A process of the live demo: it stops when it is told to, and it never outlives the demo."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support.waiting import wait_for

from recdistill.demo.live.member import Member

CHILD = """
import subprocess, sys, time
from pathlib import Path
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
Path(sys.argv[1]).write_text(str(child.pid))
time.sleep(600)
"""


def module(folder: Path, text: str) -> dict[str, str]:
    (folder / "work.py").write_text(text, encoding="utf-8")
    return {**os.environ, "PYTHONPATH": f"{folder}{os.pathsep}{Path(__file__).parents[3]}"}


def alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and that nobody has asked about does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_the_end_of_a_member_is_the_end_of_its_children(tmp_path: Path) -> None:
    env = module(tmp_path, CHILD)
    member = Member("work", "work", str(tmp_path / "pid"), log=tmp_path / "log", env=env)
    wait_for((tmp_path / "pid").exists, 60)
    wait_for(lambda: (tmp_path / "pid").read_text() != "", 60)
    child = int((tmp_path / "pid").read_text())
    assert alive(child)
    assert member.ended() is None
    member.stop()
    assert member.wait(30) == -signal.SIGTERM
    wait_for(lambda: not alive(child), 30)


def test_it_hears_words_and_its_last_line_is_known(tmp_path: Path) -> None:
    env = module(
        tmp_path,
        "from recdistill.demo.live.member import WORDS\n"
        "import json, sys\n"
        "print(json.dumps({'message': f'heard {WORDS.get()} and {WORDS.get()}'}))\n"
        "sys.exit(3)\n",
    )
    member = Member("work", "work", log=tmp_path / "log", env=env)
    member.say("one")
    member.say("two")
    assert member.wait(60) == 3
    assert member.last_words() == "heard one and two"
    member.say("it is gone")


@pytest.mark.slow
def test_it_does_not_outlive_a_demo_that_is_killed(tmp_path: Path) -> None:
    env = module(
        tmp_path, CHILD.replace("time.sleep(600)\n", "").replace("Path(", "import time; Path(") + "time.sleep(600)\n"
    )
    program = f"""
import os, signal, sys
from pathlib import Path
from recdistill.demo.live.member import Member
member = Member("work", "work", {str(tmp_path / "pid")!r}, log=Path({str(tmp_path / "log")!r}), env=os.environ)
print(member.pid, flush=True)
sys.stdin.readline()
os.kill(os.getpid(), signal.SIGKILL)
"""
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env
    ) as demo:
        assert demo.stdout is not None
        member = int(demo.stdout.readline())
        wait_for(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text() != "", 60)
        assert alive(member)
        demo.communicate("\n")
    until = time.monotonic() + 60
    while alive(member) and time.monotonic() < until:
        time.sleep(0.1)
    assert not alive(member)


def test_its_processor_time_grows_with_its_work(tmp_path: Path) -> None:
    env = module(
        tmp_path,
        "import time\nuntil = time.process_time() + 0.5\nwhile time.process_time() < until: pass\ntime.sleep(600)\n",
    )
    member = Member("work", "work", log=tmp_path / "log", env=env)
    wait_for(lambda: (member.worked_s() or 0.0) >= 0.5, 60)
    member.kill()
    assert member.worked_s() is None

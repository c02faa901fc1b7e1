"""One finished demo for all tests of a run. Its world is so small that the gate may refuse its student.

It knows nothing of what the demo does: it runs the command as a person types it.

Example:
    >>> command_of(Path("here"))[-4:]
    ['--seed', '3', '--output', 'here']
"""

from __future__ import annotations

import fcntl
import json
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]


class DemoRun(NamedTuple):
    """Its folder, how it was started, and how it ended. All tests share the folder; to change it, a test copies it."""

    folder: Path
    command: list[str]
    process: subprocess.CompletedProcess[str]


def command_of(folder: Path) -> list[str]:
    """The command line that starts it."""
    command = [sys.executable, "-m", "recdistill", "demo", "--impressions", "2500", "--seed", "3"]
    return [*command, "--output", str(folder)]


def run_demo(folder: Path) -> DemoRun:
    """Runs the demo to its end. Who asks for its folder later, in any process, waits and gets the same."""
    command, told = command_of(folder), folder.with_suffix(".json")
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not told.exists():
            done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=900, check=False)
            told.write_text(json.dumps([done.returncode, done.stdout, done.stderr]), encoding="utf-8")
        code, out, errors = json.loads(told.read_text(encoding="utf-8"))
    return DemoRun(folder, command, subprocess.CompletedProcess(command, code, out, errors))

"""One finished demo for all tests of a session. Its world is so small that the gate may refuse its student.

It knows nothing of what the demo does: it runs the command as a person types it.

Example:
    >>> command_of(Path("here"))[-4:]
    ['--seed', '3', '--output', 'here']
"""

from __future__ import annotations

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
    """Runs the demo to its end."""
    command = command_of(folder)
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=900, check=False)
    return DemoRun(folder, command, done)

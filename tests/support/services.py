"""Runs the product's own processes as an image does: `python -m services.NAME`, with a settings file.

All but the ranker are forks of a process that has imported torch, see `tools.warm`. The ranker starts its interpreter
again.

It knows nothing of what is tested with them.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from recdistill.config import Settings, to_toml
from tools import processes, warm

ROOT = Path(__file__).resolve().parents[2]


class Services:
    """Starts, kills and ends processes that share their settings.

    Args:
        folder: Folder for the settings file and the output of the processes.
        settings: The settings that all of them read.
    """

    def __init__(self, folder: Path, settings: Settings) -> None:
        self.folder = folder
        self._config = folder / "settings.toml"
        self._config.write_text(to_toml(msgspec.to_builtins(settings)), encoding="utf-8")
        self._running: dict[str, subprocess.Popen[bytes] | warm.Warm] = {}

    def start(self, *names: str) -> None:
        """Starts those of the processes that are not running."""
        for name in names:
            env = {
                **os.environ,
                "RECDISTILL_CONFIG": str(self._config),
                "RECDISTILL_HEALTH_PORT": "",
                "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}",
            }
            if name == "ranker":
                command = [sys.executable, "-m", f"services.{name}"]
                self._running[name] = processes.spawn(command, log=self.log(name), env=env)
            else:
                self._running[name] = warm.start(f"services.{name}", log=self.log(name), env=env)

    def log(self, name: str) -> Path:
        """The file with the output of a process."""
        return self.folder / f"{name}.log"

    def kill(self, name: str) -> None:
        """Sends SIGKILL: the process can neither finish nor clean up."""
        processes.kill(self._running.pop(name))

    def end(self, *names: str) -> dict[str, int]:
        """Sends SIGTERM, as an orchestrator does, and returns the exit codes."""
        return {name: processes.end(self._running.pop(name), patience_s=60) for name in names or list(self._running)}

    def wait(self, done: Callable[[], bool], *, what: str, patience_s: float = 120.0) -> None:
        """Waits for something. If it does not come, or a process ends, the error has the output of the processes."""
        deadline = time.monotonic() + patience_s
        while not done():
            dead = [name for name, process in self._running.items() if process.poll() is not None]
            if dead or time.monotonic() > deadline:
                said = "\n".join(f"--- {n}\n{self.log(n).read_text()[-1500:]}" for n in dead or self._running)
                raise AssertionError(f"waiting for {what}: {'ended: ' + str(dead) if dead else 'too long'}\n{said}")
            time.sleep(0.1)

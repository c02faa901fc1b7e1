"""The processes of the live demo: they are started alike, watched together and stopped together.

It knows nothing of logs, registries or pages.

Example:
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     family = Family(Path(folder), {})
    ...     family.start("zen", "this")
    ...     family.wait_for("zen", 60)
    ...     family.stop()
    0
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Final

import recdistill
from recdistill.demo.live.member import Member
from recdistill.errors import RecdistillError, UsageError

PATIENCE_S: Final = 180.0
"""How long something of the beginning is waited for, on a slow machine."""

STOP_S: Final = 30.0


class Family:
    """All processes of one demo.

    Args:
        folder: Where they run and write their output.
        env: What their environment has besides that of the demo.
        may_end: Those that may end by themselves, with exit code 0.

    Raises:
        UsageError: This is an installed package, which has no `services/`.
    """

    def __init__(self, folder: Path, env: Mapping[str, str], may_end: Collection[str] = ()) -> None:
        root = Path(recdistill.__file__).parents[1]
        if not (root / "services").is_dir():
            raise UsageError(
                "demo --live: runs the processes of services/, which an installed package does not have; run it from a "
                "clone of recdistill"
            )
        self._folder, self._may_end = folder, frozenset(may_end)
        self._env = {
            **os.environ,
            **env,
            "PYTHONPATH": os.pathsep.join(filter(None, [str(root), os.environ.get("PYTHONPATH", "")])),
            "OMP_NUM_THREADS": "1",
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "DO_NOT_TRACK": "true",
        }
        # Else every process compiles the Python code of its libraries again, for ten seconds and more.
        self._env.pop("PYTHONDONTWRITEBYTECODE", None)
        self._members: dict[str, Member] = {}
        self._more: dict[str, dict[str, str]] = {}

    def start(self, name: str, module: str, *arguments: str, env: Mapping[str, str] | None = None) -> None:
        """Starts a process; one that had this name has ended.

        Args:
            name: What it is called.
            module: What it runs, as `python -m` does.
            arguments: The arguments of that module.
            env: What its environment has besides that of the others.
        """
        self._members[name] = Member(
            name,
            module,
            *arguments,
            log=self._folder / f"{name}.log",
            env={**self._env, **(env or {})},
            folder=self._folder,
        )

    def say(self, name: str, word: str) -> None:
        """Sends a process a word."""
        self._members[name].say(word)

    def pid(self, name: str) -> int:
        """The number of a process."""
        return self._members[name].pid

    def worked_s(self, name: str) -> float | None:
        """Processor seconds that a process has used so far; None where they are not known."""
        return self._members[name].worked_s() if name in self._members else None

    def kill(self, name: str) -> None:
        """Kills a process and its group with SIGKILL, and waits until it is gone."""
        self._members.pop(name).kill()

    def ended(self, name: str) -> tuple[int, str] | None:
        """Exit code and last words of a process that has ended; it is forgotten. None: it still runs."""
        if self._members[name].ended() is None:
            return None
        member = self._members.pop(name)
        return member.wait(0.0), member.last_words()

    def wait_for(self, name: str, seconds: float) -> int:
        """Waits for the end of a process, kills it after that time, and returns its exit code."""
        return self._members.pop(name).wait(seconds)

    def wait(self, done: Callable[[], bool], what: str) -> None:
        """Waits until something is so.

        Raises:
            RecdistillError: A process ended, or it took too long.
        """
        until = time.monotonic() + PATIENCE_S
        while not done():
            self.check()
            if time.monotonic() > until:
                raise RecdistillError(f"demo --live: {what} was not ready after {PATIENCE_S:.0f} s; see {self._folder}")
            time.sleep(0.05)

    def check(self, but: Collection[str] = ()) -> None:
        """Makes sure that every process runs.

        Args:
            but: Those that somebody else waits for.

        Raises:
            RecdistillError: One has ended that should not.
        """
        for name, member in self._members.items():
            code = member.ended()
            if code is not None and name not in but and not (code == 0 and name in self._may_end):
                raise RecdistillError(f"demo --live: the {name} ended with code {code}: {member.last_words()}")

    def stop(self) -> None:
        """Stops every process, and kills what does not stop."""
        for member in self._members.values():
            member.stop()
        until = time.monotonic() + STOP_S
        for member in self._members.values():
            member.wait(max(0.0, until - time.monotonic()))
        self._members.clear()

"""Runs verbs in children of one process, and kills one of them at its nth call that changes something.

    python -m e2e.killed_verb < job.json

The modules are imported once, so a child begins at once. The job has `folder`, the verb's words (`verb`), verbs that
show what the folder has afterwards (`shows`), how many `places` there are, and how many more among the `last` calls.
The folder is copied for each place. For each place one line of JSON comes out: how the killed verb, the same verb typed
again, and the shows ended, and what they printed. The first line is of a verb that was not killed.

It knows nothing of pytest.
"""

from __future__ import annotations

import importlib
import json
import os
import shutil
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import Any

CHANGES = frozenset(
    "rename replace unlink remove mkdir rmdir link fsync open write execute executemany commit flush".split()  # noqa: SIM905
)
"""Functions of C that change a file, a name or a table, or may do so."""


def typed(folder: Path, words: list[str], *, die_at: int = 0) -> dict[str, Any]:
    """Types a verb in a child; `die_at`: it is killed just before its call of this number. 0: it counts its calls."""
    out, err, counted = (folder.parent / f"{folder.name}.{name}" for name in ("out", "err", "count"))
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.chdir(folder)
            for number, path in ((1, out), (2, err)):
                os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
            sys.stdout, sys.stderr = open(1, "w", closefd=False), open(2, "w", closefd=False)  # noqa: SIM115
            calls = 0

            def watch(_: FrameType, event: str, what: Any) -> None:
                nonlocal calls
                if event == "c_call" and what.__name__ in CHANGES:
                    calls += 1
                    if calls == die_at:
                        os.kill(os.getpid(), signal.SIGKILL)

            from recdistill.cli import main

            sys.setprofile(watch)
            code = main(words)
            sys.setprofile(None)
            sys.stdout.flush()
            sys.stderr.flush()
            counted.write_text(str(calls))
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    return {
        "code": os.waitstatus_to_exitcode(status),
        "out": out.read_text(),
        "err": err.read_text(),
        "calls": int(counted.read_text()) if counted.exists() else 0,
    }


def main() -> None:
    """Does the job."""
    job = json.load(sys.stdin)
    for name in job["modules"]:
        importlib.import_module(name)
    base = Path(job["folder"])

    def copied(name: str) -> Path:
        folder = base.parent / name
        shutil.copytree(base, folder)
        return folder

    def shown(folder: Path) -> list[dict[str, Any]]:
        return [typed(folder, words) for words in job["shows"]]

    whole = copied("whole")
    first = typed(whole, job["verb"])
    print(json.dumps({"first": first, "shows": shown(whole), "folder": str(whole)}), flush=True)
    calls, places = first["calls"], job["places"]
    spread = {1 + n * calls // places for n in range(places)}
    for at in sorted(spread | set(range(max(1, calls - job["last"] + 1), calls + 1))):
        folder = copied(f"place-{at}")
        killed = typed(folder, job["verb"], die_at=at)
        again = typed(folder, job["verb"])
        said = {"at": at, "killed": killed, "again": again, "shows": shown(folder), "folder": str(folder)}
        print(json.dumps(said), flush=True)


if __name__ == "__main__":
    main()

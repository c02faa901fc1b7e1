"""A real browser for tests and pictures: the system's Chromium, driven by playwright-core under Node.js.

`make setup-browser` fetches it. It knows nothing of pages: who calls it gives it a script and arguments.

Example:
    >>> missing_parts(Path("/nowhere")) is None
    False
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

HOME = Path(__file__).resolve().parents[1] / ".cache" / "browser"

# Every script can use `page`, the arguments as `args`, and `done(value)`, which sends a value back.
_FRAME = """
const { chromium } = require("playwright-core");
(async () => {
  const browser = await chromium.launch({ executablePath: process.env.CHROMIUM, args: ["--no-sandbox"] });
  try {
    const args = JSON.parse(process.env.ARGS);
    const page = await browser.newPage();
    const done = (value) => process.stdout.write(JSON.stringify(value));
    %s
  } finally {
    await browser.close();
  }
})().catch((error) => { console.error(error); process.exit(1); });
"""


def _chromium() -> str | None:
    return next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


def missing_parts(home: Path = HOME) -> str | None:
    """One line that says which part is missing and what to do. None: nothing is missing."""
    if _chromium() is None:
        return "no Chromium on the path; type: make setup-browser"
    if shutil.which("node") is None:
        return "no Node.js on the path; type: make setup-browser"
    if not (home / "node_modules" / "playwright-core").is_dir():
        return f"no playwright-core in {home}; type: make setup-browser"
    return None


def axe_path(home: Path = HOME) -> str:
    """The file of axe-core, which finds what keeps people from using a page.

    Raises:
        AssertionError: It is not there.
    """
    path = home / "node_modules" / "axe-core" / "axe.min.js"
    if not path.is_file():
        raise AssertionError(f"no axe-core in {home}; type: make setup-browser")
    return str(path)


def run_script(script: str, /, *, timeout_s: float = 60.0, **args: Any) -> Any:
    """Runs JavaScript with a new `page`, and returns the value that it gave to `done`. It gets `args` as JSON.

    Raises:
        AssertionError: The script failed. The message is the output of the browser.
    """
    done = subprocess.run(
        ["node", "-e", _FRAME.replace("%s", script)],
        env={
            **os.environ,
            "ARGS": json.dumps(args),
            "CHROMIUM": _chromium() or "",
            "NODE_PATH": str(HOME / "node_modules"),
        },
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )
    if done.returncode != 0:
        raise AssertionError(f"the browser script failed:\n{done.stderr}{done.stdout}")
    return json.loads(done.stdout) if done.stdout else None

"""Makes a student that has seen little, and pushes it by hand: judged, registered, and then refused.

These are the commands that a person would type: `distil`, `publish`, `promote`. The last one says in one sentence why
the version is refused.

It knows nothing of the running processes.

    python -m recdistill.demo.live.worse FOLDER UNTIL   (the demo starts it)

Example:
    >>> numbered('{"version": 7, "passed": false}')
    '7'
"""

from __future__ import annotations

import json
import os
import subprocess
import sys


def numbered(printed: str) -> str:
    """The number of the version that `publish --json` prints."""
    return str(json.loads(printed)["version"])


def typed(*line: str) -> str:
    """What a command prints.

    Raises:
        SystemExit: It failed; its own error is on stderr.
    """
    done = subprocess.run([sys.executable, "-m", "recdistill", *line], stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode != 0:
        sys.exit(done.returncode)
    return done.stdout


def main() -> None:
    """Types the commands, up to the first that fails."""
    folder, until = sys.argv[1:3]
    os.environ["RECDISTILL__DISTIL__DIRECTORY"] = folder
    os.environ["RECDISTILL__DISTIL__PUBLISH"] = "false"
    os.environ["RECDISTILL__DISTIL__EXPORT_BESIDE"] = "false"
    typed("distil", "--drain", "--quiet", "--until", until)
    # The running promoter may have another candidate by now, so the version is named by its number.
    number = numbered(typed("publish", "--quiet", "--json"))
    print(typed("promote", number, "--why", "a person liked it"), end="")


if __name__ == "__main__":
    main()

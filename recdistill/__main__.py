"""`python -m recdistill` is `recdistill`."""

import sys

from recdistill.restart import plain_memory


def run() -> int:
    """The command, as a shell starts it."""
    if "serve" in sys.argv[1:2]:
        plain_memory()
    from recdistill.cli import main

    return main()


if __name__ == "__main__":
    sys.exit(run())

"""The joiner as a process: `python -m services.joiner`."""

import sys

from services.process import main

if __name__ == "__main__":
    sys.exit(main("joiner"))

"""The scorer as a process: `python -m services.scorer`."""

import sys

from services.process import main

if __name__ == "__main__":
    sys.exit(main("scorer"))

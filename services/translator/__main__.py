"""The translator as a process: `python -m services.translator`."""

import sys

from services.process import main

if __name__ == "__main__":
    sys.exit(main("translator"))

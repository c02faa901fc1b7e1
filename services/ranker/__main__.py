"""The ranker as a process: `python -m services.ranker`."""

import sys

from services.process import main

if __name__ == "__main__":
    sys.exit(main("ranker"))

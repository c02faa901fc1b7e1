"""The ranker as a process: `python -m services.ranker`."""

import sys

from recdistill.restart import plain_memory

if __name__ == "__main__":
    plain_memory()
    from services.process import main

    sys.exit(main("ranker"))

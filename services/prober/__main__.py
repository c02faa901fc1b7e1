"""The prober as a process: `python -m services.prober`."""

import sys

from services.process import main

if __name__ == "__main__":
    sys.exit(main("prober"))

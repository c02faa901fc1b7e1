"""The promoter as a process: `python -m services.promoter`."""

import sys

from services.process import main

if __name__ == "__main__":
    sys.exit(main("promoter"))

"""The distiller as a process: `python -m services.distiller`."""

import sys

from services.process import main

if __name__ == "__main__":
    sys.exit(main("distiller"))

"""Python imports this at its start, in each process whose flushes `tools.crash.disk` records."""

import os

from tools.crash.disk import ENV, install

if os.environ.get(ENV):
    install(os.environ[ENV])

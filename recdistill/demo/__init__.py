"""The whole product in one terminal (run.py has the chapters), and the live demo (live/) on its own processes."""

from recdistill.demo.live import LiveOptions, run_live, tell_live
from recdistill.demo.run import Options, run

__all__ = ["LiveOptions", "Options", "run", "run_live", "tell_live"]

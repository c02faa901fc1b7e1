"""The whole product in one terminal (run.py has the chapters), and the live demo (live/) on its own processes."""

from recdistill.demo.live import LiveOptions, Page, ask_live, run_live, tell_live
from recdistill.demo.run import Options, run

__all__ = ["LiveOptions", "Options", "Page", "ask_live", "run", "run_live", "tell_live"]

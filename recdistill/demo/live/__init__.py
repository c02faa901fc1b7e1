"""The live demo: the product's own processes, a stream in the time of the clock, and a page. run.py has it all.

Example:
    >>> LiveOptions().port
    0
"""

from recdistill.demo.live.page import Page, ask_live
from recdistill.demo.live.run import LiveOptions, run_live
from recdistill.demo.live.told import tell_live

__all__ = ["LiveOptions", "Page", "ask_live", "run_live", "tell_live"]

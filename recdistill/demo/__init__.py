"""The whole product in one terminal. run.py has the chapters, server.py runs the ranker, story.py prints progress."""

from recdistill.demo.run import Options, run

__all__ = ["Options", "run"]

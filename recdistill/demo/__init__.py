"""The whole product in one terminal: see run.py for the story, server.py for who answers, story.py for who tells it."""

from recdistill.demo.run import Options, run

__all__ = ["Options", "run"]

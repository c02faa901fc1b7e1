"""What a trainer is made with."""

from __future__ import annotations

from support.steps import SETTINGS

from recdistill.config import LossSettings, WatchSettings
from recdistill.features import FeatureSpec, Field
from recdistill.loops.trainers import make_trainer


def test_the_watch_knows_which_fields_are_numbers() -> None:
    """A vector of two numbers has as many columns as a number with its mark, so the columns do not say it."""
    context = {"hour": Field("number"), "place": Field("vector", size=2), "country": Field("category", capacity=4)}
    made = make_trainer(FeatureSpec(context=context), SETTINGS, LossSettings(), seed=0, watch=WatchSettings())
    assert made.watch is not None
    assert made.watch.numbers == {"hour"}

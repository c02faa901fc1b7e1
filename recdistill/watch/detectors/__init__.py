"""Detectors: each follows one quantity of a teacher's lists, and says when it has changed for the worse.

One file, one detector. To add one, write its file against `Detector`, add a field to `Detectors`, and a line to the
contract suite (`tests/watch/detectors/test_contract.py`), which says what the detector must find.

It knows nothing of what is done about a teacher: that is the watch's.
"""

from recdistill.watch.detectors.all import Detectors
from recdistill.watch.detectors.chance import FOUNDING, Chance
from recdistill.watch.detectors.contract import Detector, Finding
from recdistill.watch.detectors.labels import Labels
from recdistill.watch.detectors.order import Order
from recdistill.watch.detectors.scale import Scale

__all__ = ["FOUNDING", "Chance", "Detector", "Detectors", "Finding", "Labels", "Order", "Scale"]

"""Detectors: each follows one quantity of a teacher's lists, and reports when it has become worse.

There is one file for each detector. To add one, write a file with a class that fits `Detector`. Then add a field to
`Detectors`, and a line to the contract suite (`tests/watch/detectors/test_contract.py`) that says what the detector
must find.

Those of `Drifts` follow the stream itself, whoever scored it: inputs, labels, and the student against its teachers.
They fit `Drift`, and their suite is `tests/watch/detectors/test_drifts.py`.

It knows nothing of what is done about a teacher: the watch decides that.
"""

from recdistill.watch.detectors.all import Detectors
from recdistill.watch.detectors.chance import FOUNDING, Chance
from recdistill.watch.detectors.contract import ALPHA, Detector, Drift, Finding
from recdistill.watch.detectors.drifts import Drifts, Found
from recdistill.watch.detectors.itself import Itself
from recdistill.watch.detectors.labels import Labels
from recdistill.watch.detectors.order import Order
from recdistill.watch.detectors.scale import Scale

__all__ = [
    "ALPHA",
    "FOUNDING",
    "Chance",
    "Detector",
    "Detectors",
    "Drift",
    "Drifts",
    "Finding",
    "Found",
    "Itself",
    "Labels",
    "Order",
    "Scale",
]

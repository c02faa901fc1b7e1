"""What distillation adds, as the promoter's last judgement found it: gauges in the text form of Prometheus.

The control learns from labels alone. The student's lead over it is what the teacher adds. Where nobody ever began to
make a control there is nothing to say, so there is no gauge.

It knows nothing of logs, or of how a student learns.

Example:
    >>> list(Added(None).lines())
    []
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Final

from recdistill.bundle import Bundle
from recdistill.judge import CONTROL, STUDENT, Judgement
from recdistill.release import Controls

HELP: Final = {
    "missing": "1: a control was made, and the last judgement has no figure of it; 0: it has one.",
    "began_seconds": "When a control began that has no bundle, in seconds since 1970.",
    "made_seconds": "When the control was made that was judged last, in seconds since 1970.",
    "lead_ndcg10": "NDCG at 10 of the student minus that of the control, on the lists of the last judgement.",
    "lead_ndcg10_low": "Lower end of its 95% interval, clustered by user.",
    "lead_ndcg10_high": "Upper end of its 95% interval, clustered by user.",
}


class Added:
    """The control of each judgement, and the gauges of the last one.

    Args:
        controls: The control's bundles; None: nobody looks for one.
    """

    def __init__(self, controls: Controls | None) -> None:
        self._controls = controls
        self._control: Bundle | None = None
        self._values: dict[str, float] = {}

    def newest(self, into: Path) -> tuple[Bundle | None, str]:
        """The control for the next judgement, or a sentence that says why there is none.

        Args:
            into: The folder for its files.

        Raises:
            RegistryError: The registry does not answer.
        """
        self._control, why = (None, "nobody looked for one") if self._controls is None else self._controls.newest(into)
        return self._control, why

    def take(self, judgement: Judgement) -> None:
        """The judgement was made.

        Raises:
            RegistryError: The registry does not answer.
        """
        if self._controls is None or not self._controls.known():
            self._values = {}
            return
        found = judgement.difference(STUDENT, CONTROL)
        if found is None:
            since = self._controls.empty_since()
            self._values = {"missing": 1.0} if since is None else {"began_seconds": since}
            return
        ends = {"lead_ndcg10": found.mean, "lead_ndcg10_low": found.low, "lead_ndcg10_high": found.high}
        self._values = {"missing": 0.0, **_made(self._control), **ends}

    def lines(self) -> Iterator[str]:
        """The gauges. Another thread may ask."""
        for name, value in self._values.items():
            full = f"recdistill_control_{name}"
            yield from (f"# HELP {full} {HELP[name]}", f"# TYPE {full} gauge", f"{full} {value:.6f}")


def _made(control: Bundle | None) -> dict[str, float]:
    """When a bundle was made. Nothing where it does not say so: a time is never guessed."""
    try:
        said = str(control.manifest.provenance["made_at"]) if control is not None else ""
        return {"made_seconds": datetime.fromisoformat(said).timestamp()}
    except (KeyError, ValueError):
        return {}

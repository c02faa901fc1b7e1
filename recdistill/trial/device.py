"""Asks a device file the golden requests of its bundle, through onnxruntime, as a phone would.

A device file scores with int8 vectors. The export measured how far these scores are from the float scores, on the same
requests. If a file is much further away, it was not made from this bundle's weights.

It knows nothing of processes.

Example:
    >>> from recdistill.bundle import open_bundle
    >>> check_device(open_bundle(Path("no/such/folder")), Path("device.onnx"))
    Traceback (most recent call last):
    recdistill.errors.BundleError: no/such/folder: there is no bundle here; give the folder that holds manifest.json
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import numpy as np

from recdistill.bundle import Bundle
from recdistill.device import Device
from recdistill.errors import BundleError, RequestError
from recdistill.features import Asker
from recdistill.serve import Recommender
from recdistill.trial.answers import K, scored
from recdistill.trial.towers import TOLERANCE, Invented, invented

AWAY: Final = 2.0
"""The distance from the float scores may be at most this many times the distance that the export measured."""


def check_device(bundle: Bundle, path: Path) -> None:
    """Asks a device file golden, invented and empty requests.

    Args:
        bundle: The bundle that it must come from.
        path: The file.

    Raises:
        BundleError: It does not run, comes from another bundle, or an answer is not what it should be.
    """
    device = Device.open(path, expect=bundle.content_hash)
    again = "export it again"
    if device.items != len(bundle.items):
        raise BundleError(
            f"{path}: says that it holds {device.items} items, its bundle has {len(bundle.items)}; {again}"
        )
    recommender = Recommender(bundle)
    slot_of = {item: slot for slot, item in enumerate(recommender.ids)}
    k = min(K, len(bundle.items))
    measured = bundle.manifest.provenance.get("measured")
    away = measured.get("int8_score_max_abs") if isinstance(measured, dict) else None
    asked: list[Asker] = [*bundle.golden, *invented(bundle)[:K], Invented()]
    for number, (one, scores_T) in enumerate(zip(asked, recommender.score_all(asked), strict=True)):
        items, scores = _answer(device, one, k, str(path))
        scored(str(path), items, scores, k)
        if unknown := [item for item in items if item not in slot_of]:
            raise BundleError(f"{path}: answers with {unknown[0]!r}, which its bundle does not know; {again}")
        exact = scores_T[[slot_of[item] for item in items]]
        # Only golden requests were measured at the export.
        if number < len(bundle.golden) and isinstance(away, int | float):
            most = AWAY * away + TOLERANCE * np.maximum(1.0, np.abs(exact))
            if (np.abs(exact - scores) > most).any():
                raise BundleError(
                    f"{path}: golden request {number} gets scores that are {np.abs(exact - scores).max():.3g} from "
                    f"those of the bundle, and the export measured {away:.3g}; {again}"
                )


def _answer(device: Device, one: Asker, k: int, source: str) -> tuple[list[str], list[float]]:
    try:
        found: Any = device.recommend(
            [event.item for event in one.history],
            actions=[event.action for event in one.history],
            times_us=[event.time_us for event in one.history],
            time_us=one.time_us,
            context=dict(one.context),
            k=k,
        )
    except RequestError as e:
        raise BundleError(f"{source}: refuses a request that its bundle takes ({e}); export it again") from e
    except Exception as e:  # onnxruntime's exceptions have no common base class but Exception
        raise BundleError(f"{source}: fails on a request ({str(e).splitlines()[0][:200]}); export it again") from e
    items, scores = found
    if not (isinstance(items, list) and all(isinstance(item, str) for item in items) and isinstance(scores, list)):
        raise BundleError(f"{source}: an answer is not a list of ids with a list of scores; export it again")
    return items, scores

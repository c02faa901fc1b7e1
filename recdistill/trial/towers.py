"""Runs the two towers of a bundle. It checks shape and values of their outputs, and computes item vectors again.

The item vectors of a bundle come from its item tower, its items and its vocabulary. So they can be computed again and
compared. This shows vectors of another student, and a vocabulary in which a row belongs to another value.

It knows nothing of processes.

Example:
    >>> shaped("a tower", np.ones((2, 3), np.float32), (2, 3)).shape
    (2, 3)
    >>> shaped("a tower", np.array([[np.nan]], np.float32), (1, 1))
    Traceback (most recent call last):
    recdistill.errors.BundleError: a tower: 1 of 1 outputs is not finite; export the bundle again
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from recdistill.bundle import Bundle
from recdistill.errors import BundleError
from recdistill.features import Asker, Catalogue, FeatureError, encode_requests
from recdistill.model import layout, run
from recdistill.records import Event, Value

TOLERANCE: Final = 2e-4
"""The largest difference that a component may have, for vectors of length one. The export allows half of it."""

BLOCK: Final = 1024
INVENTED: Final = 64
"""How many invented users are asked about, together with those of the golden requests."""

Floats = npt.NDArray[np.float32]


class Invented(NamedTuple):
    """An invented request."""

    history: tuple[Event, ...] = ()
    context: Mapping[str, Value] = {}
    time_us: int = 0


class _Places(NamedTuple):
    slot_of: Mapping[str, int]


def shaped(what: str, found: Any, shape: tuple[int, ...]) -> Floats:
    """Checks an output, and returns it: it must be float32, of this shape, and finite.

    Args:
        what: What gave the output, for the error.
        found: The output.
        shape: The shape that it must have.

    Raises:
        BundleError: The output is different.
    """
    again = "export the bundle again"
    if not isinstance(found, np.ndarray) or found.dtype != np.float32:
        raise BundleError(f"{what}: gives {getattr(found, 'dtype', type(found).__name__)}, not float32; {again}")
    if found.shape != shape:
        raise BundleError(f"{what}: gives the shape {list(found.shape)}, expected {list(shape)}; {again}")
    if wrong := int(np.count_nonzero(~np.isfinite(found))):
        are = "is" if wrong == 1 else "are"
        raise BundleError(f"{what}: {wrong:,} of {found.size:,} outputs {are} not finite; {again}")
    return found


def check_items(bundle: Bundle, rows: int) -> None:
    """Computes item vectors again, and compares them with those of the bundle.

    Args:
        bundle: The bundle.
        rows: How many items at most. If there are more, some are drawn, with the content hash as seed.

    Raises:
        BundleError: The tower fails, or an item has another vector.
    """
    source = str(bundle.path / "item_tower.onnx")
    tower = run.ItemTower(bundle.item_tower, source=source)
    count, width = bundle.vectors_NW.shape
    slots = np.arange(count)
    if count > rows:
        slots = np.sort(np.random.default_rng(int(bundle.content_hash[:8], 16)).choice(count, rows, replace=False))
    for begin in range(0, len(slots), BLOCK):
        some = slots[begin : begin + BLOCK]
        catalogue = Catalogue(bundle.spec, bundle.vocabulary)
        for slot in some.tolist():
            try:
                catalogue.apply(bundle.items[slot], admit=False)
            except FeatureError as e:
                raise BundleError(f"{bundle.path / 'items.bin'}: an item does not fit the specification: {e}") from e
        found_NW = shaped(source, tower(catalogue.encoded()), (len(some), width))
        stated_NW = np.asarray(bundle.vectors_NW[some])
        least = TOLERANCE * np.maximum(1.0, np.abs(stated_NW).max(1))
        beyond = np.flatnonzero(np.abs(found_NW - stated_NW).max(1) > least)
        if len(beyond):
            item = bundle.items[int(some[beyond[0]])].id
            raise BundleError(
                f"{bundle.path}: the item tower gives {len(beyond):,} of {len(some):,} items another vector than the "
                f"bundle holds ({item!r} is the first): the vocabulary, the tower or the vectors are those of another "
                "student; export the bundle again"
            )


def check_users(bundle: Bundle) -> None:
    """Runs the user tower for golden and invented users, in small and in large batches.

    Raises:
        BundleError: The tower fails, or an output is not what it should be.
    """
    source = str(bundle.path / "user_tower.onnx")
    tower = run.UserTower(bundle.user_tower, source=source)
    dim = layout.dim(bundle.vectors_NW.shape[1])
    places = _Places({item.id: slot for slot, item in enumerate(bundle.items)})
    asked: list[Asker] = [*bundle.golden, *invented(bundle), Invented()]
    for some in ([asked[-1]], [asked[0]], asked):
        try:
            requests = encode_requests(bundle.spec, bundle.vocabulary, places, some)
        except FeatureError as e:
            raise BundleError(f"{bundle.path / 'golden.json'}: a request does not fit the specification: {e}") from e
        rows_BHW = bundle.vectors_NW[np.maximum(requests.history_slots_BH, 0)]
        users_BD = shaped(source, tower(requests, rows_BHW), (len(some), dim))
        if (np.abs(users_BD) >= layout.USER_LIMIT).any():
            raise BundleError(
                f"{source}: gives user vectors of {layout.USER_LIMIT:g} and more; export the bundle again"
            )


def invented(bundle: Bundle) -> Sequence[Invented]:
    """Users with histories of every length that the tower takes, drawn from the bundle's items."""
    random = np.random.default_rng(0)
    actions = ("", *bundle.spec.history.actions)
    found = []
    for number in range(INVENTED):
        length = 1 + number % bundle.spec.history.length
        drawn = random.integers(0, len(bundle.items), length).tolist()
        events = tuple(Event(bundle.items[slot].id, 0, actions[n % len(actions)]) for n, slot in enumerate(drawn))
        found.append(Invented(events))
    return found

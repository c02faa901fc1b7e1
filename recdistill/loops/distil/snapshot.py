"""All that a bundle is made of, taken at one step: a copy in memory, which can be written to a folder and read again.

A process of its own makes a bundle of that folder while the student learns on. The same snapshot gives the same
content, whoever makes the bundle.

The folder lives as long as one export, on one machine. So it is neither sealed nor flushed: after a loss of power it
is deleted, and nobody reads it.

It knows nothing of torch, of processes, or of what becomes of a bundle.

Example:
    >>> import tempfile
    >>> from recdistill.records import Item
    >>> spec = FeatureSpec()
    >>> vocabulary = Vocabulary(spec)
    >>> catalogue = Catalogue(spec, vocabulary)
    >>> _ = catalogue.apply(Item("a"), admit=True)
    >>> about = About(popular=[("a", 1.0)], base_position=7, golden=[], provenance={"step": 3})
    >>> weights, rest = {"id": np.zeros((2, 6), np.float32)}, (vocabulary.snapshot(), catalogue.snapshot(), about)
    >>> taken = Snapshot(weights, spec, *rest, {"counts.bin": b"7"})
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     taken.write(Path(folder))
    ...     again = Snapshot.read(Path(folder))
    >>> again.about == about, again.vocabulary == taken.vocabulary, again.weights["id"].shape, again.beside
    (True, True, (2, 6), {'counts.bin': b'7'})
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np

from recdistill.bundle import Bundle
from recdistill.errors import BundleError
from recdistill.features import Catalogue, FeatureSpec, Vocabulary
from recdistill.records import Impression

NAME: Final = "order.json"


class About(msgspec.Struct, frozen=True):
    """What a bundle says beside the student itself.

    Attributes:
        popular: Items and their weights, most popular first.
        base_position: Next offset of `items` that the catalogue has not seen.
        golden: Requests whose answers go into the bundle.
        provenance: Where it comes from.
    """

    popular: list[tuple[str, float]]
    base_position: int
    golden: list[Impression]
    provenance: dict[str, Any]


class _Order(msgspec.Struct, frozen=True):
    """What `order.json` holds; the arrays lie beside it, one file each."""

    spec: str
    vocabulary: dict[str, list[str | None]]
    about: About
    weights: list[str]
    catalogue: list[str]
    beside: list[str]


class Snapshot(NamedTuple):
    """A student at one step.

    Attributes:
        weights: All weights by contract name, float32.
        spec: The feature specification.
        vocabulary: `Vocabulary.snapshot()`.
        catalogue: `Catalogue.snapshot()`.
        about: What the bundle says beside them.
        beside: Files that travel with the bundle.
    """

    weights: dict[str, np.ndarray]
    spec: FeatureSpec
    vocabulary: dict[str, list[str | None]]
    catalogue: dict[str, np.ndarray]
    about: About
    beside: dict[str, bytes]
    ready: Callable[[], None] = lambda: None
    """Waits until the weights are filled; `write` calls it."""

    def make(self, out: Path) -> Bundle:
        """Makes the bundle in a folder that does not exist yet.

        Raises:
            BundleError, DataError: It cannot be made.
        """
        vocabulary = Vocabulary.restore(self.spec, self.vocabulary)
        return build(
            self.weights,
            self.spec,
            vocabulary,
            Catalogue.restore(self.spec, vocabulary, self.catalogue),
            self.about,
            self.beside,
            out,
        )

    def write(self, folder: Path) -> None:
        """Writes it into a folder.

        Raises:
            OSError: The disk refuses it.
        """
        self.ready()
        for kind, arrays in (("weights", self.weights), ("catalogue", self.catalogue)):
            for number, array in enumerate(arrays.values()):
                with (folder / f"{kind}-{number}.npy").open("wb") as file:
                    np.lib.format.write_array(file, np.ascontiguousarray(array), allow_pickle=False)
        for number, data in enumerate(self.beside.values()):
            (folder / f"beside-{number}.bin").write_bytes(data)
        order = _Order(
            spec=self.spec.to_json().decode(),
            vocabulary=self.vocabulary,
            about=self.about,
            weights=list(self.weights),
            catalogue=list(self.catalogue),
            beside=list(self.beside),
        )
        (folder / NAME).write_bytes(msgspec.json.encode(order))

    @classmethod
    def read(cls, folder: Path) -> Snapshot:
        """The snapshot that `write` wrote.

        Raises:
            BundleError: It is not there, or not whole.
        """
        try:
            order = msgspec.json.decode((folder / NAME).read_bytes(), type=_Order)
            weights, catalogue = (
                {
                    name: np.load(folder / f"{kind}-{number}.npy", allow_pickle=False)
                    for number, name in enumerate(names)
                }
                for kind, names in (("weights", order.weights), ("catalogue", order.catalogue))
            )
            beside = {name: (folder / f"beside-{n}.bin").read_bytes() for n, name in enumerate(order.beside)}
        except (OSError, ValueError, msgspec.MsgspecError) as e:
            raise BundleError(f"{folder}: holds no snapshot of a student ({e}); the next export makes another") from e
        return cls(
            weights=weights,
            spec=FeatureSpec.from_json(order.spec.encode()),
            vocabulary=order.vocabulary,
            catalogue=catalogue,
            about=order.about,
            beside=beside,
        )


def build(
    weights: dict[str, np.ndarray],
    spec: FeatureSpec,
    vocabulary: Vocabulary,
    catalogue: Catalogue,
    about: About,
    beside: dict[str, bytes],
    out: Path,
) -> Bundle:
    """Makes a bundle of a student and what is said beside it; the only way that the distiller makes one."""
    from recdistill.bundle import build as bundles

    return bundles.export(
        weights,
        spec,
        vocabulary,
        catalogue,
        out,
        popular=about.popular,
        base_position=about.base_position,
        golden_requests=about.golden,
        provenance=about.provenance,
        beside=beside,
    )

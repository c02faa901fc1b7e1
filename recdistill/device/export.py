"""Writes the device file of a bundle: one ONNX graph that takes strings and gives item ids and scores.

It knows nothing of torch, of how the bundle was made, or of what a phone does with the file.

Example:
    >>> from recdistill.bundle import open_bundle
    >>> export_device(open_bundle(Path("no/such/folder")), Path("device.onnx"))
    Traceback (most recent call last):
    recdistill.errors.BundleError: no/such/folder: there is no bundle here; give the folder that holds manifest.json
"""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Any

from recdistill.bundle import Bundle
from recdistill.device import file
from recdistill.errors import BundleError, DataError
from recdistill.model import graphs, layout


def export_device(bundle: Bundle, out: Path) -> dict[str, Any]:
    """Writes the device file of a bundle: one ONNX graph that takes strings and gives item ids and scores.

    Args:
        bundle: The bundle.
        out: Path of the file. A file that exists is replaced.

    Returns:
        `size` in bytes, `items`, `dim`, `content_hash`.

    Raises:
        DataError: The specification has hashed text in the context.
        BundleError: The user tower is not a whole ONNX graph, or the file cannot be written.
    """
    spec = bundle.spec
    try:
        weights = graphs.tower_weights(bundle.user_tower)
    except DataError as e:
        raise BundleError(f"{bundle.path / 'user_tower.onnx'}: {e}") from e
    keys = [f"context.{name}" for name, field in spec.context.items() if field.kind == "category"]
    graph = graphs.device(
        weights,
        spec,
        ids=[item.id for item in bundle.items],
        values={key: [(v, bundle.vocabulary.row(key, v)) for v in bundle.vocabulary.admitted(key)] for key in keys},
        quantised_ND=bundle.quantised_ND,
        scales_N=bundle.scales_N,
        biases_N=bundle.vectors_NW[:, layout.BIAS],
        item_weights_N=bundle.vectors_NW[:, layout.WEIGHT],
    )
    made = file.Made(bundle.content_hash, spec.to_json().decode(), len(bundle.items))
    model = file.seal(graph, made.entries())
    out = Path(out)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        _replace(out, model)
    except OSError as e:
        raise BundleError(f"{out}: cannot be written ({e.strerror})") from e
    content = bundle.manifest.content
    return {"size": len(model), "items": content.items, "dim": content.dim, "content_hash": bundle.content_hash}


def _replace(out: Path, model: bytes) -> None:
    """Writes the file beside its place first. So a kill or a full disk leaves what was there."""
    if out.exists() and not out.is_file():  # such as /dev/stdout
        out.write_bytes(model)
        return
    place = out.resolve()  # a link stays a link
    draft = place.with_name(f".{place.name}.{secrets.token_hex(4)}.part")
    try:
        draft.write_bytes(model)
        draft.replace(place)
    finally:
        draft.unlink(missing_ok=True)

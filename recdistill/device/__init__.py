"""The device file: written from a bundle, read with onnxruntime alone.

`file` says what the format is, `export` writes it, `reader` reads it. Whoever only reads brings neither `onnx` nor the
bundle's code into the process: the writer is imported when it is first asked for.

It knows nothing of training or of the registry.

Example:
    >>> Device.__name__
    'Device'
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from recdistill.device.reader import Device

if TYPE_CHECKING:
    from recdistill.device.export import export_device

__all__ = ["Device", "export_device"]


def __getattr__(name: str) -> Any:
    if name != "export_device":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from recdistill.device.export import export_device

    return export_device

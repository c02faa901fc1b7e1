"""The device file: one file for phones and browsers, made from a bundle. A reader needs only onnxruntime and numpy.

`file` defines the format, `export` writes a file, `reader` reads one. A process that only reads does not load `onnx` or
the bundle's code: the writer is imported when it is first used.

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

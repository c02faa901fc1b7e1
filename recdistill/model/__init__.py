"""A student without torch: its arithmetic in numpy, its graphs in ONNX, and the sessions that run them.

`layout` names the parts of an item's output. `forward` defines the arithmetic. `graphs` writes it as ONNX. `run` runs
the towers. Importing the room imports numpy only.

It knows nothing of files, logs or training.
"""

from recdistill.model.quantise import quantise

__all__ = ["quantise"]

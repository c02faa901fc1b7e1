"""What a student computes, without torch: its arithmetic in numpy, its graphs in ONNX, and the sessions that run them.

`layout` names what an item's output holds, `forward` is the truth of the arithmetic, `graphs` writes it as ONNX, `run`
runs the towers. Importing the room itself brings numpy alone.

It knows nothing of files, logs or training.
"""

from recdistill.model.quantise import quantise

__all__ = ["quantise"]

"""The built-in ranker, a large model in torchrec, and its training. Importing this room does not import torch.

Example:
    >>> Training(dim=32).heads
    2
"""

from recdistill.teachers.builtin.files import Training

__all__ = ["Training"]

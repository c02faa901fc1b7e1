"""Teachers that take tensors: it turns impressions into arrays, and runs a model in an ONNX file.

Example:
    >>> text_of(7.0), text_of(True)
    ('7', 'true')
"""

from recdistill.teachers.tensors.feed_sources import Port, natural_ports, needed_attributes, read_by, text_of
from recdistill.teachers.tensors.feeds import Feeder, Misfit, put_scores
from recdistill.teachers.tensors.models import OnnxModel, TensorModel
from recdistill.teachers.tensors.packing import Row

__all__ = [
    "Feeder",
    "Misfit",
    "OnnxModel",
    "Port",
    "Row",
    "TensorModel",
    "natural_ports",
    "needed_attributes",
    "put_scores",
    "read_by",
    "text_of",
]

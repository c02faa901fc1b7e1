"""A teacher that is an ONNX file: any model with named inputs, run in this process by onnxruntime.

The file is read once, and checked before it is loaded. Its digest is the version. A model with data in other files, or
with operators that onnxruntime does not have, is refused. Each input is compared with what the settings feed it. If the
model fails on a batch, each list is tried alone, so that one bad list does not spoil the others.

It does not know how tensors are made (`feeds` does), or where the model comes from.

Example:
    >>> OnnxTeacher.open(OnnxModel(path="no/such.onnx"), teacher_id="r", version="", scale="logit")
    Traceback (most recent call last):
    recdistill.errors.TeacherError: teacher.onnx.path: no/such.onnx: cannot be read (No such file or directory)
"""

from __future__ import annotations

import hashlib
import logging
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from recdistill.errors import ConfigError, TeacherError
from recdistill.given import read_bytes
from recdistill.records import Impression, Item, Scale
from recdistill.teachers.attributes import Attributes
from recdistill.teachers.contract import Scores
from recdistill.teachers.tensors.feed_sources import Port, needed_attributes, read_by
from recdistill.teachers.tensors.feeds import Feeder, Misfit
from recdistill.teachers.tensors.models import OnnxModel
from recdistill.teachers.tensors.onnx_file import inspect_model
from recdistill.teachers.tensors.packing import Row

log_ = logging.getLogger(__name__)

SECTION: Final = "teacher.onnx"
_MOST_BYTES: Final = 2 << 30  # of an ONNX file: protobuf holds no more
_BUILT_IN: Final = {"", "ai.onnx", "ai.onnx.ml", "ai.onnx.preview", "com.microsoft", "com.microsoft.nchwc"}
"""Domains of the operators that every onnxruntime has."""
_TYPES: Final = {"float": "float32", "double": "float64"}


class OnnxTeacher:
    """A model in an ONNX file; `open` makes one.

    Args:
        session: An onnxruntime session.
        settings: What the model is fed, and its output.
        teacher_id: Name of the teacher.
        version: Its version.
        scale: What its scores mean.

    Raises:
        ConfigError: The settings do not fit the model.
    """

    def __init__(self, session: Any, settings: OnnxModel, *, teacher_id: str, version: str, scale: Scale) -> None:
        self.id, self.version, self.scale = teacher_id, version, scale
        self.reads = read_by(settings)
        self._session = session
        self._attributes = Attributes(needed_attributes(settings))
        ports = [_port(one) for one in session.get_inputs()]
        self._feeder = Feeder(settings, ports, self._attributes, nan=True, section=SECTION)
        self._output = _output([_port(one) for one in session.get_outputs()], settings)

    @classmethod
    def open(cls, settings: OnnxModel, *, teacher_id: str, version: str, scale: Scale) -> OnnxTeacher:
        """Reads, checks and loads the file. An empty `version` becomes the first 12 digits of its SHA-256.

        Raises:
            ConfigError: The settings do not fit the model.
            TeacherError: The file cannot be read, is no ONNX file, or needs something that is not there.
        """
        if not settings.path:
            raise ConfigError(f"{SECTION}.path: names no file; set it to the model")
        path = Path(settings.path)
        try:
            model = read_bytes(path, TeacherError, most=_MOST_BYTES)
        except TeacherError as e:
            raise TeacherError(f"{SECTION}.path: {e}") from e
        try:
            contents = inspect_model(model)
        except ValueError as e:
            raise TeacherError(f"{SECTION}.path: {path} {e}; give the file that an exporter to ONNX wrote") from e
        if contents.external:
            raise TeacherError(
                f"{SECTION}.path: {path} keeps tensors in other files; save it as one file (onnx.save_model without "
                "save_as_external_data)"
            )
        if strange := sorted(contents.domains - _BUILT_IN):
            raise TeacherError(
                f"{SECTION}.path: {path} has custom operators, of {', '.join(map(repr, strange))}, which "
                "onnxruntime does not bring; export the model without them"
            )
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = settings.threads
        options.log_severity_level = 4  # the exception reports an error, so the log need not
        try:
            session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        except Exception as e:  # its exceptions share no base class of their own
            raise TeacherError(f"{SECTION}.path: onnxruntime cannot load {path}: {_first_line(e)}") from e
        digest = hashlib.sha256(model).hexdigest()[:12]
        return cls(session, settings, teacher_id=teacher_id, version=version or digest, scale=scale)

    def apply_items(self, items: Sequence[Item]) -> None:
        """Remembers the attributes that the model is fed."""
        self._attributes.apply(items)

    def why_missing(self) -> str:
        """The most frequent reason for a missing score since the last call."""
        return self._feeder.missed.why()

    def score(
        self, impressions: Sequence[Impression], *, deadline_s: float | None = None
    ) -> list[Scores | TeacherError]:
        """Runs the model in batches. A run that is not finished at the deadline is stopped.

        Raises:
            TeacherError: The deadline has passed.
        """
        until = None if deadline_s is None else time.monotonic() + deadline_s
        rows = self._feeder.rows(impressions)
        answers: dict[int, Scores | TeacherError] = {}
        for batch in self._feeder.batches([row for row in rows if isinstance(row, Row)]):
            answers.update(zip(map(id, batch), self._batch(batch, until, deadline_s), strict=True))
        return [row if isinstance(row, TeacherError) else answers[id(row)] for row in rows]

    def _batch(self, batch: list[Row], until: float | None, deadline_s: float | None) -> list[Scores | TeacherError]:
        try:
            return self._feeder.scores(batch, self._run(batch, until))
        except Exception as e:  # onnxruntime's exceptions share no base class, and a model may fail in any way
            if until is not None and time.monotonic() >= until:
                raise TeacherError(
                    f"teacher {self.id}: the model did not score the batch within {deadline_s:g} s; lower score.batch "
                    "or raise score.deadline_s"
                ) from e
            if len(batch) == 1:
                why = str(e) if isinstance(e, Misfit) else f"onnxruntime failed: {_first_line(e)}"
                return [TeacherError(f"impression {batch[0].impression.id}: {why}")]
            log_.warning("the model failed on a batch of %d; trying each alone: %s", len(batch), _first_line(e))
        return [answer for row in batch for answer in self._batch([row], until, deadline_s)]

    def _run(self, batch: list[Row], until: float | None) -> np.ndarray:
        import onnxruntime

        options = onnxruntime.RunOptions()
        options.log_severity_level = 4
        feeds = self._feeder.arrays(batch)
        if until is None:
            [output] = self._session.run([self._output], feeds, options)
        else:
            if (left := until - time.monotonic()) <= 0:
                raise TimeoutError("no time is left")
            watch = threading.Timer(left, setattr, (options, "terminate", True))
            watch.start()
            try:
                [output] = self._session.run([self._output], feeds, options)
            finally:
                watch.cancel()
        return np.asarray(output)


def _port(found: Any) -> Port:
    """An input or output as onnxruntime describes it. A size that is a name may be any size."""
    inner = found.type.removeprefix("tensor(").removesuffix(")") if found.type.startswith("tensor(") else found.type
    shape = tuple(size if isinstance(size, int) and size >= 0 else None for size in found.shape or ())
    return Port(found.name, _TYPES.get(inner, inner), shape)


def _output(ports: list[Port], settings: OnnxModel) -> str:
    """Name of the output with the scores."""
    shown = ", ".join(map(str, ports))
    chosen = [port for port in ports if settings.output in ("", port.name)]
    if not chosen:
        raise ConfigError(f"{SECTION}.output: the model has no output {settings.output!r}; its outputs: {shown}")
    if len(chosen) > 1:
        raise ConfigError(f"{SECTION}.output: the model has several outputs, name the scores' one of {shown}")
    [port] = chosen
    if not port.dtype.startswith("float"):
        raise ConfigError(f"{SECTION}.output: {port} is not of a floating-point type, so it holds no scores")
    return port.name


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0][:300] or type(error).__name__

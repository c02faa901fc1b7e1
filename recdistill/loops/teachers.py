"""Opens the teacher that the settings name, of whatever kind it is.

It knows nothing of logs.

Example:
    >>> open_teacher(TeacherSettings(kind="logged", id="ranker", version="7")).id
    'ranker'
"""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

import msgspec

from recdistill.config import TeacherSettings, load_function
from recdistill.teachers import Teacher

T = TypeVar("T")


def own(kind: type[T], section: msgspec.Struct) -> T:
    """The values of a section of the settings, as the type that a room has for them.

    Example:
        >>> from recdistill.config import TeacherTraining
        >>> from recdistill.teachers.builtin import Training
        >>> own(Training, TeacherTraining(dim=32)).dim
        32
    """
    return msgspec.convert(section, kind, from_attributes=True)


def open_teacher(settings: TeacherSettings) -> Teacher:
    """Opens the teacher that the settings name.

    Raises:
        ConfigError: The settings do not fit the kind.
        TeacherError: A teacher's folder or file cannot be loaded, or its server does not answer.
    """
    if settings.kind == "logged":
        from recdistill.teachers import logged

        return logged.LoggedTeacher(settings.id, settings.version or "1", settings.scale)
    if settings.kind == "callable":
        from recdistill.teachers import function

        called = load_function(settings.function)
        return function.FunctionTeacher(called, settings.id, settings.version or "1", settings.scale)
    if settings.kind == "onnx":
        from recdistill.teachers.tensors import OnnxModel, onnx

        file = own(OnnxModel, settings.onnx)
        return onnx.OnnxTeacher.open(file, teacher_id=settings.id, version=settings.version, scale=settings.scale)
    if settings.kind == "http":
        from recdistill.teachers.http import server, teacher

        asked = own(server.ModelServer, settings.http)
        return teacher.HttpTeacher(asked, teacher_id=settings.id, version=settings.version, scale=settings.scale)
    if settings.kind == "linear":
        from recdistill.teachers.linear import teacher as linear

        return linear.LinearTeacher.load(Path(settings.path))
    if settings.kind == "language":
        from recdistill.teachers.language import sentences
        from recdistill.teachers.language import teacher as language

        encoder = sentences.Encoder.open(settings.language.model)
        read = own(language.TextModel, settings.language)
        return language.LanguageTeacher(encoder, read, settings.id, settings.version)
    if settings.kind == "ensemble":
        from recdistill.teachers import ensemble

        members = [(open_teacher(member), member.weight) for member in settings.members]
        return ensemble.EnsembleTeacher(settings.id, members, settings.version)
    from recdistill.teachers.builtin import teacher as builtin

    return builtin.BuiltinTeacher.load(Path(settings.path))

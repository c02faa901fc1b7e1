"""Teachers: the contract, and a module for each kind. Importing this room does not import torch.

The kinds `builtin` and `language` import torch when they are opened.

Example:
    >>> from recdistill.config import TeacherSettings
    >>> open_teacher(TeacherSettings(kind="logged", id="ranker", version="7")).id
    'ranker'
"""

from __future__ import annotations

from pathlib import Path

from recdistill.config import TeacherSettings
from recdistill.teachers.cached import CachedTeacher
from recdistill.teachers.contract import Scores, Teacher, asked_again, masked

__all__ = ["TAUGHT", "CachedTeacher", "Scores", "Teacher", "asked_again", "masked", "open_teacher"]

TAUGHT = ("builtin", "linear")
"""The kinds that `recdistill teach` makes; `teacher.path` is their folder."""


def open_teacher(settings: TeacherSettings) -> Teacher:
    """Opens the teacher that the settings name.

    Raises:
        ConfigError: The settings do not fit the kind.
        TeacherError: A teacher's folder or file cannot be loaded, or its server does not answer.
    """
    if settings.kind == "logged":
        from recdistill.teachers.logged import LoggedTeacher

        return LoggedTeacher(settings.id, settings.version or "1", settings.scale)
    if settings.kind == "callable":
        from recdistill.config import load_function
        from recdistill.teachers.function import FunctionTeacher

        function = load_function(settings.function)
        return FunctionTeacher(function, settings.id, settings.version or "1", settings.scale)
    if settings.kind == "onnx":
        from recdistill.teachers.tensors.onnx import OnnxTeacher

        return OnnxTeacher.open(settings.onnx, teacher_id=settings.id, version=settings.version, scale=settings.scale)
    if settings.kind == "http":
        from recdistill.teachers.http.teacher import HttpTeacher

        return HttpTeacher(settings.http, teacher_id=settings.id, version=settings.version, scale=settings.scale)
    if settings.kind == "linear":
        from recdistill.teachers.linear.teacher import LinearTeacher

        return LinearTeacher.load(Path(settings.path))
    if settings.kind == "language":
        from recdistill.teachers.language.sentences import Encoder
        from recdistill.teachers.language.teacher import LanguageTeacher

        encoder = Encoder.open(settings.language.model)
        return LanguageTeacher(encoder, settings.language, settings.id, settings.version)
    if settings.kind == "ensemble":
        from recdistill.teachers.ensemble import EnsembleTeacher

        members = [(open_teacher(member), member.weight) for member in settings.members]
        return EnsembleTeacher(settings.id, members, settings.version)
    from recdistill.teachers.builtin.teacher import BuiltinTeacher

    return BuiltinTeacher.load(Path(settings.path))

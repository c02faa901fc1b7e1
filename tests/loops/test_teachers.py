"""What rooms take is what the settings hold: the same values, by the same names, with the same defaults."""

from __future__ import annotations

import msgspec
import pytest

from recdistill.config import (
    HttpTeacherSettings,
    LanguageTeacherSettings,
    LinearTeacherSettings,
    OnnxTeacherSettings,
    TeacherTraining,
)
from recdistill.loops.teachers import own
from recdistill.teachers.builtin import Training
from recdistill.teachers.http.server import ModelServer
from recdistill.teachers.language.teacher import TextModel
from recdistill.teachers.linear import Blend
from recdistill.teachers.tensors import OnnxModel


@pytest.mark.parametrize(
    ("kind", "section", "elsewhere"),
    [
        (Training, TeacherTraining, set()),
        (Blend, LinearTeacherSettings, set()),
        (OnnxModel, OnnxTeacherSettings, set()),
        (ModelServer, HttpTeacherSettings, set()),
        (TextModel, LanguageTeacherSettings, {"model"}),  # the encoder is opened before
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_defaults_are_those_of_the_settings(
    kind: type[msgspec.Struct], section: type[msgspec.Struct], elsewhere: set[str]
) -> None:
    theirs = {name: value for name, value in msgspec.structs.asdict(section()).items() if name not in elsewhere}
    assert msgspec.structs.asdict(kind()) == theirs
    assert own(kind, section()) == kind()


def test_each_value_is_taken() -> None:
    asked = HttpTeacherSettings(url="http://x", model="m", inputs={"a": ["item.x", "item.y"]}, pad=7, retries=0)
    found = own(ModelServer, asked)
    assert msgspec.structs.asdict(found) == msgspec.structs.asdict(asked)

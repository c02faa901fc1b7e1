"""Settings as text: what is written is read back as it was."""

from __future__ import annotations

import tomllib

import msgspec

from recdistill.config import parse_settings, to_toml

MEMBERS = """
[teacher]
kind = "ensemble"
[[teacher.members]]
kind = "linear"
weight = 0.5
linear = {l2 = 60.0}
[[teacher.members]]
kind = "ensemble"
[[teacher.members.members]]
kind = "logged"
[[teacher.members.members]]
kind = "http"
http = {headers = {"a b" = "c"}}
"""


def test_members_within_members_are_written_and_read() -> None:
    settings = parse_settings(MEMBERS)
    assert [member.kind for member in settings.teacher.members] == ["linear", "ensemble"]
    assert parse_settings(to_toml(msgspec.to_builtins(settings))) == settings


def test_tables_without_values_keep_their_place() -> None:
    assert to_toml({"a": [{"b": {"c": 1}}, {}]}).split() == ["[[a]]", "[a.b]", '"c"', "=", "1", "[[a]]"]


def test_every_text_is_read_back_as_it_was() -> None:
    text = '/tmp/\U0001f600 \u00e9\u2028\x7f\x01"\\ \n'
    read = tomllib.loads(to_toml({"log": {"path": text}, "join": {"labels": {text: 1.0}}, "gate": {"blocked": [text]}}))
    assert read == {"log": {"path": text}, "join": {"labels": {text: 1.0}}, "gate": {"blocked": [text]}}

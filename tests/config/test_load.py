"""Settings: defaults, the environment, and one clear sentence for whatever does not fit."""

import os
from pathlib import Path

import msgspec
import pytest

from recdistill.config import Settings, load_settings, parse_settings, reference
from recdistill.errors import ConfigError


def test_nothing_given_means_the_defaults() -> None:
    assert load_settings(None, env={}) == Settings()


def test_the_environment_overrides_the_file(tmp_path: Path) -> None:
    file = tmp_path / "settings.toml"
    file.write_text('[log]\nkind = "kafka"\nbrokers = "a:1"\n[join.labels]\nclick = 0.5\n')
    env = {
        "RECDISTILL_CONFIG": str(file),
        "RECDISTILL__LOG__BROKERS": "b:2,c:3",
        "RECDISTILL__JOIN__LABELS__BUY": "2.0",
        "RECDISTILL__PROMOTE__AUTOMATIC": "false",
        "UNRELATED": "x",
    }
    settings = load_settings(None, env)
    assert (settings.log.kind, settings.log.brokers) == ("kafka", "b:2,c:3")
    assert settings.join.labels == {"click": 0.5, "buy": 2.0}
    assert settings.promote.automatic is False


WRONG = [
    ("[stduent]\ndim = 3", "did you mean 'student'"),
    ("[student]\ndimm = 3", "did you mean 'dim'"),
    ("[zzz]", "known keys:"),
    ("[student]\ndim = 0", "student.dim: expected `int` >= 2"),
    ('[student]\ndim = "16"', "student.dim: expected `int`, got `str`"),
    ("[student]\ndim = 16.5", "student.dim: expected `int`"),
    ('[log]\nkind = "redis"', "log.kind: invalid enum value 'redis'; one of embedded, kafka"),
    ('[log]\nprefix = "a b"', "log.prefix: expected `str` matching regex"),
    ('[join.labels]\nclick = "yes"', "join.labels[...]: expected `float`"),
    ("[join]\nwindow_s = -1", "join.window_s: expected `float` >= 0"),
    ("[rank]\nport = 70000", "rank.port: expected `int` <= 65535"),
    ("student = 3", "student: expected `object`, got `int`"),
    ("[student", "is not TOML"),
    ("[rank]\nport = " + 5000 * "1", "it holds a number with too many digits"),
    ("[teacher_training]\nseed = -1", "teacher_training.seed: expected `int` >= 0"),  # numpy takes none below 0
    ("[distil]\nseed = 1" + 30 * "0", "distil.seed: must be at most 9223372036854775807"),  # torch takes no more
    ("[score]\nbatch = 1" + 40 * "0", "score.batch: must be at most 9223372036854775807"),  # SQLite takes no more
    ("[probe]\nper_s = 1e-300", "probe.per_s: expected `float` >= 0.001"),  # no system waits for 1e300 seconds
    ("[gate]\nerror_a_year = 0.0", "gate.error_a_year: expected `float` > 0"),
]


@pytest.mark.parametrize(("text", "says"), WRONG)
def test_what_does_not_fit_is_named(text: str, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_settings(text, source="my.toml", env={})
    assert says in str(caught.value)
    assert str(caught.value).startswith("my.toml: ")
    assert "\n" not in str(caught.value).removeprefix("my.toml: is not TOML")


def test_a_file_that_is_not_there_or_not_text(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        load_settings(tmp_path / "none.toml", env={})
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="is not UTF-8"):
        load_settings(tmp_path / "binary.toml", env={})


def test_a_password_of_digits_stays_a_text() -> None:
    env = {
        "RECDISTILL__LOG__OPTIONS__SASL_PLAIN_PASSWORD": "12345",
        "RECDISTILL__LOG__OPTIONS__REQUEST_TIMEOUT_MS": "5000",
    }
    assert load_settings(None, env).log.options == {"sasl_plain_password": "12345", "request_timeout_ms": "5000"}


@pytest.mark.parametrize("text", ["12345", "1e5", '"quoted"', "true", "[1]", "7", "2020-01-01"])
def test_where_a_text_fits_the_environment_gives_a_text(text: str) -> None:
    env = {
        "RECDISTILL__TEACHER__VERSION": text,
        "RECDISTILL__LOG__OPTIONS__SASL_PLAIN_USERNAME": text,
    }
    settings = load_settings(None, env)
    assert settings.teacher.version == text
    assert load_settings(None, {"RECDISTILL__LOG__PREFIX": "7"}).log.prefix == "7"
    assert settings.log.options["sasl_plain_username"] == text


@pytest.mark.parametrize("key", ["LOG__PATH", "DISTIL__DIRECTORY", "REGISTRY__URI", "FEATURES__FILE", "TEACHER__PATH"])
def test_an_empty_place_is_refused(key: str) -> None:
    with pytest.raises(ConfigError, match=f"{key.lower().replace('__', '.')}: expected `str` of length >= 1"):
        load_settings(None, {f"RECDISTILL__{key}": ""})


def test_settings_that_never_end_or_nest_too_deep_are_one_sentence(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "deep.toml").write_text("[log]\nprefix = " + "[" * 5000 + "]" * 5000)
    (tmp_path / "film.toml").write_bytes(b"#" * ((4 << 20) + 1))
    for path, sentence in (
        (tmp_path / "pipe", "is not a regular file"),
        (Path("/dev/zero"), "is not a regular file"),
        (tmp_path, "is a folder"),
        (tmp_path / "deep.toml", "nested too deep"),
        (tmp_path / "film.toml", "has 4,194,305 bytes, more than the 4,194,304 that it may have"),
    ):
        with pytest.raises(ConfigError, match=sentence):
            load_settings(path, {})


def test_a_wrong_environment_variable_is_named() -> None:
    with pytest.raises(ConfigError, match="RECDISTILL__LOG: is not a setting"):
        load_settings(None, env={"RECDISTILL__LOG": "x"})
    with pytest.raises(ConfigError, match="did you mean 'brokers'"):
        load_settings(None, env={"RECDISTILL__LOG__BROKER": "x"})


def test_the_reference_has_every_key_with_its_default() -> None:
    text = reference()
    for section in Settings.__struct_fields__:
        assert f"## `[{section}]`" in text
        for key in getattr(Settings(), section).__struct_fields__:
            assert f"| `{key}` |" in text
    assert '| `kind` | `embedded` or `kafka` | `"embedded"` |' in text


@pytest.mark.slow
@pytest.mark.many
@pytest.mark.parametrize("written", ["inf", "-inf", "nan", "1e300", "1e10"])
def test_no_number_is_endless_and_no_wait_lasts_for_ever(written: str) -> None:
    """Each float of each section; a thread cannot wait for `inf` seconds, and would end without a word."""
    checked = 0
    for section in msgspec.structs.fields(Settings):
        for field in msgspec.structs.fields(type(section.default)):
            if type(field.default) is not float or (written[0] == "1" and not field.name.endswith("_s")):
                continue
            checked += 1
            with pytest.raises(ConfigError, match=rf"{section.name}\.{field.name}: ") as refused:
                parse_settings("", env={f"RECDISTILL__{section.name}__{field.name}".upper(): written})
            assert "\n" not in str(refused.value)
    assert checked > 15


def test_where_a_number_fits_too_the_environment_gives_the_number() -> None:
    env = {"RECDISTILL__TEACHER__ONNX__MISSING__PRICE": "0.5", "RECDISTILL__TEACHER__ONNX__MISSING__NAME": "none"}
    assert load_settings(None, env).teacher.onnx.missing == {"price": 0.5, "name": "none"}

r"""Reads settings from TOML and the environment. Everything that does not fit is an error with one clear sentence.

It knows no section by name. It reads from the Structs what is allowed.

Example:
    >>> parse_settings('[student]\ndim = 32', env={"RECDISTILL__LOG__PREFIX": "shop-"}).student.dim
    32
"""

from __future__ import annotations

import math
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from recdistill.config.settings import Settings
from recdistill.errors import ConfigError
from recdistill.given import read_text
from recdistill.text import did_you_mean, misfit

T = TypeVar("T")

PREFIX = "RECDISTILL__"
MOST = (1 << 63) - 1
"""No whole number is larger: SQLite, numpy and torch take none."""
LONGEST_S = 366 * 86_400
"""No wait, window or deadline is longer. A system cannot wait for `inf` or 1e300 seconds: the thread ends instead."""


def load_settings(path: Path | None = None, env: Mapping[str, str] | None = None) -> Settings:
    """Reads settings from a file and the environment.

    Args:
        path: The TOML file. None takes the file that `RECDISTILL_CONFIG` names, or the defaults when it names none.
        env: The environment. None takes `os.environ`.

    Raises:
        ConfigError: The file cannot be read, or something in it does not fit.
    """
    env = os.environ if env is None else env
    if path is None and env.get("RECDISTILL_CONFIG"):
        path = Path(env["RECDISTILL_CONFIG"])
    if path is None:
        return parse_settings("", env=env)
    text = read_text(path, ConfigError, what="settings", advice="give an existing TOML file with --config")
    return parse_settings(text, source=str(path), env=env)


def parse_settings(text: str, *, source: str = "settings", env: Mapping[str, str] | None = None) -> Settings:
    """Reads settings from TOML text. `env` overrides the text.

    Raises:
        ConfigError: Something in it does not fit.
    """
    tree = read_toml(text, source)
    for name, value in sorted((env or {}).items()):
        if not name.startswith(PREFIX):
            continue
        path = name[len(PREFIX) :].lower().split("__")
        if len(path) < 2:
            raise ConfigError(f"{name}: is not a setting; write {PREFIX}SECTION__KEY")
        node = tree
        for part in path[:-1]:
            node = node.setdefault(part, {})
            if not isinstance(node, dict):
                raise ConfigError(f"{name}: {part} is a value, not a section")
        node[path[-1]] = _value(value, ".".join(path))
    return convert(tree, Settings, source=source)


def read_toml(text: str, source: str) -> dict[str, Any]:
    """TOML as plain data.

    Raises:
        ConfigError: It is not TOML, or is nested too deep for any honest file.
    """
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as e:
        raise ConfigError(f"{source}: is not TOML: {e}") from e
    except ValueError:  # Python reads no number of more than 4,300 digits
        raise ConfigError(f"{source}: is not TOML that can be used: it holds a number with too many digits") from None
    except RecursionError:
        raise ConfigError(f"{source}: is not TOML that can be used: it is nested too deep") from None


def convert(tree: Any, kind: type[T], *, source: str) -> T:
    """Fits plain data (from TOML or JSON) to a Struct.

    Raises:
        ConfigError: Something does not fit. The sentence says where and what is wrong. For an unknown key it gives the
            nearest known key.
    """
    try:
        # A key of TOML is always text, but a Struct may want a number there.
        found = msgspec.convert(tree, kind, str_keys=True)
    except msgspec.ValidationError as e:
        raise ConfigError(f"{source}: {explain(str(e), kind)}") from e
    if wrong := _wrong_number(found, ""):
        raise ConfigError(f"{source}: {wrong}")
    return found


def _wrong_number(value: Any, path: str) -> str:
    """What is wrong with a number that TOML can write and no setting means: `inf`, 40 digits, a wait of centuries."""
    if isinstance(value, msgspec.Struct):
        inside = [(f"{path}.{name}" if path else name, getattr(value, name)) for name in value.__struct_fields__]
    elif isinstance(value, dict):
        inside = [(f"{path}.{name}", each) for name, each in value.items()]
    elif isinstance(value, list | tuple):
        inside = [(f"{path}[{index}]", each) for index, each in enumerate(value)]
    else:
        if isinstance(value, float) and not math.isfinite(value):
            return f"{path}: must be a finite number, not {value}"
        if isinstance(value, int) and abs(value) > MOST:
            return f"{path}: must be at most {MOST}, up or down"
        if path.endswith("_s") and isinstance(value, float | int) and value > LONGEST_S:
            return f"{path}: must be at most {LONGEST_S} seconds (a year), not {value:g}"
        return ""
    return next((wrong for name, each in inside if (wrong := _wrong_number(each, name))), "")


def explain(message: str, kind: Any) -> str:
    """Turns a msgspec message into `path: problem`, with a suggestion for an unknown key."""
    found = misfit(message)
    path, problem = found.path or "top level", found.problem
    if problem.startswith("Invalid enum value"):
        allowed = _allowed_at(kind, path)
        return f"{path}: {problem[0].lower()}{problem[1:]}; one of {', '.join(allowed)}"
    if not found.unknown:
        return f"{path}: {problem[0].lower()}{problem[1:]}"
    names = _names_at(kind, path)
    hint = did_you_mean(found.unknown, names, otherwise=f"known keys: {', '.join(sorted(names))}")
    return f"{path}: unknown key {found.unknown!r}; {hint}"


def _names_at(kind: Any, path: str) -> list[str]:
    """Field names of the Struct that `path` leads to."""
    info = _info_at(kind, path)
    return [f.encode_name for f in info.fields] if isinstance(info, msgspec.inspect.StructType) else []


def _allowed_at(kind: Any, path: str) -> list[str]:
    """Values of the Literal that `path` leads to."""
    info = _info_at(kind, path)
    return [str(v) for v in info.values] if isinstance(info, msgspec.inspect.LiteralType) else []


def _info_at(kind: Any, path: str) -> Any:
    """The type that `path` leads to. A part of the path that is not a field (a table's own name) is skipped."""
    info = _bare(msgspec.inspect.type_info(kind))
    for part in [] if path == "top level" else path.replace("[...]", ".[...]").split("."):
        if isinstance(info, msgspec.inspect.StructType):
            info = next((f.type for f in info.fields if f.encode_name == part), info)
        elif isinstance(info, msgspec.inspect.DictType):
            info = info.value_type
        elif isinstance(info, msgspec.inspect.ListType):
            info = info.item_type
        info = _bare(info)
    return info


def _bare(info: Any) -> Any:
    """The type itself, without its metadata and without the None of an optional type."""
    if isinstance(info, msgspec.inspect.UnionType):
        some = [one for one in info.types if not isinstance(one, msgspec.inspect.NoneType)]
        return _bare(some[0]) if len(some) == 1 else info
    return _bare(info.type) if isinstance(info, msgspec.inspect.Metadata) else info


def _value(text: str, path: str) -> Any:
    """A value from the environment. The type of the setting says how the text is read, never its look.

    Where a text fits, it stays the text that it is: the user name 12345 is no number. That holds for `log.options`,
    too, whose client knows the types of its options. Everything else is read as TOML.
    """
    info = _info_at(Settings, path)
    kinds = info.types if isinstance(info, msgspec.inspect.UnionType) else [info]
    kinds = [kind for kind in kinds if not isinstance(kind, msgspec.inspect.NoneType)]
    texts = [isinstance(_bare(kind), msgspec.inspect.StrType | msgspec.inspect.LiteralType) for kind in kinds]
    if path.startswith("log.options.") or all(texts):
        return text
    try:
        return read_toml(f"v = {text}", path)["v"]
    except ConfigError:
        return text

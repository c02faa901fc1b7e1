r"""Typed settings for every part, from one TOML file and the environment.

Each section of the file is one Struct here; a part takes its own section, never the whole. An unknown key, a wrong
type or a value outside its range is a `ConfigError` that names the key and, where one is near, the key that was
probably meant. `RECDISTILL__SECTION__KEY=value` in the environment overrides the file, so that an image needs no file
of its own.

It knows nothing of what the parts do with their settings. `reference()` writes docs/configuration.md from them.

Example:
    >>> parse_settings('[student]\ndim = 32', env={"RECDISTILL__LOG__PREFIX": "shop-"}).student.dim
    32
"""

from __future__ import annotations

import difflib
import json
import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import Meta, Struct

from recdistill.errors import ConfigError

T = TypeVar("T")

PREFIX = "RECDISTILL__"

PositiveInt = Annotated[int, Meta(ge=1)]
Share = Annotated[float, Meta(ge=0.0, le=1.0)]


class LogSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """`[log]`: where the topics live."""

    kind: Annotated[Literal["embedded", "kafka"], Meta(description="SQLite file on this machine, or Apache Kafka.")] = (
        "embedded"
    )
    path: Annotated[str, Meta(description="File of the embedded log.")] = "recdistill-data/log.sqlite"
    brokers: Annotated[str, Meta(description="Kafka bootstrap servers, `host:port,host:port`.")] = "127.0.0.1:9092"
    prefix: Annotated[
        str,
        Meta(
            description="Put before each topic name, and before group and transactional ids.",
            pattern="^[A-Za-z0-9._-]*$",
        ),
    ] = ""
    options: Annotated[
        dict[str, str | int | float | bool],
        Meta(description="Passed to the client under its own names: security_protocol, sasl_mechanism, ssl_cafile, …"),
    ] = {}


class TopicSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """`[topics]`: used when topics are made, and fixed from then on."""

    partitions: Annotated[int, Meta(ge=1, le=1024, description="Partitions of impressions, rankings and feedback.")] = 1
    lanes: Annotated[int, Meta(ge=1, le=1024, description="Lanes: partitions of `examples`, read in a fixed turn.")] = 1


class FeatureSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """`[features]`: the one specification of what a model sees."""

    file: Annotated[str, Meta(description="The feature specification, a TOML file.")] = "features.toml"


class TeacherSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """`[teacher]`: who scores."""

    kind: Annotated[
        Literal["builtin", "logged", "callable"],
        Meta(description="The built-in ranker; scores that the impressions already carry; or a Python function."),
    ] = "builtin"
    path: Annotated[str, Meta(description="builtin: folder of the trained teacher.")] = "recdistill-data/teacher"
    function: Annotated[
        str, Meta(description="callable: `package.module:function`, impressions -> list of score lists.")
    ] = ""
    id: Annotated[str, Meta(description="logged, callable: the id written on each ranking.")] = "teacher"
    version: Annotated[str, Meta(description="logged, callable: the version written on each ranking.")] = "1"
    scale: Annotated[
        Literal["unbounded", "logit", "probability", "rank"],
        Meta(description="logged, callable: what the scores mean."),
    ] = "unbounded"


class TeacherTraining(Struct, frozen=True, forbid_unknown_fields=True):
    """`[teacher_training]`: the built-in teacher."""

    dim: Annotated[int, Meta(ge=4, le=2048, description="Width of the tower that attends to events.")] = 64
    layers: Annotated[int, Meta(ge=1, le=48, description="Its attention layers.")] = 2
    heads: Annotated[int, Meta(ge=1, le=64, description="Its attention heads; divides dim.")] = 2
    pooled_dim: Annotated[
        int, Meta(ge=0, le=2048, description="Width of the second tower, which pools the history; 0: none.")
    ] = 64
    dropout: Annotated[float, Meta(ge=0.0, lt=1.0)] = 0.3
    epochs: PositiveInt = 4
    batch: Annotated[int, Meta(ge=1, description="Windows of a history that one step learns from.")] = 10
    learning_rate: Annotated[float, Meta(gt=0, description="Dense parameters (Adam).")] = 2e-3
    table_learning_rate: Annotated[float, Meta(gt=0, description="Rows of items and attributes (Adagrad).")] = 0.1
    seed: int = 0


class ScoreSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """`[score]`: impressions -> rankings."""

    batch: Annotated[int, Meta(ge=1, description="Most impressions scored, and committed, at once.")] = 256
    wait_s: Annotated[float, Meta(gt=0, description="Longest wait for the first impression of a batch.")] = 0.5
    deadline_s: Annotated[float, Meta(gt=0, description="Time the teacher has for one batch.")] = 30.0
    give_up_after: Annotated[
        int,
        Meta(
            ge=0,
            description="Teacher failures in a row after which the scorer stops, instead of filling the dead letters.",
        ),
    ] = 100
    worker: Annotated[
        int, Meta(ge=0, description="This worker's number; it reads partitions p with p mod workers = worker.")
    ] = 0
    workers: PositiveInt = 1


class JoinSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """`[join]`: rankings + feedback -> examples."""

    window_s: Annotated[
        float, Meta(ge=0, description="Event time that feedback may take; then the example is closed.")
    ] = 1800.0
    labels: Annotated[
        dict[str, float], Meta(description="Action -> label weight; an action that is not named gives no label.")
    ] = msgspec.field(default_factory=lambda: {"click": 1.0})
    batch: Annotated[int, Meta(ge=1, description="Most messages read between two commits.")] = 1000
    wait_s: Annotated[float, Meta(gt=0, description="Longest wait for new messages.")] = 0.5
    idle_s: Annotated[
        float,
        Meta(gt=0, description="A partition that is silent for so long no longer holds the order of the others back."),
    ] = 30.0


class StudentSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """`[student]`: the two-tower model."""

    dim: Annotated[int, Meta(ge=2, le=1024, description="Dimension of user and item vectors.")] = 24
    hidden: Annotated[int, Meta(ge=1, le=8192, description="Hidden width of the user tower.")] = 64
    context_dim: Annotated[int, Meta(ge=1, le=512, description="Width of each context field's embedding.")] = 8
    id_dropout: Annotated[
        float,
        Meta(ge=0.0, lt=1.0, description="How often an item is trained without its own row, so that new items work."),
    ] = 0.1
    dropout: Annotated[float, Meta(ge=0.0, lt=1.0, description="Of the user tower's inputs, in training.")] = 0.1
    learning_rate: Annotated[float, Meta(gt=0, description="Dense parameters (Adam).")] = 3e-3
    embedding_learning_rate: Annotated[float, Meta(gt=0, description="Embedding rows (Adagrad).")] = 0.1
    init: Annotated[float, Meta(gt=0, description="Standard deviation of the rows' first values.")] = 0.05


class LossSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """`[loss]`: what the student learns from a list."""

    soft: Annotated[
        float, Meta(ge=0, description="Weight of the teacher's soft ranking; 0 trains without distillation.")
    ] = 0.7
    label: Annotated[float, Meta(ge=0, description="Weight of the labels.")] = 0.3
    temperature: Annotated[float, Meta(gt=0, description="Temperature of both softmaxes of the soft loss.")] = 2.0
    full_softmax_items: Annotated[
        int,
        Meta(
            ge=0,
            description="Up to this catalogue size the label loss runs over every live item, above it over the list.",
        ),
    ] = 20_000


class DistilSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """`[distil]`: examples -> checkpoints and bundles."""

    directory: Annotated[str, Meta(description="Checkpoints (`step-N/`) and bundles (`bundles/`).")] = (
        "recdistill-data/student"
    )
    batch: Annotated[int, Meta(ge=1, description="Examples (whole lists) a step.")] = 256
    passes: Annotated[
        int, Meta(ge=1, description="Passes over what the log holds at the first start; then the stream, once.")
    ] = 1
    memory_mb: Annotated[int, Meta(ge=0, description="Megabytes of encoded batches kept for the next pass.")] = 1000
    checkpoint_every: Annotated[int, Meta(ge=1, description="Steps between two checkpoints.")] = 500
    export_every: Annotated[
        int, Meta(ge=0, description="Steps between two exported bundles; 0: only at the end of a run.")
    ] = 2000
    keep: Annotated[int, Meta(ge=1, description="Checkpoints and bundles kept.")] = 3
    wait_s: Annotated[
        float, Meta(gt=0, description="Longest wait for examples before the stop signal is looked at.")
    ] = 0.5
    popular: Annotated[int, Meta(ge=1, description="Length of the bundle's popular list.")] = 1000
    seed: int = 0
    threads: Annotated[
        int, Meta(ge=0, description="Threads of torch; 0: its own choice. Part of what makes two runs equal.")
    ] = 0


class GateSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """`[gate]`: what a candidate must show before it is promoted."""

    retention: Annotated[float, Meta(ge=0, description="Least share of the teacher's NDCG@10.")] = 0.95
    beats_popularity: Annotated[
        bool, Meta(description="The paired interval against popularity must lie above zero.")
    ] = True
    parity: Annotated[float, Meta(ge=0, description="Most the float towers in ONNX may differ from training.")] = 1e-4
    size_ratio: Annotated[float, Meta(gt=0, description="Most bytes of the student, as a share of the teacher's.")] = (
        0.1
    )
    min_lists: Annotated[int, Meta(ge=1, description="Fewest held-out lists that a verdict may rest on.")] = 200


class RegistrySettings(Struct, frozen=True, forbid_unknown_fields=True):
    """`[registry]`: MLflow."""

    uri: Annotated[str, Meta(description="Tracking URI: `sqlite:///file`, or an MLflow server.")] = (
        "sqlite:///recdistill-data/mlflow.sqlite"
    )
    name: Annotated[str, Meta(description="Name of the registered model.", pattern="^[A-Za-z0-9._ -]{1,200}$")] = (
        "recdistill-student"
    )
    cache: Annotated[str, Meta(description="Where fetched bundles are kept, by content hash.")] = (
        "recdistill-data/cache"
    )
    timeout_s: Annotated[float, Meta(gt=0, description="Longest wait for one answer of the server.")] = 20.0


class PromoteSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """`[promote]`: bundles -> judged, registered, promoted versions."""

    wait_s: Annotated[float, Meta(gt=0, description="How often new bundles and held-out examples are looked for.")] = (
        5.0
    )
    held_out: Annotated[
        int, Meta(ge=1, description="Most held-out lists judged: the newest that the bundle did not learn from.")
    ] = 10_000
    by: Annotated[str, Meta(description="Who the promotion is attributed to.")] = "promoter"
    automatic: Annotated[
        bool, Meta(description="Promote what passes the gate; otherwise only register and judge it.")
    ] = True


class RankSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """`[rank]`: the endpoint."""

    host: str = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65535, description="0 takes a free port.")] = 8080
    follow_s: Annotated[float, Meta(gt=0, description="How often the champion alias is looked at.")] = 2.0
    items_s: Annotated[float, Meta(gt=0, description="How often new catalogue records are taken in.")] = 0.5
    threads: Annotated[int, Meta(ge=1, description="Threads of one inference.")] = 1
    max_k: Annotated[int, Meta(ge=1, le=10_000)] = 1000
    max_batch: Annotated[int, Meta(ge=1, le=10_000, description="Most requests in one body.")] = 128
    max_body: Annotated[int, Meta(ge=1024, description="Most bytes in one body.")] = 1_048_576
    write_back: Annotated[
        float, Meta(ge=0, le=1, description="Share of answers written to `impressions` (origin student).")
    ] = 0.0


class Settings(Struct, frozen=True, forbid_unknown_fields=True):
    """All sections; every one of them may be left out."""

    log: LogSettings = LogSettings()
    topics: TopicSettings = TopicSettings()
    features: FeatureSettings = FeatureSettings()
    teacher: TeacherSettings = TeacherSettings()
    teacher_training: TeacherTraining = TeacherTraining()
    score: ScoreSettings = ScoreSettings()
    join: JoinSettings = JoinSettings()
    student: StudentSettings = StudentSettings()
    loss: LossSettings = LossSettings()
    distil: DistilSettings = DistilSettings()
    gate: GateSettings = GateSettings()
    registry: RegistrySettings = RegistrySettings()
    promote: PromoteSettings = PromoteSettings()
    rank: RankSettings = RankSettings()


def load_settings(path: Path | None = None, env: Mapping[str, str] | None = None) -> Settings:
    """Reads settings from a file and the environment.

    Args:
        path: The TOML file. None takes the file that `RECDISTILL_CONFIG` names, or the defaults when it names none.
        env: The environment, `os.environ` when None.

    Raises:
        ConfigError: The file cannot be read, or something in it does not fit.
    """
    env = os.environ if env is None else env
    if path is None and env.get("RECDISTILL_CONFIG"):
        path = Path(env["RECDISTILL_CONFIG"])
    if path is None:
        return parse_settings("", env=env)
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as e:
        raise ConfigError(f"{path}: cannot be read ({e.strerror}); give an existing file with --config") from e
    except UnicodeDecodeError as e:
        raise ConfigError(f"{path}: is not UTF-8 text; settings are a TOML file") from e
    return parse_settings(text, source=str(path), env=env)


def parse_settings(text: str, *, source: str = "settings", env: Mapping[str, str] | None = None) -> Settings:
    """Reads settings from TOML text; `env` overrides it.

    Raises:
        ConfigError: Something in it does not fit.
    """
    try:
        tree: dict[str, Any] = tomllib.loads(text)
    except tomllib.TOMLDecodeError as e:
        raise ConfigError(f"{source}: is not TOML: {e}") from e
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
        # A password of digits is still a text.
        node[path[-1]] = value if "password" in path[-1] else _literal(value)
    return convert(tree, Settings, source=source)


def convert(tree: Any, kind: type[T], *, source: str) -> T:
    """Fits plain data (from TOML or JSON) to a Struct.

    Raises:
        ConfigError: One sentence: where, what is wrong, and for an unknown key the nearest known one.
    """
    try:
        return msgspec.convert(tree, kind)
    except msgspec.ValidationError as e:
        raise ConfigError(f"{source}: {explain(str(e), kind)}") from e


def explain(message: str, kind: Any) -> str:
    """Turns a msgspec message into `path: problem`, with a suggestion for an unknown key."""
    problem, _, path = message.partition(" - at ")
    path = path.strip("`").removeprefix("$").removeprefix(".") or "top level"
    unknown = re.search(r"unknown field `([^`]*)`", problem)
    if problem.startswith("Invalid enum value"):
        allowed = _allowed_at(kind, path)
        return f"{path}: {problem[0].lower()}{problem[1:]}; one of {', '.join(allowed)}"
    if not unknown:
        return f"{path}: {problem[0].lower()}{problem[1:]}"
    names = _names_at(kind, path)
    near = difflib.get_close_matches(unknown[1], names, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"known keys: {', '.join(sorted(names))}"
    return f"{path}: unknown key {unknown[1]!r}; {hint}"


def _names_at(kind: Any, path: str) -> list[str]:
    """Field names of the Struct that `path` leads to."""
    info = _info_at(kind, path)
    return [f.encode_name for f in info.fields] if isinstance(info, msgspec.inspect.StructType) else []


def _allowed_at(kind: Any, path: str) -> list[str]:
    """Values of the Literal that `path` leads to."""
    info = _info_at(kind, path)
    return [str(v) for v in info.values] if isinstance(info, msgspec.inspect.LiteralType) else []


def _info_at(kind: Any, path: str) -> Any:
    """The type that `path` leads to; a part that is not a field (a table's own name) is stepped over."""
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
    """The type itself: without its metadata, and without the None of an optional one."""
    if isinstance(info, msgspec.inspect.UnionType):
        some = [one for one in info.types if not isinstance(one, msgspec.inspect.NoneType)]
        return _bare(some[0]) if len(some) == 1 else info
    return _bare(info.type) if isinstance(info, msgspec.inspect.Metadata) else info


def to_toml(tree: Mapping[str, Any]) -> str:
    """Plain data as TOML text: values first, then tables. JSON's texts, numbers and lists are TOML's.

    Example:
        >>> print(to_toml({"join": {"window_s": 60.0, "labels": {"click": 1.0}}}))
        [join]
        window_s = 60.0
        <BLANKLINE>
        [join.labels]
        "click" = 1.0
    """
    return "\n".join(_toml_lines(tree, ())).strip()


def _toml_lines(tree: Mapping[str, Any], path: tuple[str, ...]) -> list[str]:
    quoted = [key if re.fullmatch("[A-Za-z_]+", key) and not path[1:] else json.dumps(key) for key in tree]
    values = [(name, value) for name, value in zip(quoted, tree.values(), strict=True) if not isinstance(value, dict)]
    tables = [(name, value) for name, value in zip(quoted, tree.values(), strict=True) if isinstance(value, dict)]
    lines = ["", f"[{'.'.join(path)}]"] if path and values else []
    lines += [f"{name} = {json.dumps(value)}" for name, value in values]
    for name, value in tables:
        lines += _toml_lines(value, (*path, name))
    return lines


def _literal(text: str) -> Any:
    """A value from the environment: what TOML would read, or else the text itself."""
    try:
        return tomllib.loads(f"v = {text}")["v"]
    except tomllib.TOMLDecodeError:
        return text


def reference() -> str:
    """The configuration reference in Markdown, one table a section."""
    lines = [
        "# Configuration",
        "",
        "Written by `make docs` from `recdistill/config.py`; do not edit. One TOML file, given by `--config` or",
        "`RECDISTILL_CONFIG`; `RECDISTILL__SECTION__KEY=value` in the environment overrides it. Unknown keys are",
        "errors.",
        "",
    ]
    top: Any = msgspec.inspect.type_info(Settings)
    for section in top.fields:
        struct = section.type
        summary = (struct.cls.__doc__ or "").split(":", 1)[-1].strip()
        lines += [f"## `[{section.encode_name}]`", "", summary[0].upper() + summary[1:], ""]
        lines += ["| key | type | default | meaning |", "| --- | --- | --- | --- |"]
        for field in struct.fields:
            default = field.default if field.default is not msgspec.NODEFAULT else field.default_factory()
            shown = msgspec.json.encode(default).decode()
            lines.append(
                f"| `{field.encode_name}` | {_type_text(field.type)} | `{shown}` | {_description(field.type)} |"
            )
        lines.append("")
    return "\n".join(lines)


def _type_text(info: Any) -> str:
    inspect = msgspec.inspect
    if isinstance(info, inspect.Metadata):
        return _type_text(info.type)
    if isinstance(info, inspect.LiteralType):
        return " or ".join(f"`{v}`" for v in info.values)
    if isinstance(info, inspect.DictType):
        return "table"
    if isinstance(info, inspect.UnionType):
        return " or ".join(_type_text(t) for t in info.types)
    if isinstance(info, inspect.IntType | inspect.FloatType):
        name = "integer" if isinstance(info, inspect.IntType) else "number"
        low = f"≥ {info.ge}" if info.ge is not None else f"> {info.gt}" if info.gt is not None else ""
        high = f"≤ {info.le}" if info.le is not None else f"< {info.lt}" if info.lt is not None else ""
        return " ".join(filter(None, [name, ", ".join(filter(None, [low, high]))]))
    return {"StrType": "text", "BoolType": "true or false"}.get(type(info).__name__, type(info).__name__)


def _description(info: Any) -> str:
    """The description of a field; msgspec keeps it in the Metadata node's extra JSON schema."""
    if isinstance(info, msgspec.inspect.Metadata):
        return str((info.extra_json_schema or {}).get("description", ""))
    return ""

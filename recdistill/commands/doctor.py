"""The verb `doctor`. It says what a role needs, what this machine has, and the one line that installs a missing part.

It changes nothing: it makes no log, registry or file.

Example:
    >>> how_to_get("faiss") == how_to_install("serve")
    True
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import os
import platform
import shutil
import socket
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from recdistill.commands.verb import Parser, Verb, one_of, settings_of, show
from recdistill.errors import RecdistillError
from recdistill.installed import how_to_install

if TYPE_CHECKING:
    from recdistill.config import Settings, TeacherSettings

EXTRAS: dict[str, dict[str, str]] = {
    "train": {
        "torch": "torch",
        "onnx": "onnx",
        "safetensors": "safetensors",
        "scipy": "scipy",
        "pyre_extensions": "pyre-extensions",
        "tensordict": "tensordict",
        "torchmetrics": "torchmetrics",
    },
    "serve": {
        "onnxruntime": "onnxruntime",
        "faiss": "faiss-cpu",
        "uvicorn": "uvicorn",
        "httptools": "httptools",
        "prometheus_client": "prometheus-client",
    },
    "kafka": {
        "kafka": "kafka-python",
        "crc32c": "crc32c",
        "lz4": "lz4",
        "snappy": "python-snappy",
        "zstandard": "zstandard",
    },
    "registry": {"cryptography": "cryptography", "mlflow": "mlflow-skinny", "requests": "requests"},
    # The small client of MLflow also has a module `mlflow`. Only the full MLflow brings alembic, so alembic is checked.
    "mlflow": {
        "alembic": "mlflow",
        "cryptography": "cryptography",
        "requests": "requests",
        "sqlalchemy": "sqlalchemy",
    },
    "device": {"onnxruntime": "onnxruntime"},
    "export": {"onnx": "onnx"},
    "data": {"pyarrow": "pyarrow"},
    "schemas": {"fastavro": "fastavro"},
    "http": {"httpx": "httpx"},
    "linear": {"scipy": "scipy"},
}
"""Extra -> module -> the package that has it."""

BY_HAND = {"torchrec": "torchrec", "fbgemm_gpu": "fbgemm-gpu-cpu"}
"""Packages that no extra can install, because torchrec's metadata asks for the CUDA build of fbgemm."""

ROLES: dict[str, tuple[str, ...]] = {
    "demo": ("train", "serve", "mlflow"),
    "scorer": (),
    "joiner": (),
    "distiller": ("train", "registry"),
    "promoter": ("train", "serve", "registry"),
    "ranker": ("serve", "registry"),
    "device": ("device",),
}
"""Role -> the extras that it needs."""

TEACHERS = {"builtin": "train", "onnx": "device", "http": "http", "linear": "linear", "language": "train"}
"""Kind of teacher -> the extra that it needs."""

FREE_BYTES = 2_000_000_000
"""With less free space than this, the disk check fails."""


class Check(NamedTuple):
    """One thing that was checked. `fix` is empty if it is in order."""

    name: str
    state: Literal["ok", "missing", "optional"]
    found: str
    fix: str = ""


def how_to_get(module: str) -> str | None:
    """The one line that installs a module. None: the module is not known here."""
    if module in BY_HAND:
        return f"make install, or: pip install --no-deps {' '.join(BY_HAND.values())}"
    # For onnxruntime, onnx or scipy it is the smallest extra that has it. That one does not install torch.
    for extra in ("device", "export", "linear", *EXTRAS):
        if module in EXTRAS[extra]:
            return how_to_install(extra)
    return None


def _options(parser: Parser) -> None:
    parser.add_argument(
        "--role",
        type=one_of(*ROLES),
        default="demo",
        metavar="ROLE",
        help=f"what this machine will do, one of: {', '.join(ROLES)} (default: %(default)s)",
    )


def _doctor(args: argparse.Namespace) -> int:
    checks = [_python()]
    try:
        settings = settings_of(args)
        checks.append(Check("settings", "ok", str(args.config or os.environ.get("RECDISTILL_CONFIG") or "defaults")))
        checks += _of_role(args.role, settings)
    except RecdistillError as e:
        checks.append(Check("settings", "missing", "wrong", str(e)))
    ok = all(check.state != "missing" for check in checks)
    marks = {"ok": "ok  ", "missing": "NO  ", "optional": "-   "}
    width = max(len(check.name) for check in checks)
    lines = []
    for check in checks:
        lines.append(f"{marks[check.state]}{check.name:{width}}  {check.found}")
        if check.fix:
            lines.append(f"    {'':{width}}  -> {check.fix}")
    lines.append(f"\nthis machine can be a {args.role}" if ok else f"\nthis machine cannot be a {args.role} yet")
    show(args, {"role": args.role, "ok": ok, "checks": [check._asdict() for check in checks]}, "\n".join(lines))
    return 0 if ok else 1


def _kinds(teacher: TeacherSettings) -> Iterator[str]:
    """The kinds of a teacher and of its members."""
    yield teacher.kind
    for member in teacher.members if teacher.kind == "ensemble" else ():
        yield from _kinds(member)


def _of_role(role: str, settings: Settings) -> Iterator[Check]:
    """Every check of a role with these settings, except the check of Python."""
    extras = list(ROLES[role])
    kinds = set(_kinds(settings.teacher)) if role in ("scorer", "promoter") else set()
    teaches = role == "demo" or "builtin" in kinds
    needed = ["train"] if role == "demo" else [TEACHERS[kind] for kind in sorted(kinds & TEACHERS.keys())]
    extras += [extra for extra in dict.fromkeys(needed) if extra not in extras]
    on_log = role not in ("demo", "device")
    if on_log and settings.log.kind == "kafka":
        extras.append("kafka")
    if "registry" in extras and _in_a_file(settings):
        extras[extras.index("registry")] = "mlflow"
    for extra in extras:
        yield from (_package(module, name, extra) for module, name in EXTRAS[extra].items())
    if teaches:
        yield from (_package(module, name, None) for module, name in BY_HAND.items())
    if "pyarrow" not in sys.modules and importlib.util.find_spec("pyarrow") is None:
        yield Check("pyarrow", "optional", "not installed; only imports of Parquet need it", str(how_to_get("pyarrow")))
    if on_log:
        yield from _log(settings)
    if role in ("promoter", "ranker"):
        yield _registry(settings)
    if role == "distiller":
        yield _features(settings)
    if role == "ranker":
        yield _port(settings)
    yield _disk(Path.cwd() if role in ("demo", "device") else Path(settings.distil.directory))


def _python() -> Check:
    # With a Python older than the package needs, this code would not run at all.
    return Check("python", "ok", f"{platform.python_version()} at {sys.executable}")


def _package(module: str, distribution: str, extra: str | None) -> Check:
    # It is searched, not imported, because importing torch and mlflow takes seconds.
    if importlib.util.find_spec(module) is None:
        line = how_to_get(module) if extra is None else how_to_install(extra)
        return Check(distribution, "missing", "not installed", str(line))
    try:
        return Check(distribution, "ok", importlib.metadata.version(distribution))
    except importlib.metadata.PackageNotFoundError:
        return Check(distribution, "ok", "unknown version")


def _log(settings: Settings) -> Iterator[Check]:
    if settings.log.kind == "embedded":
        yield _writable("log", Path(settings.log.path), "log.path")
        return
    for command, line in (("java", "apt-get install openjdk-17-jre-headless"), ("mvn", "apt-get install maven")):
        where = shutil.which(command)
        why = "not on the path; only your own broker (`make kafka`) needs it"
        yield Check(command, "ok" if where else "optional", where or why, "" if where else line)
    if importlib.util.find_spec("kafka") is None:
        return
    from recdistill.stream import open_log, standard_topics

    try:
        with closing(open_log(settings.log)) as log:
            missing = sorted(set(standard_topics()) - set(log.topics()))
            dangers = log.dangers()
    except RecdistillError as e:
        fix = "start a broker (`make kafka` in a clone), or set log.brokers to one that runs"
        yield Check("kafka", "missing", str(e), fix)
        return
    yield Check("kafka", "ok", f"{settings.log.brokers} answers")
    if missing:
        yield Check("topics", "missing", f"missing: {', '.join(missing)}", "recdistill topics create")
    else:
        yield Check("topics", "ok", "all there")
    for danger in dangers:
        facts, _, fix = danger.rpartition("; ")
        yield Check("topics", "missing", facts, fix)


def _in_a_file(settings: Settings) -> bool:
    """Whether the registry is a file, not a server. A file needs the full MLflow."""
    return settings.registry.uri.startswith("sqlite:///")


def _registry(settings: Settings) -> Check:
    uri = settings.registry.uri
    if _in_a_file(settings):
        return _writable("registry", Path(uri.removeprefix("sqlite:///")), "registry.uri")
    if importlib.util.find_spec("mlflow") is None:
        return Check("registry", "missing", "cannot be checked without mlflow", str(how_to_get("mlflow")))
    from recdistill.registry import Registry

    try:
        found = len(Registry(uri, settings.registry.name, timeout_s=settings.registry.timeout_s).versions())
    except RecdistillError as e:
        return Check("registry", "missing", str(e), "start `mlflow server`, or set registry.uri to one that runs")
    return Check("registry", "ok", f"{uri} answers; {found} versions of {settings.registry.name}")


def _features(settings: Settings) -> Check:
    from recdistill.features import FeatureSpec

    path = Path(settings.features.file)
    try:
        spec = FeatureSpec.load(path)
    except RecdistillError as e:
        fix = "write one, or let `recdistill simulate` or `recdistill import DIR` write it; see docs/"
        return Check("features", "missing", str(e), fix)
    return Check("features", "ok", f"{path}: {len(spec.item)} item fields, {len(spec.context)} context fields")


def _port(settings: Settings) -> Check:
    host, port = settings.rank.host, settings.rank.port
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as e:
        fix = "set rank.port to a free port, as in --set rank.port=9000"
        return Check("port", "missing", f"{host}:{port} cannot be used ({e.strerror or e})", fix)
    return Check("port", "ok", f"{host}:{port} is free")


def _writable(name: str, path: Path, key: str) -> Check:
    """Whether a file can be written or created there."""
    place = path if path.exists() else next(p for p in path.absolute().parents if p.exists())
    if os.access(place, os.W_OK) and (place.is_dir() != path.exists()):
        return Check(name, "ok", f"{path} {'exists' if path.exists() else 'will be made'}")
    return Check(name, "missing", f"{path} cannot be written", f"set {key} to a file in a folder that can be written")


def _disk(path: Path) -> Check:
    place = path if path.exists() else next(p for p in path.absolute().parents if p.exists())
    free = shutil.disk_usage(place).free
    if free < FREE_BYTES:
        fix = f"free {FREE_BYTES / 1e9:.0f} GB, or put the data elsewhere"
        return Check("disk", "missing", f"{free / 1e9:.1f} GB free at {place}", fix)
    return Check("disk", "ok", f"{free / 1e9:.1f} GB free")


VERBS = (
    Verb(
        name="doctor",
        purpose="Check what this machine lacks, and print the line that installs each missing thing.",
        when="Use it when something does not start, or before you start it. It checks Python, packages, settings, "
        "log, registry and disk for one role. It changes nothing. The exit code is 1 if the role cannot run here.",
        examples=("doctor", "doctor --role ranker --config shop.toml", "doctor --role distiller --json"),
        options=_options,
        run=_doctor,
    ),
)

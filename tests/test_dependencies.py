"""What can be installed together, and what a role installs: asked of the package index, at whatever is newest there."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from support import dockerfiles

from recdistill.errors import RegistryError
from recdistill.installed import how_to_install
from recdistill.records import Item, encode
from recdistill.registry import Registry

ROOT = Path(__file__).resolve().parents[1]


def _uv(*words: str | Path, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """uv, with the settings that pip has, as the set-up scripts call it."""
    script = f'. {ROOT}/tools/common.sh; uv_settings_from_pip; exec "$@"'
    command = ["bash", "-euo", "pipefail", "-c", script, "uv", Path(sys.executable).with_name("uv"), *words]
    return subprocess.run(command, input=stdin, cwd=ROOT, capture_output=True, text=True, check=False)


def _resolved(extras: str, *others: str) -> dict[str, str]:
    """Names and versions of what installing recdistill with these extras, beside others, would bring."""
    wanted = [word for extra in extras.split(",") for word in ("--extra", extra)]
    options = ["--quiet", "--no-header", "--no-annotate", "--python-version", "3.11"]
    done = _uv("pip", "compile", *options, *wanted, "pyproject.toml", "-", stdin="\n".join(others))
    assert done.returncode == 0, done.stderr
    return dict(re.fullmatch(r"([a-z0-9.-]+)==(\S+).*", line).groups() for line in done.stdout.splitlines())  # type: ignore[misc,union-attr]


def _lowest(name: str) -> str:
    """The oldest version of a dependency that pyproject.toml allows."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    [line] = [line for line in project["dependencies"] if line.startswith(name)]
    return str(re.search(r">=([\d.]+)", line)[1])  # type: ignore[index]


def test_uv_trusts_what_pip_and_the_system_trust(tmp_path: Path) -> None:
    (tmp_path / "pip.conf").write_text("[global]\ncert = /etc/company/authority.pem\n")
    asked = 'echo "${SSL_CERT_FILE:-} ${UV_SYSTEM_CERTS:-}"'
    script = f". {ROOT}/tools/common.sh; uv_settings_from_pip {Path(sys.executable).with_name('pip')}; {asked}"
    env = {
        name: value
        for name, value in os.environ.items()
        if name not in ("PIP_CERT", "SSL_CERT_FILE", "UV_SYSTEM_CERTS")
    }
    told = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        env={**env, "PIP_CONFIG_FILE": str(tmp_path / "pip.conf")},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    stores = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem")
    assert told == ["/etc/company/authority.pem", *(["true"] if any(map(os.path.exists, stores)) else [])]


@pytest.mark.slow
@pytest.mark.parametrize("other", ["kserve>=0.21", "tritonclient[http]>=2.73", "tritonclient[grpc]>=2.73"])
def test_a_model_server_s_client_installs_beside_what_serves(other: str) -> None:
    found = _resolved("serve", other)
    assert {"faiss-cpu", "onnxruntime", "protobuf", re.split(r"\W", other)[0]} <= found.keys()
    if other != "tritonclient[http]>=2.73":
        assert int(found["protobuf"].split(".")[0]) < 7, "they take no newer one, so this is what the bound is for"


@pytest.mark.slow
def test_a_ranker_installs_the_client_of_mlflow_and_not_the_whole() -> None:
    build = dockerfiles.parse((ROOT / "deploy/ranker.Dockerfile").read_text())[0]
    extras = build.values("RUN")[0].split()[-1]
    slim, whole = _resolved(extras), _resolved(extras.replace("registry", "mlflow"))
    assert "mlflow-skinny" in slim
    assert not {"mlflow", "sqlalchemy", "alembic", "pandas", "scikit-learn", "flask", "pyarrow"} & slim.keys()
    assert "mlflow" in whole
    assert len(slim) <= 60
    assert len(slim) <= len(whole) - 40


# Writes an item of everything and reads it back, under whatever protobuf there is.
_ROUND_TRIP = """
import sys
from google import protobuf
from recdistill.records import Item, decode, encode
item = Item("a", 3, attributes={"genre": ["x", "y"], "year": 1999.0, "image": [0.5, 1.5], "new": True}, time_us=7)
assert decode(Item, encode(item)) == item
print(protobuf.__version__, encode(item).hex())
"""


@pytest.mark.slow
def test_records_are_the_same_bytes_under_the_oldest_protobuf(tmp_path: Path) -> None:
    oldest = _lowest("protobuf")
    assert _uv("venv", "--quiet", "--python", sys.executable, tmp_path / "venv").returncode == 0
    python = tmp_path / "venv" / "bin" / "python"
    wanted = [f"protobuf=={oldest}", "msgspec", "numpy", "tqdm"]
    done = _uv("pip", "install", "--quiet", "--python", python, *wanted)
    assert done.returncode == 0, done.stderr
    said = subprocess.run([python, "-W", "error", "-c", _ROUND_TRIP], cwd=ROOT, capture_output=True, text=True)
    assert said.returncode == 0, said.stderr
    version, written = said.stdout.split()
    assert version == oldest
    item = Item("a", 3, attributes={"genre": ["x", "y"], "year": 1999.0, "image": [0.5, 1.5], "new": True}, time_us=7)
    assert bytes.fromhex(written) == encode(item)


def _without(monkeypatch: pytest.MonkeyPatch, *modules: str) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if name in modules else find(name, *a))


def test_a_registry_in_a_file_asks_for_the_whole_of_mlflow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _without(monkeypatch, "alembic", "sqlalchemy")
    uri = f"sqlite:///{tmp_path / 'mlflow.sqlite'}"
    with pytest.raises(RegistryError) as refused:
        Registry(uri, "shop")
    assert str(refused.value) == (
        f"{uri}: a registry in a file needs the whole of MLflow; type: {how_to_install('mlflow')}, or set "
        "registry.uri to the http(s):// address of a server"
    )


@pytest.mark.slow
def test_doctor_asks_for_the_whole_of_mlflow_where_the_registry_is_a_file(tmp_path: Path) -> None:
    # A process of its own: MLflow, imported without them, would stay without them.
    code = (
        "import importlib.util, json, sys\n"
        "find = importlib.util.find_spec\n"
        "gone = ('alembic', 'sqlalchemy')\n"
        "importlib.util.find_spec = lambda name, *a: None if name in gone else find(name, *a)\n"
        "from recdistill.cli import main\n"
        "for words in json.loads(sys.argv[1]):\n"
        "    print('== next', flush=True)\n"
        "    main(words)\n"
    )
    uris = {"sqlite:///here.sqlite": True, "http://127.0.0.1:9": False}
    asked = [(role, uri) for role in ("ranker", "promoter") for uri in uris]
    words = [["doctor", "--role", role, "--set", f"registry.uri={uri}"] for role, uri in asked]
    command = [sys.executable, "-c", code, json.dumps(words)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for (role, uri), said in zip(asked, done.stdout.split("== next\n")[1:], strict=True):
        assert (how_to_install("mlflow") in said) == uris[uri], (role, said, done.stderr)

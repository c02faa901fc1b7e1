"""The Dockerfiles: hadolint, and what the house asks of every image."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from support import dockerfiles

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
PROCESSES = {"scorer", "joiner", "distiller", "promoter", "ranker"}
FILES = sorted(DEPLOY.glob("*.Dockerfile"))


def name_of(file: Path) -> str:
    return file.name.removesuffix(".Dockerfile")


def test_each_process_has_one() -> None:
    services = {folder.parent.name for folder in (ROOT / "services").glob("*/__main__.py")}
    # For whoever wants them, the prober runs in the ranker's image, and the translator in the joiner's.
    assert services - {"prober", "translator"} == PROCESSES
    assert {name_of(file) for file in FILES} == PROCESSES | {"mlflow"}


@pytest.mark.parametrize("file", FILES, ids=name_of)
def test_hadolint_finds_nothing(file: Path) -> None:
    hadolint = Path(sys.executable).with_name("hadolint")
    done = subprocess.run([hadolint, file], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


@pytest.mark.parametrize("file", FILES, ids=name_of)
def test_what_the_house_asks(file: Path) -> None:
    build, final = dockerfiles.parse(file.read_text(encoding="utf-8"))
    for stage in (build, final):
        assert re.fullmatch(r"python:3\.11-slim-[a-z]+", stage.base)
    assert final.value("USER") == "10001:10001", "a number, so that runAsNonRoot can be checked; not 0"
    assert final.steps.index(("USER", "10001:10001")) > max(i for i, s in enumerate(final.steps) if s[0] == "RUN")
    assert final.exec_form("ENTRYPOINT"), "in exec form, so that the process itself gets the stop signal"
    assert final.exec_form("HEALTHCHECK")[:2] == ["python", "-c"]
    labels = " ".join(final.values("LABEL"))
    assert all(f"org.opencontainers.image.{key}=" in labels for key in ("title", "description", "licenses"))
    assert not any("install.sh" in run or "pip " in run for run in final.values("RUN")), "build tools stay in the build"
    assert {stage for stage, _, _ in final.copies()} == {build.name}, "the image takes nothing straight from the tree"
    secret = re.compile(r"(?i)(password|secret|token|api_?key)\s*=")
    assert not secret.search(file.read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", sorted(PROCESSES))
def test_a_process_is_started_watched_and_installed_like_its_siblings(name: str) -> None:
    """One text, five files: what may differ is the extras, the folders, the port and the build argument for torch."""
    build, final = dockerfiles.parse((DEPLOY / f"{name}.Dockerfile").read_text(encoding="utf-8"))
    assert final.exec_form("ENTRYPOINT") == ["python", "-m", f"services.{name}"]
    port = final.value("EXPOSE")
    assert f"http://127.0.0.1:{port}/livez" in final.exec_form("HEALTHCHECK")[2]
    env = final.env()
    assert port == (env["RECDISTILL__RANK__PORT"] if name == "ranker" else env["RECDISTILL_HEALTH_PORT"])

    def shape(which: str) -> list[tuple[str, str]]:
        stages = dockerfiles.parse((DEPLOY / f"{which}.Dockerfile").read_text(encoding="utf-8"))
        own = {"LABEL", "EXPOSE", "HEALTHCHECK", "ENTRYPOINT", "ARG"}
        kept = [(n, rest) for stage in stages for n, rest in stage.steps if n not in own]
        kept = [(n, re.sub(r"(dependencies /opt/venv) \S+$", r"\1", rest)) for n, rest in kept]
        kept = [(n, re.sub(r"^(install -d .*?) /.*", r"\1", rest)) for n, rest in kept]
        return [(n, re.sub(r" RECDISTILL_.*", "", rest)) for n, rest in kept]

    assert shape(name) == shape("joiner")
    asks_for_torch = "train" in build.values("RUN")[0]
    assert bool(build.values("ARG")) == asks_for_torch
    assert asks_for_torch == (name in {"scorer", "distiller", "promoter"})


@pytest.mark.parametrize("file", FILES, ids=name_of)
def test_the_context_holds_what_is_copied_and_no_more(file: Path) -> None:
    allowed = {
        line[1:] for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines() if line.startswith("!")
    }
    build = dockerfiles.parse(file.read_text(encoding="utf-8"))[0]
    copied = {
        f"{destination}{source.split('/')[-1]}" if destination == "deploy/" else source
        for _, sources, destination in build.copies()
        for source in sources
    }
    assert copied <= allowed
    for source in copied:
        assert (ROOT / source).exists()
    if name_of(file) != "mlflow":
        assert copied == allowed

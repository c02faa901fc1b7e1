"""Each image's exact command, started as a plain process from an environment with only what the image installs.

There is no container engine here. What a Dockerfile says is read from it and done in a folder: the same files copied,
the same install steps run, the same variables, working directory, user and command. What an engine would add, and is
not tried, is the base image and its isolation.
"""

from __future__ import annotations

import functools
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support import dockerfiles

from recdistill.registry import Evidence, Registry
from references.students import make_student
from tools import processes

pytestmark = [pytest.mark.slow, pytest.mark.mlflow]

ROOT = Path(__file__).resolve().parents[2]
TORCH = {"scorer", "distiller", "promoter"}
UID = 10001
PATIENCE_S = 300
"""Five processes that import at once, beside whatever else the machine does."""


@functools.cache
def _runner() -> tuple[tuple[str, ...], str]:
    """What makes a command run as the images' user, and a Python that this user can start.

    Nothing and this Python where one cannot become another user, or no Python is open to it.
    """
    own = str(Path(sys.executable).resolve())
    name = f"python{sys.version_info.major}.{sys.version_info.minor}"
    if os.geteuid() == 0 and shutil.which("setpriv"):
        # env looks the program up when root's rights are gone; setpriv itself still has them then.
        user = ("setpriv", f"--reuid={UID}", f"--regid={UID}", "--clear-groups", "--pdeathsig=KILL", "env")
        for python in (own, f"/usr/bin/{name}", f"/usr/local/bin/{name}"):
            if subprocess.run([*user, python, "-c", ""], capture_output=True, check=False).returncode == 0:
                return user, python
    return (), own


class Image:
    """What a Dockerfile makes, in a folder instead of an image.

    Args:
        name: Of the process.
        root: Stands for the image's `/`.
    """

    def __init__(self, name: str, root: Path) -> None:
        self.name, self.root = name, root
        text = (ROOT / "deploy" / f"{name}.Dockerfile").read_text(encoding="utf-8")
        build, self.final = dockerfiles.parse(text)
        source = root / "src"
        for step, rest in build.steps:
            if step == "COPY":
                *sources, destination = rest.split()
                self._copy(sources, source if destination.startswith(".") else self._place(destination, source))
            elif step == "RUN":
                [command] = [run for run in build.values("RUN") if rest.endswith(run)]
                self._run(command, source)

    def _place(self, path: str, workdir: Path) -> Path:
        return self.root / path.removeprefix("/") if path.startswith("/") else workdir / path

    def _copy(self, sources: list[str], destination: Path) -> None:
        for source in sources:
            place = ROOT / source
            if place.is_dir():
                shutil.copytree(place, destination, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                destination.mkdir(parents=True, exist_ok=True)
                shutil.copy(place, destination)

    def _run(self, command: str, source: Path) -> None:
        words = [str(self._place(w, source)) if w.startswith("/") else w for w in command.split()]
        words[0] = str(source / words[0])
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        # A builder has no environment active, so neither has this.
        env = {k: v for k, v in os.environ.items() if k not in ("VIRTUAL_ENV", "PYTHONPATH")}
        env |= {"PATH": path, "UV_PYTHON": _runner()[1]}
        done = subprocess.run(words, cwd=source, env=env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"

    def command(self, entrypoint: list[str]) -> list[str]:
        """The words to start: as the image's user, with the image's python."""
        program = self.root / "opt/venv/bin" / entrypoint[0]
        return [*_runner()[0], str(program), *entrypoint[1:]]

    def env(self, settings: dict[str, str]) -> dict[str, str]:
        """The image's environment, and what whoever starts it adds."""
        own = self.final.env()
        own["PATH"] = own["PATH"].replace("/opt/venv", str(self.root / "opt/venv")).replace("$PATH", os.environ["PATH"])
        return {**own, **settings}

    def python(self, code: str) -> str:
        """What a line of Python prints in the image's environment."""
        done = subprocess.run(
            self.command(["python", "-c", code]),
            cwd=self.root / "app",
            env=self.env({}),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()


class Started:
    """A running image: its process, its port, its output."""

    def __init__(
        self, image: Image, settings: dict[str, str], folder: Path, entrypoint: list[str] | None = None
    ) -> None:
        self.image, self.log = image, folder / f"{entrypoint[-1] if entrypoint else image.name}.log"
        (self.port,) = processes.free_ports(1)
        of_ranker = image.name == "ranker" and entrypoint is None
        own = {"RECDISTILL__RANK__PORT" if of_ranker else "RECDISTILL_HEALTH_PORT": str(self.port)}
        self._env = image.env({**settings, **own})
        words = image.command(entrypoint or image.final.exec_form("ENTRYPOINT"))
        # A process in a container starts in the image's working directory.
        workdir = str(image.root / image.final.value("WORKDIR").removeprefix("/"))
        self.process = processes.spawn(["env", f"--chdir={workdir}", *words], log=self.log, env=self._env)

    def status(self, path: str) -> int:
        """The HTTP status of a path; 0 when nobody answers."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=20) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as e:
            return e.code
        except OSError:
            return 0

    def wait_for(self, path: str, status: int) -> None:
        """Waits until a path answers with this status."""
        self.wait_until(lambda: self.status(path) == status, f"{self.image.name} with {status} at {path}")

    def wait_until(self, ready: Callable[[], bool], what: str) -> None:
        """Waits as long as a busy machine may take."""
        processes.wait_until(ready, self.process, what=what, log=self.log, patience_s=PATIENCE_S)

    def healthy(self) -> bool:
        """Whether the image's own HEALTHCHECK is content, run as it stands but for the port."""
        words = self.image.final.exec_form("HEALTHCHECK")
        words[2] = words[2].replace(f":{self.image.final.value('EXPOSE')}/", f":{self.port}/")
        return (
            subprocess.run(self.image.command(words), env=self._env, capture_output=True, check=False).returncode == 0
        )

    def end(self) -> int:
        """SIGTERM to the process alone, as an engine does it; returns the exit code."""
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(timeout=PATIENCE_S)
        finally:
            processes.kill(self.process)


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    """A folder that another user can enter."""
    folder = Path(tempfile.mkdtemp(prefix="recdistill-images-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def images(place: Path) -> dict[str, Image]:
    return {name: Image(name, place / name) for name in ("scorer", "joiner", "distiller", "promoter", "ranker")}


@pytest.fixture(scope="module")
def settings(place: Path, images: dict[str, Image], mlflow_server: str) -> dict[str, str]:
    """Settings for an embedded log with the topics that compose's `topics` service makes, and a real MLflow server."""
    data = place / "data"
    for folder in (data, data / "tmp", data / "student"):
        folder.mkdir()
        if _runner()[0]:
            os.chown(folder, UID, UID)
    chosen = {
        "RECDISTILL__LOG__KIND": "embedded",
        "RECDISTILL__LOG__PATH": str(data / "log.sqlite"),
        "RECDISTILL__FEATURES__FILE": str(ROOT / "deploy/config/features.toml"),
        "RECDISTILL__TEACHER__KIND": "logged",
        "RECDISTILL__DISTIL__DIRECTORY": str(data / "student"),
        "RECDISTILL__REGISTRY__URI": mlflow_server,
        "RECDISTILL__REGISTRY__NAME": "images",
        "RECDISTILL__REGISTRY__CACHE": str(data / "cache"),
        "RECDISTILL__RANK__HOST": "127.0.0.1",
        "HOME": str(data / "tmp"),
        "TMPDIR": str(data / "tmp"),
    }
    assert "examples" in verb(images["joiner"], chosen, "topics", "create")
    return chosen


def verb(image: Image, settings: dict[str, str], *words: str) -> str:
    """What a verb of the command line prints in an image."""
    done = subprocess.run(
        image.command(["python", "-m", "recdistill", *words]),
        cwd=image.root / "app",
        env=image.env(settings),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def installed(image: Image, *modules: str) -> set[str]:
    code = f"import importlib.util as u; print(*[m for m in {modules!r} if u.find_spec(m)])"
    return set(image.python(code).split())


def test_torch_is_where_it_belongs(images: dict[str, Image]) -> None:
    heavy = ("torch", "torchrec", "fbgemm_gpu")
    assert {name for name, image in images.items() if installed(image, "torch")} == TORCH
    for name, image in images.items():
        assert installed(image, *heavy) == (set(heavy) if name in TORCH else set())
        assert not installed(image, "pytest", "hypothesis", "uv", "ruff")


def test_versions_are_those_the_project_is_tested_with(images: dict[str, Image]) -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    tested = dict(line.split("==") for line in lines if "==" in line and not line.startswith("#"))
    code = "import importlib.metadata as m, json; print(json.dumps([[d.name, d.version] for d in m.distributions()]))"
    for image in images.values():
        found = {name.lower().replace("_", "-"): version for name, version in json.loads(image.python(code))}
        assert found.pop("recdistill")
        assert found
        assert {name: version for name, version in found.items() if tested.get(name) != version} == {}


def test_the_code_is_the_image_s_own(images: dict[str, Image]) -> None:
    for image in images.values():
        where = image.python("import recdistill, services; print(recdistill.__file__, services.__file__)")
        assert all(path.startswith(str(image.root / "app")) for path in where.split())


def test_each_command_lives_answers_and_leaves(images: dict[str, Image], settings: dict[str, str], place: Path) -> None:
    """All five at once: alive, healthy, with metrics; the ranker not ready without a champion; then SIGTERM."""
    started = {name: Started(image, settings, place) for name, image in images.items()}
    try:
        for one in started.values():
            one.wait_for("/livez", 200)
        for name, one in started.items():
            one.wait_for("/readyz", 503 if name == "ranker" else 200)
            one.wait_for("/metrics", 200)
            one.wait_until(one.healthy, f"{name}, by its own HEALTHCHECK,")
            # The port answers before the parts are open.
            one.wait_until(lambda one=one: "starts" in one.log.read_text(), f"{name}'s first line")  # type: ignore[misc]
        if _runner()[0]:
            uids = {one.process.pid: Path(f"/proc/{one.process.pid}").stat().st_uid for one in started.values()}
            assert set(uids.values()) == {UID}
        codes = {name: one.end() for name, one in started.items()}
    finally:
        for one in started.values():
            processes.kill(one.process)
    said = "\n".join(one.log.read_text()[-2000:] for one in started.values())
    assert codes == dict.fromkeys(started, 0), said
    for name, one in started.items():
        last = json.loads(one.log.read_text().strip().splitlines()[-1])
        assert last["message"].startswith(f"{name} stops"), one.log.read_text()[-2000:]


def test_the_ranker_serves_a_champion_with_the_client_of_mlflow_alone(
    images: dict[str, Image], settings: dict[str, str], place: Path, mlflow_server: str
) -> None:
    assert not installed(images["ranker"], "sqlalchemy", "alembic", "flask", "sklearn", "pandas")
    bundle = make_student(20).export(place / "bundle")
    registry = Registry(mlflow_server, "images-champion")
    evidence = Evidence(
        content_hash=bundle.content_hash, passed=True, reasons=[], metrics={}, made_at="2026-01-01", judged=500
    )
    number = registry.publish(bundle, evidence).number
    registry.crown(number)
    chosen = settings | {"RECDISTILL__REGISTRY__NAME": registry.name}
    [version] = json.loads(verb(images["ranker"], chosen, "versions", "--json"))["versions"]
    assert version["number"] == number
    one = Started(images["ranker"], chosen, place)
    try:
        one.wait_for("/readyz", 200)
        assert one.end() == 0, one.log.read_text()[-2000:]
    finally:
        processes.kill(one.process)


def test_the_prober_runs_in_the_ranker_s_image(images: dict[str, Image], settings: dict[str, str], place: Path) -> None:
    one = Started(images["ranker"], settings, place, ["python", "-m", "services.prober"])
    try:
        one.wait_for("/livez", 200)
        one.wait_until(lambda: "prober starts" in one.log.read_text(), "prober")
        assert one.end() == 0, one.log.read_text()[-2000:]
    finally:
        processes.kill(one.process)
    assert "prober stops" in one.log.read_text()

"""compose.yaml: held against the Compose specification by its own loader, and against what the house needs."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from sqlalchemy import make_url
from support import dockerfiles

from recdistill.config import load_settings
from recdistill.features import FeatureSpec
from recdistill.loops.control import as_control

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
LOADER = ROOT / ".cache/deploy/bin/compose-spec"
PROCESSES = {"scorer", "joiner", "distiller", "promoter", "ranker"}
_VARIABLE = re.compile(r"\$\{([A-Z_]+)(?::([?-])([^}]*))?\}")


def example_env() -> dict[str, str]:
    lines = (DEPLOY / ".env.example").read_text(encoding="utf-8").splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def text() -> str:
    """The file with the variables that .env.example gives."""
    values = example_env()
    raw = (DEPLOY / "compose.yaml").read_text(encoding="utf-8")
    used = {match[1] for match in _VARIABLE.finditer(raw)}
    assert used == set(values), "each variable of compose.yaml has a line in .env.example, and the other way round"
    return _VARIABLE.sub(lambda match: values[match[1]], raw)


@pytest.fixture(scope="module")
def model() -> dict[str, Any]:
    return dict(yaml.safe_load(text()))


def load(folder: Path, content: str) -> subprocess.CompletedProcess[str]:
    if not LOADER.exists():
        pytest.skip("the Compose loader is missing; type: make setup-deploy")
    (folder / "compose.yaml").write_text(content, encoding="utf-8")
    return subprocess.run(
        [LOADER, "-format", "json", "compose.yaml"], cwd=folder, capture_output=True, text=True, check=False
    )


def test_the_specification_s_own_loader_takes_it(tmp_path: Path) -> None:
    done = load(tmp_path, text())
    assert (done.returncode, done.stderr) == (0, "")
    assert PROCESSES | {"kafka", "postgres", "mlflow", "prometheus", "topics"} <= set(
        json.loads(done.stdout)["services"]
    )


@pytest.mark.parametrize(
    ("change", "to"),
    [
        ("restart: unless-stopped", "restrat: unless-stopped"),
        ("condition: service_healthy", "condition: service_healty"),
    ],
)
def test_the_loader_would_see_a_mistake(tmp_path: Path, change: str, to: str) -> None:
    assert load(tmp_path, text().replace(change, to, 1)).returncode != 0


def test_every_process_is_there_confined_and_waits_for_its_topics(model: dict[str, Any]) -> None:
    for name in PROCESSES:
        service = model["services"][name]
        assert service["image"] == f"recdistill-{name}"
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert service["environment"]["RECDISTILL_CONFIG"] == "/etc/recdistill/settings.toml"
        assert service["depends_on"]["topics"] == {"condition": "service_completed_successfully"}
        assert "entrypoint" not in service, "the image's own, which is what the tests start"
    for name in ("distiller", "promoter", "ranker"):
        assert model["services"][name]["depends_on"]["mlflow"] == {"condition": "service_healthy"}
    assert model["services"]["topics"]["depends_on"]["kafka"] == {"condition": "service_healthy"}


def test_the_prober_runs_in_the_ranker_s_image_for_whoever_asks_for_it(model: dict[str, Any]) -> None:
    prober, ranker = model["services"]["prober"], model["services"]["ranker"]
    assert prober["profiles"] == ["probe"]
    assert (prober["image"], prober["volumes"]) == (ranker["image"], ranker["volumes"])
    assert prober["depends_on"] == ranker["depends_on"]
    assert (prober["read_only"], prober["cap_drop"]) == (True, ["ALL"])
    assert prober["entrypoint"] == ["python", "-m", "services.prober"]  # as tests/deploy/test_images.py starts it
    port = prober["environment"]["RECDISTILL_HEALTH_PORT"]
    assert f":{port}/livez" in prober["healthcheck"]["test"][-1]


def test_the_translator_runs_in_the_joiner_s_image_for_whoever_asks_for_it(model: dict[str, Any]) -> None:
    translator, joiner = model["services"]["translator"], model["services"]["joiner"]
    assert translator["profiles"] == ["translate"]
    assert (translator["image"], translator["depends_on"]) == (joiner["image"], joiner["depends_on"])
    assert (translator["read_only"], translator["cap_drop"]) == (True, ["ALL"])
    assert translator["entrypoint"] == ["python", "-m", "services.translator"]
    build = dockerfiles.parse((DEPLOY / "joiner.Dockerfile").read_text(encoding="utf-8"))[0]
    assert {"kafka", "schemas"} <= set(build.values("RUN")[0].split()[-1].split(","))


def test_the_control_is_a_distiller_with_a_folder_of_its_own_for_whoever_asks_for_it(model: dict[str, Any]) -> None:
    control, distiller = model["services"]["control"], model["services"]["distiller"]
    assert control["profiles"] == ["control"]
    assert "entrypoint" not in control
    assert (control["image"], control["depends_on"]) == (distiller["image"], distiller["depends_on"])
    assert (control["read_only"], control["cap_drop"]) == (True, ["ALL"])
    settings = load_settings(DEPLOY / "config/settings.toml", env=control["environment"])
    assert settings.distil.control
    writes = as_control(settings).distil.directory
    assert [volume for volume in control["volumes"] if volume.endswith(f":{writes}")]
    assert not set(control["volumes"][1:]) & set(distiller["volumes"])
    final = dockerfiles.parse((DEPLOY / "distiller.Dockerfile").read_text(encoding="utf-8"))[-1]
    assert writes in final.values("RUN")[0].split(), "a new volume there belongs to the process's user"


def test_nothing_is_waited_for_or_mounted_that_is_not_there(model: dict[str, Any]) -> None:
    services = model["services"]
    for service in services.values():
        assert set(service.get("depends_on", ())) <= set(services)
    mounted = {v.split(":")[0] for s in services.values() for v in s.get("volumes", ()) if v[0] != "."}
    assert mounted == set(model["volumes"])
    for path in (v.split(":")[0] for s in services.values() for v in s.get("volumes", ()) if v[0] == "."):
        assert (DEPLOY / path).exists()


def test_what_others_wait_for_says_when_it_is_healthy(model: dict[str, Any]) -> None:
    for name in ("kafka", "postgres", "prometheus"):
        assert model["services"][name]["healthcheck"]["test"][0] == "CMD", name
    final = dockerfiles.parse((DEPLOY / "mlflow.Dockerfile").read_text(encoding="utf-8"))[-1]
    assert final.value("HEALTHCHECK")


def test_nothing_answers_beyond_this_machine(model: dict[str, Any]) -> None:
    ports = [port for service in model["services"].values() for port in service.get("ports", ())]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_images_are_pinned(model: dict[str, Any]) -> None:
    built = {service["image"] for service in model["services"].values() if "build" in service}
    for service in model["services"].values():
        if service["image"] not in built:
            assert re.fullmatch(r"[a-z/]+:v?\d+(\.\d+)*(-[a-z]+)?", service["image"])
    for service in model["services"].values():
        if "build" in service:
            assert (DEPLOY / service["build"]["context"] / service["build"]["dockerfile"]).is_file()


def test_a_password_as_the_example_asks_for_it_leads_mlflow_to_its_database(model: dict[str, Any]) -> None:
    uri = model["services"]["mlflow"]["environment"]["MLFLOW_BACKEND_STORE_URI"]
    example = example_env()["POSTGRES_PASSWORD"]
    assert re.search(r"letters, digits, - and _ alone", (DEPLOY / ".env.example").read_text(encoding="utf-8"))
    for password, whole in ((example, True), ("aZ09-_", True), ("p@ss", False), ("50%25", False)):
        found = make_url(uri.replace(example, password))
        assert ((found.host, found.password) == ("postgres", password)) == whole, password


def test_kafka_is_the_one_the_tests_run_on(model: dict[str, Any]) -> None:
    pom = (DEPLOY / "kafka/pom.xml").read_text(encoding="utf-8")
    [version] = re.findall(r"<kafka.version>(.*?)</kafka.version>", pom)
    assert model["services"]["kafka"]["image"] == f"apache/kafka:{version}"


def test_settings_lead_where_the_volumes_are(model: dict[str, Any]) -> None:
    settings = load_settings(DEPLOY / "config/settings.toml", env={})
    mounts = {
        name: dict(volume.split(":")[1::-1] for volume in model["services"][name]["volumes"])
        for name in (*PROCESSES, "recdistill")
    }
    assert settings.log.brokers == "kafka:9092"
    assert settings.registry.uri == "http://mlflow:5000"
    assert "mlflow:5000" in model["services"]["mlflow"]["command"][1]
    for name in ("distiller", "recdistill"):
        assert mounts[name][settings.distil.directory] == "student"
    assert "student" not in mounts["promoter"].values(), "bundles travel by the registry"
    for name in ("scorer", "promoter", "recdistill"):
        assert mounts[name][str(Path(settings.teacher.path).parent)] == "teacher"
    # Distiller and promoter score lists with the champion (`prequential.champion`), and a person may ask it.
    assert settings.prequential.champion
    for name in ("ranker", "distiller", "promoter", "recdistill"):
        assert mounts[name][settings.registry.cache] == "cache"
    assert {mounts[name]["/etc/recdistill"] for name in mounts} == {"./config"}
    assert settings.features.file == "/etc/recdistill/features.toml"


def test_a_volume_begins_as_the_process_s_own(model: dict[str, Any]) -> None:
    """An engine gives a new volume the owner of the folder it covers; so the image has to have that folder."""
    for name in PROCESSES:
        final = dockerfiles.parse((DEPLOY / f"{name}.Dockerfile").read_text(encoding="utf-8"))[-1]
        made = final.value("RUN").split()
        named = [volume.split(":")[1] for volume in model["services"][name]["volumes"] if volume[0] != "."]
        assert set(named) <= set(made), name


@pytest.mark.slow
def test_the_features_are_the_simulated_product_s() -> None:
    from recdistill.data.simulated.simulator import SimulatorSettings, simulate

    shipped = FeatureSpec.load(DEPLOY / "config/features.toml")
    made = simulate(SimulatorSettings(impressions=100), seed=0)[0].spec
    assert (shipped.history, shipped.context) == (made.history, made.context)
    assert {name: field.kind for name, field in shipped.item.items()} == {n: f.kind for n, f in made.item.items()}


def test_prometheus_asks_every_process_on_its_port(model: dict[str, Any]) -> None:
    config = yaml.safe_load((DEPLOY / "prometheus.yml").read_text(encoding="utf-8"))
    targets = {
        target for job in config["scrape_configs"] for group in job["static_configs"] for target in group["targets"]
    }
    exposed = {
        f"{name}:{dockerfiles.parse((DEPLOY / f'{name}.Dockerfile').read_text(encoding='utf-8'))[-1].value('EXPOSE')}"
        for name in PROCESSES
    }
    assert targets == exposed | {"localhost:9090"}
    assert "./prometheus.yml:/etc/prometheus/prometheus.yml:ro" in model["services"]["prometheus"]["volumes"]

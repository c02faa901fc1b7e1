"""The manifests: built by kustomize, held against Kubernetes' own schemas and what the house needs of a pod."""

from __future__ import annotations

import functools
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from support import dockerfiles

from recdistill.config import parse_settings
from recdistill.features import FeatureSpec
from recdistill.loops.control import as_control

ROOT = Path(__file__).resolve().parents[2]
PLACES = ("k8s/base", "k8s/overlays/example")
VERSIONS = ("1.31", "1.37")
"""The oldest that the manifests are meant for, and a new one."""

Manifest = dict[str, Any]


def kustomize() -> list[str]:
    own = ROOT / ".cache/deploy/bin/kustomize"
    if own.exists():
        return [str(own), "build"]
    if shutil.which("kustomize"):
        return ["kustomize", "build"]
    if shutil.which("kubectl"):
        return ["kubectl", "kustomize"]
    pytest.skip("kustomize is missing; type: make setup-deploy")


@functools.cache
def build(place: str) -> list[Manifest]:
    done = subprocess.run([*kustomize(), ROOT / place], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return [dict(manifest) for manifest in yaml.safe_load_all(done.stdout)]


def one(place: str, kind: str, name: str) -> Manifest:
    [found] = [m for m in build(place) if m["kind"] == kind and m["metadata"]["name"] == name]
    return found


def pods(place: str) -> Iterator[tuple[str, Manifest]]:
    """The name and the pod specification of everything that starts pods."""
    for manifest in build(place):
        spec = manifest.get("spec", {})
        spec = spec.get("jobTemplate", {}).get("spec", spec)
        if "template" in spec:
            yield manifest["metadata"]["name"], spec["template"]["spec"]


def containers(place: str) -> Iterator[tuple[Manifest, Manifest]]:
    for _, pod in pods(place):
        for container in pod["containers"]:
            yield pod, container


def config(place: str) -> dict[str, str]:
    [found] = [m for m in build(place) if m["kind"] == "ConfigMap"]
    return dict(found["data"])


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("place", PLACES)
def test_kubernetes_own_schemas_take_it(place: str, version: str) -> None:
    for manifest in build(place):
        kubernetes_validate.validate(manifest, version, strict=True)


@pytest.mark.parametrize("place", PLACES)
def test_pods_are_reached_only_on_the_port_that_they_answer_on(place: str) -> None:
    policy = one(place, "NetworkPolicy", "recdistill")["spec"]
    assert policy["policyTypes"] == ["Ingress"]
    named = {port["port"] for rule in policy["ingress"] for port in rule["ports"]}
    answering = {port["name"] for _, container in containers(place) for port in container.get("ports", [])}
    assert named == answering
    for manifest in build(place):
        template = manifest.get("spec", {}).get("jobTemplate", manifest).get("spec", {}).get("template")
        if template:
            assert policy["podSelector"]["matchLabels"].items() <= template["metadata"]["labels"].items()


def test_the_schemas_would_see_a_mistake() -> None:
    manifest = yaml.safe_load(yaml.safe_dump(one("k8s/base", "Deployment", "ranker")))
    manifest["spec"]["template"]["spec"]["containers"][0]["readynessProbe"] = {}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(manifest, VERSIONS[0], strict=True)


def test_each_service_has_one_manifest() -> None:
    files = {file.stem for file in (ROOT / "k8s/base").glob("*.yaml")}
    services = {place.parent.name for place in (ROOT / "services").glob("*/__main__.py")}
    assert services <= files
    assert {c["name"] for _, c in containers("k8s/base")} == services | {"topics", "teach", "control"}
    assert all(len(pod["containers"]) == 1 for _, pod in pods("k8s/base")), "no process needs another's pod"


@pytest.mark.parametrize("place", PLACES)
def test_every_container_is_confined_and_bounded(place: str) -> None:
    for pod, container in containers(place):
        assert pod["serviceAccountName"] == "recdistill"
        assert pod["automountServiceAccountToken"] is False
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["runAsUser"] == 10001
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert set(container["resources"]["requests"]) == {"cpu", "memory"}
        assert "memory" in container["resources"]["limits"]
        volumes = {volume["name"]: volume for volume in pod["volumes"]}
        mounts = {mount["mountPath"]: mount for mount in container["volumeMounts"]}
        assert "emptyDir" in volumes[mounts["/tmp"]["name"]]
        for volume in volumes.values():
            assert "emptyDir" not in volume or volume["emptyDir"]["sizeLimit"], "a volume without a limit fills a node"
        assert mounts["/etc/recdistill"]["readOnly"] is True
        assert volumes[mounts["/etc/recdistill"]["name"]]["configMap"]["name"] in {
            m["metadata"]["name"] for m in build(place) if m["kind"] == "ConfigMap"
        }


@pytest.mark.parametrize("place", PLACES)
def test_probes_ask_the_port_that_the_process_answers_on(place: str) -> None:
    for _, container in containers(place):
        name = container["name"]
        if name in {"topics", "teach"}:
            assert "livenessProbe" not in container, "it ends by itself"
            continue
        # The image's own, or that of a process in another one's image: those are what the tests start.
        inside = {"prober": "ranker", "translator": "joiner"}
        assert container.get("command") == (["python", "-m", f"services.{name}"] if name in inside else None)
        ports = {port["name"]: port["containerPort"] for port in container["ports"]}
        image = {**inside, "control": "distiller"}.get(name, name)
        assert container["image"].partition(":")[0].endswith(f"recdistill-{image}")
        final = dockerfiles.parse((ROOT / f"deploy/{image}.Dockerfile").read_text(encoding="utf-8"))[-1]
        env = {entry["name"]: entry.get("value") for entry in container["env"]}
        answers = int(env.get("RECDISTILL_HEALTH_PORT") or final.value("EXPOSE"))
        for probe, path in (("startupProbe", "/livez"), ("livenessProbe", "/livez"), ("readinessProbe", "/readyz")):
            asked = container[probe]["httpGet"]
            assert (asked["path"], ports[asked["port"]]) == (path, answers)


@pytest.mark.parametrize("place", PLACES)
def test_containers_of_a_pod_have_ports_of_their_own(place: str) -> None:
    for name, pod in pods(place):
        ports = [port["containerPort"] for c in pod["containers"] for port in c.get("ports", ())]
        assert len(ports) == len(set(ports)), name


@pytest.mark.parametrize("place", PLACES)
def test_settings_and_folders_fit(place: str) -> None:
    files = config(place)
    settings = parse_settings(files["settings.toml"], env={})
    where = ROOT / "k8s/base/features.toml"
    assert files["features.toml"] == where.read_text(encoding="utf-8")
    FeatureSpec.load(where)
    assert settings.log.kind == "kafka"
    mounted = {
        c["name"]: {m["mountPath"]: m.get("readOnly", False) for m in c["volumeMounts"]} for _, c in containers(place)
    }
    teacher = str(Path(settings.teacher.path).parent)
    assert mounted["distiller"][settings.distil.directory] is False
    assert settings.distil.directory not in mounted["promoter"], "bundles travel by the registry"
    assert mounted["control"][as_control(settings).distil.directory] is False
    assert mounted["scorer"][teacher] is True
    assert mounted["promoter"][teacher] is True
    assert mounted["teach"][teacher] is False
    # Distiller and promoter score lists with the champion (`prequential.champion`).
    for name in ("ranker", "prober", "distiller", "promoter"):
        assert mounted[name][settings.registry.cache] is False
    assert settings.features.file == "/etc/recdistill/features.toml"


@pytest.mark.parametrize("place", PLACES)
def test_the_trial_of_a_bundle_fits_into_the_memory_of_its_container(place: str) -> None:
    """Else the system ends the ranker, and not the trial. Half of it is left for what serves."""
    trial = parse_settings(config(place)["settings.toml"], env={}).trial
    for _, container in containers(place):
        if container["name"] in {"ranker", "prober", "promoter"}:
            limit = container["resources"]["limits"]["memory"]
            assert limit.endswith("Gi")
            assert trial.memory_mb <= int(limit.removesuffix("Gi")) * 1024 // 2, container["name"]


def test_who_is_started_anew_after_a_teacher_are_those_who_read_it() -> None:
    """They open the teacher when they start."""
    readers = {
        f"{manifest['kind'].lower()}/{manifest['metadata']['name']}"
        for manifest in build("k8s/base")
        if manifest["kind"] in {"Deployment", "StatefulSet"}
        for volume in manifest["spec"]["template"]["spec"]["volumes"]
        if volume.get("persistentVolumeClaim", {}).get("claimName") == "teacher"
    }
    for file in ("k8s/base/teach.yaml", "docs/deploying.md"):
        [named] = re.findall(r"kubectl rollout restart (.+)", (ROOT / file).read_text(encoding="utf-8"))
        assert set(named.split()) == readers, file


@pytest.mark.parametrize("place", PLACES)
def test_scorers_know_how_many_they_are(place: str) -> None:
    scorer = one(place, "StatefulSet", "scorer")
    env = {e["name"]: e for e in scorer["spec"]["template"]["spec"]["containers"][0]["env"]}
    replicas = scorer["spec"]["replicas"]
    assert env["RECDISTILL__SCORE__WORKERS"]["value"] == str(replicas)
    assert "pod-index" in env["RECDISTILL__SCORE__WORKER"]["valueFrom"]["fieldRef"]["fieldPath"]
    assert replicas <= parse_settings(config(place)["settings.toml"], env={}).topics.partitions


def test_one_joiner_one_promoter_one_distiller_and_no_prober_until_it_is_asked_for() -> None:
    for name, replicas in (("joiner", 1), ("promoter", 1), ("prober", 0), ("translator", 0)):
        deployment = one("k8s/base", "Deployment", name)
        assert (deployment["spec"]["replicas"], deployment["spec"]["strategy"]["type"]) == (replicas, "Recreate")
    control = one("k8s/base", "StatefulSet", "control")
    assert control["spec"]["replicas"] == 0
    assert control["spec"]["template"]["metadata"]["annotations"]["prometheus.io/scrape"] == "false"
    distiller = one("k8s/base", "StatefulSet", "distiller")
    assert distiller["spec"]["replicas"] == 1
    assert [c["metadata"]["name"] for c in distiller["spec"]["volumeClaimTemplates"]] == ["student"]
    shared = {
        (name, volume["persistentVolumeClaim"]["claimName"])
        for name, pod in pods("k8s/base")
        for volume in pod["volumes"]
        if "persistentVolumeClaim" in volume
    }
    assert shared == {("scorer", "teacher"), ("promoter", "teacher"), ("teach", "teacher")}


@pytest.mark.parametrize("place", PLACES)
def test_services_and_budgets_select_pods_that_exist(place: str) -> None:
    labels = [m["spec"]["template"]["metadata"]["labels"] for m in build(place) if "template" in m.get("spec", {})]
    for manifest in build(place):
        if manifest["kind"] in {"Service", "PodDisruptionBudget"}:
            selector = manifest["spec"]["selector"]
            selector = selector.get("matchLabels", selector)
            assert any(selector.items() <= own.items() for own in labels), manifest["metadata"]["name"]
    ranker = one(place, "Deployment", "ranker")
    assert one(place, "PodDisruptionBudget", "ranker")["spec"]["minAvailable"] < ranker["spec"]["replicas"]


def test_passwords_come_from_a_secret_alone() -> None:
    for place in PLACES:
        for _, container in containers(place):
            for entry in container["env"]:
                if "PASSWORD" in entry["name"]:
                    assert entry["valueFrom"]["secretKeyRef"]["name"] == "recdistill-kafka"
        assert not [m for m in build(place) if m["kind"] == "Secret"]
        assert "password" not in config(place)["settings.toml"].replace("User and password come", "")


def test_the_example_names_every_image() -> None:
    for _, container in containers("k8s/overlays/example"):
        assert container["image"].startswith("registry.example.com/recdistill-")
        assert ":" in container["image"]

"""The alert rules: every metric that they name is one that a process shows, and both forms of them are the same."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml

from recdistill.hops import HOPS, Counts, passed
from recdistill.loops import distil, join, probe, promote, score, translate
from recdistill.loops.added import HELP as ADDED
from recdistill.loops.distil.left import lines_of as rebuild_lines
from recdistill.loops.prequential import lines_of
from recdistill.loops.prequential.figures import Figure
from recdistill.loops.prequential.windows import Row
from recdistill.serve.http.metrics import Metrics

ROOT = Path(__file__).resolve().parents[2]
OWN = ROOT / ".cache/deploy/bin/promtool"
WORKERS = {
    "scorer": score.run,
    "joiner": join.run,
    "distiller": distil.run,
    "promoter": promote.run,
    "prober": probe.run,
    "translator": translate.run,
}


def rules() -> list[dict[str, Any]]:
    document = yaml.safe_load((ROOT / "deploy/alerts.yml").read_text(encoding="utf-8"))
    [group] = document["groups"]
    return list(group["rules"])


def shown() -> set[str]:
    """Names that processes show: freshness, the ranker's own, and the counts that each loop documents."""
    counts = Counts()
    for hop in HOPS:
        passed(counts, hop, [1_000_000])
    figure = Figure(n=9, groups=3, mean=0.5, low=0.4, high=0.6)
    now = Row(begin_us=0, end_us=1, lists=9, ndcg={"champion": figure}, agreement={"champion": figure})
    counts.more["prequential"] = lambda: lines_of(now)
    counts.more["rebuild"] = lambda: rebuild_lines(0)
    text = "\n".join(counts.lines()) + Metrics(Counter(), lambda: {"ready": 1.0}).text().decode()
    names = {re.split(r"[{ ]", line)[0] for line in text.splitlines() if line and not line.startswith("#")}
    names |= {f"recdistill_control_{name}" for name in ADDED}
    for worker, run in WORKERS.items():
        documented = (run.__doc__ or "").partition("Counts: ")[2].partition("Raises:")[0]
        names |= {f"recdistill_{worker}_{key}_total" for key in re.findall(r"[a-z_]+", documented)}
    return names


def named(expression: str) -> list[str]:
    without_labels = re.sub(r"\{[^}]*\}", "", expression)
    return re.findall(r"\b(?:recdistill_\w+|up)\b", without_labels)


def test_every_metric_of_a_rule_is_one_that_a_process_shows() -> None:
    known = shown()
    for rule in rules():
        names = named(rule["expr"])
        assert names, rule["alert"]
        assert set(names) - {"up"} <= known, rule["alert"]
    assert set(named("x - recdistill_no_such_total{a='b'}")) - known == {"recdistill_no_such_total"}


def test_the_rule_of_dead_letters_knows_all_who_write_them() -> None:
    [rule] = [one["expr"] for one in rules() if one["alert"] == "RecdistillDeadLetters"]
    writers = {name for name in shown() if name.endswith("_dead_letters_total")}
    assert set(named(rule)) == writers


def test_the_operator_asks_every_process_under_the_name_that_the_rules_know() -> None:
    """`RecdistillDown` looks for jobs of a name. The control is not asked, as in compose."""
    [down] = [one["expr"] for one in rules() if one["alert"] == "RecdistillDown"]
    [pattern] = re.findall(r'job=~"([^"]+)"', down)
    folder = ROOT / "k8s/alerts"
    assert "podmonitor.yaml" in yaml.safe_load((folder / "kustomization.yaml").read_text())["resources"]
    spec = yaml.safe_load((folder / "podmonitor.yaml").read_text(encoding="utf-8"))["spec"]
    ports = set()
    for endpoint in spec["podMetricsEndpoints"]:
        [job] = [one["replacement"] for one in endpoint["relabelings"] if one["targetLabel"] == "job"]
        assert re.fullmatch(pattern, job)
        ports.add(endpoint["port"])
    manifests = [
        one
        for file in (ROOT / "k8s/base").glob("*.yaml")
        for one in yaml.safe_load_all(file.read_text(encoding="utf-8"))
        if one and one.get("kind") in {"Deployment", "StatefulSet"}
    ]
    answering = {
        port["name"]
        for one in manifests
        for container in one["spec"]["template"]["spec"]["containers"]
        for port in container["ports"]
    }
    assert ports == answering
    assert spec["selector"]["matchLabels"] == {"app.kubernetes.io/part-of": "recdistill"}
    [name] = spec["selector"]["matchExpressions"]
    assert (name["key"], name["operator"]) == ("app.kubernetes.io/name", "NotIn")
    refused = {
        one["metadata"]["name"]
        for one in manifests
        if one["spec"]["template"]["metadata"]["annotations"]["prometheus.io/scrape"] == "false"
    }
    assert set(name["values"]) == refused == {"control"}


def test_every_hop_of_a_rule_is_one_and_every_hop_has_a_rule() -> None:
    hops = {hop for rule in rules() for hop in re.findall(r'hop="(\w+)"', rule["expr"])}
    assert hops == set(HOPS)


def test_a_rule_says_what_is_wrong_and_how_urgent_it_is() -> None:
    for rule in rules():
        assert re.fullmatch(r"Recdistill[A-Za-z]+", rule["alert"])
        assert rule["labels"]["severity"] in {"page", "ticket"}
        assert len(rule["annotations"]["summary"]) > 30
        assert rule["expr"].count("(") == rule["expr"].count(")")


def test_the_form_for_kubernetes_has_the_same_rules_and_prometheus_is_given_the_other() -> None:
    document = yaml.safe_load((ROOT / "k8s/alerts/prometheusrule.yaml").read_text(encoding="utf-8"))
    [group] = document["spec"]["groups"]
    assert group["rules"] == rules()
    assert yaml.safe_load((ROOT / "deploy/prometheus.yml").read_text())["rule_files"] == ["/etc/prometheus/alerts.yml"]
    assert "./alerts.yml:/etc/prometheus/alerts.yml:ro" in (ROOT / "deploy/compose.yaml").read_text()


def promtool(*words: str) -> str:
    """What promtool prints; it must succeed."""
    found = str(OWN) if OWN.exists() else shutil.which("promtool")
    if found is None:
        pytest.skip("promtool is missing; type: make setup-deploy")
    done = subprocess.run([found, *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_prometheus_itself_reads_the_rules() -> None:
    assert f"SUCCESS: {len(rules())} rules found" in promtool("check", "rules", str(ROOT / "deploy/alerts.yml"))


def series(name: str, labels: str, values: str) -> dict[str, str]:
    return {"series": f"{name}{{{labels}}}", "values": values}


def alerts_at(alert: str, minute: int, *firing: dict[str, str]) -> dict[str, Any]:
    """Which alerts of a name must fire at a minute."""
    [rule] = [one for one in rules() if one["alert"] == alert]
    expected = [{"exp_labels": {**rule["labels"], **one}, "exp_annotations": rule["annotations"]} for one in firing]
    return {"eval_time": f"{minute}m", "alertname": alert, "exp_alerts": expected}


def hold(folder: Path, *tests: dict[str, Any]) -> None:
    """Prometheus's own engine runs the rules over made-up series, a value a minute; all that is expected must hold."""
    whole = {
        "rule_files": [str(ROOT / "deploy/alerts.yml")],
        "evaluation_interval": "1m",
        "tests": [{"interval": "1m", **one} for one in tests],
    }
    (folder / "rules_test.yml").write_text(yaml.safe_dump(whole))
    assert "SUCCESS" in promtool("test", "rules", str(folder / "rules_test.yml"))


def test_a_champion_below_popularity_fires_after_half_an_hour(tmp_path: Path) -> None:
    """The champion falls below popularity after an hour."""
    low, high = "recdistill_prequential_ndcg10_low", "recdistill_prequential_ndcg10_high"
    popular = 'line="popularity",lists="learnt",instance="distiller"'
    champion = 'line="champion",lists="learnt",instance="distiller"'
    name, labels = "RecdistillChampionBelowPopularity", {"instance": "distiller", "lists": "learnt"}
    hold(
        tmp_path,
        {
            "input_series": [series(low, popular, "0.3x180"), series(high, champion, "0.4x60 0.2x120")],
            "alert_rule_test": [alerts_at(name, 59), alerts_at(name, 85), alerts_at(name, 95, labels)],
        },
    )


def test_a_control_that_is_missing_or_old_or_as_good_as_the_student_fires(tmp_path: Path) -> None:
    """One judgement that shows no lead is no alert; a quarter of a day without one is. No control, no alert."""
    labels = {"instance": "promoter"}
    where = 'instance="promoter"'
    missing, adds, old = "RecdistillControlMissing", "RecdistillTeacherAddsNothing", "RecdistillControlOld"
    low, made = "recdistill_control_lead_ndcg10_low", "recdistill_control_made_seconds"
    judged = "recdistill_passed_at_seconds"
    hold(
        tmp_path,
        {
            "input_series": [series("recdistill_control_missing", where, "0x60 1x60")],
            "alert_rule_test": [alerts_at(missing, 60), alerts_at(missing, 85), alerts_at(missing, 95, labels)],
        },
        {
            # 100 minutes without a lead, one judgement that shows it, then none any more.
            "input_series": [series(low, where, "-0.001x100 0.001x10 0x500")],
            "alert_rule_test": [alerts_at(adds, 99), alerts_at(adds, 465), alerts_at(adds, 480, labels)],
        },
        {
            # A student is judged each minute, and the control of the first day stays: 604,800 s are a week.
            "input_series": [
                series(judged, f'hop="judged",{where}', "1604000+60x60"),
                series(judged, f'hop="promoted",{where}', "9000000x60"),
                series(made, where, "1000000x60"),
            ],
            "alert_rule_test": [alerts_at(old, 13), alerts_at(old, 40), alerts_at(old, 50, {})],
        },
        {
            "input_series": [series(judged, f'hop="judged",{where}', "1604000+60x900")],
            "alert_rule_test": [alerts_at(name, 890) for name in (missing, adds, old)],
        },
    )


def test_a_control_that_never_made_a_bundle_fires_a_quarter_of_a_day_after_it_began(tmp_path: Path) -> None:
    """It began at 1,000,000; a student is judged each minute from 20,000 s later on. 21,600 s are six hours."""
    name, where = "RecdistillControlNeverMade", 'instance="promoter"'
    judged, began = "recdistill_passed_at_seconds", "recdistill_control_began_seconds"
    begins = series(judged, f'hop="judged",{where}', "1020000+60x100")
    hold(
        tmp_path,
        {
            "input_series": [begins, series(began, where, "1000000x100")],
            "alert_rule_test": [alerts_at(name, 27), alerts_at(name, 55), alerts_at(name, 60, {})],
        },
        # It makes its first bundle after 40 minutes; then the promoter shows the gauge no more.
        {
            "input_series": [begins, series(began, where, "1000000x40 stale")],
            "alert_rule_test": [alerts_at(name, 60), alerts_at(name, 99)],
        },
        # The product had no traffic, so nothing was judged.
        {
            "input_series": [
                series(judged, f'hop="judged",{where}', "1020000x900"),
                series(began, where, "1000000x900"),
            ],
            "alert_rule_test": [alerts_at(name, 890)],
        },
    )


def test_a_student_that_is_made_anew_for_six_hours_fires(tmp_path: Path) -> None:
    name, where = "RecdistillRebuildLong", 'instance="distiller"'
    hold(
        tmp_path,
        {
            "input_series": [series("recdistill_rebuild_left", where, "0x10 90000-10x500")],
            "alert_rule_test": [alerts_at(name, 369), alerts_at(name, 375, {"instance": "distiller"})],
        },
        {
            "input_series": [series("recdistill_rebuild_left", where, "0x10 90000-10x300 0x300")],
            "alert_rule_test": [alerts_at(name, 375), alerts_at(name, 600)],
        },
    )

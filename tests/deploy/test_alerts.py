"""The alert rules: every metric that they name is one that a process shows, and both forms of them are the same."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Any

import yaml

from recdistill.hops import HOPS, Counts, passed
from recdistill.loops import distil, join, promote, score
from recdistill.serve.http.metrics import Metrics

ROOT = Path(__file__).resolve().parents[2]
WORKERS = {"scorer": score.run, "joiner": join.run, "distiller": distil.run, "promoter": promote.run}


def rules() -> list[dict[str, Any]]:
    document = yaml.safe_load((ROOT / "deploy/alerts.yml").read_text(encoding="utf-8"))
    [group] = document["groups"]
    return list(group["rules"])


def shown() -> set[str]:
    """Names that processes show: freshness, the ranker's own, and the counts that each loop documents."""
    counts = Counts()
    for hop in HOPS:
        passed(counts, hop, [1_000_000])
    text = "\n".join(counts.lines()) + Metrics(Counter(), lambda: {"ready": 1.0}).text().decode()
    names = {re.split(r"[{ ]", line)[0] for line in text.splitlines() if line and not line.startswith("#")}
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

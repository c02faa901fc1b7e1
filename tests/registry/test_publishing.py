"""What is published: evidence belongs to one content, and the same content keeps its version."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from support.registries import judged, make_bundle

from recdistill.errors import RegistryError

pytestmark = pytest.mark.mlflow


def test_what_did_not_pass_is_a_version_all_the_same(registry, tmp_path):
    bundle = make_bundle(tmp_path / "weak", "weak")
    failed = judged(bundle, passed=False, reasons=["retention .80 is below .95", "parity 1e-2 is above 1e-4"])
    number = registry.publish(bundle, failed).number
    assert registry.find("champion") is None
    assert registry.versions()[0].passed is False
    assert registry.evidence(number) == failed


def test_evidence_is_bound_to_the_content(registry, tmp_path):
    bundle, other = make_bundle(tmp_path / "a", "a"), make_bundle(tmp_path / "b", "b")
    with pytest.raises(RegistryError, match=r"the evidence is about .* judge it"):
        registry.publish(bundle, judged(other))
    assert registry.evidence(registry.publish(bundle, None).number) is None


def test_the_same_content_keeps_its_version_and_gets_the_newer_evidence(registry, tmp_path):
    bundle = make_bundle(tmp_path / "a", "a")
    first = registry.publish(bundle, judged(bundle, passed=False, reasons=["too few lists"]))
    again = registry.publish(bundle, judged(bundle))
    assert again.number == first.number
    assert again.passed is True
    registry.crown(again.number)
    registry.say(again.number, "promoted by ada: -")
    # The champion does not become a candidate, nor lose the reason it was promoted for, by being judged again.
    after = registry.publish(bundle, judged(bundle))
    assert after.aliases == ["champion"]
    assert "promoted by ada" in after.reason


def test_a_file_that_is_shown_later_gets_one_link_beside_the_others(registry, tmp_path):
    bundle = make_bundle(tmp_path / "a", "a")
    report = tmp_path / "report.html"
    report.write_text("<p>report")
    number = registry.publish(bundle, judged(bundle), report=report).number
    page = tmp_path / "canary.html"
    for text in ("<p>goes on", "<p>ended"):
        page.write_text(text)
        registry.show(number, page)
    version = registry._versions.get(number)
    names = re.findall(r"\[(\w+)\]", version.description)
    assert names == ["run", "report", "canary"]
    assert registry.versions()[0].reason.startswith("passed the gate")
    kept = registry._connection.client.download_artifacts(version.run_id, "canary.html", str(tmp_path))
    assert Path(kept).read_text() == "<p>ended"
    with pytest.raises(RegistryError, match="has no version"):
        registry.show("99", page)

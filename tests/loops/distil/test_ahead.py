"""Lists are scored before they are learnt, through the command line and the log; no weight changes by it."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import ndcg_score
from support import world
from support.deaths import killed_again_and_again
from support.distilling import SPEC, STUDENT, assert_same_state, final, more, run, settings
from support.registries import judged
from support.small_shop import Shop, open_shop

from recdistill import checkpoint
from recdistill.bundle import open_bundle
from recdistill.config import LossSettings
from recdistill.hops import Counts
from recdistill.loops.distil import Ahead
from recdistill.loops.follow import Champion
from recdistill.loops.prequential import FILE, Following, Prequential
from recdistill.loops.prequential.opening import InRegistry
from recdistill.loops.trainers import make_trainer
from recdistill.records import Columns, Example, decode
from recdistill.registry import Registry
from recdistill.serve import Recommender, Request
from recdistill.stream import Log
from tools.mlflow_server import new_file


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Shop:
    return open_shop(tmp_path, monkeypatch, capsys)


def ahead(following: Following | None = None) -> Ahead:
    return Ahead(Prequential(share=0.8, window_s=20, labels_within_s=40, half_life=50), following)


@pytest.mark.slow
def test_no_weight_and_nothing_else_of_the_student_changes_by_it(log: Log, tmp_path: Path) -> None:
    run(log, settings(tmp_path / "without"))
    counts = run(log, settings(tmp_path / "with"), ahead=ahead())
    assert counts["prequential_lists"] > 100
    assert counts["prequential_labelled"] > 50
    assert_same_state(tmp_path / "without", tmp_path / "with")
    without, scored = (final(tmp_path / name) for name in ("without", "with"))
    assert without.files["tensors.safetensors"] == scored.files["tensors.safetensors"]
    assert scored.files.keys() - without.files.keys() == {FILE}
    one, two = (open_bundle(next((tmp_path / name / "bundles").iterdir())) for name in ("without", "with"))
    assert one.content_hash == two.content_hash
    assert "prequential" not in one.manifest.provenance
    assert two.manifest.provenance["prequential"] == scored.state["prequential"]


@pytest.mark.slow
def test_the_own_weights_score_a_list_as_they_stand_before_its_step(log: Log, tmp_path: Path) -> None:
    """Held against the students of all checkpoints, asked over the whole catalogue."""
    seen: list[tuple[list[Example], Any]] = []

    class Looks(Prequential):
        def take(self, examples: Columns, weights: Any, champion: Any = None, *, step: int) -> None:
            seen.append(([decode(Example, one) for one in examples.values], weights(np.arange(len(examples)))))

    run(log, settings(tmp_path / "s", checkpoint_every=1, keep=100), ahead=Ahead(Looks(share=1.0)))
    compared = 0
    for step in range(3, len(seen), 5):
        examples, scores = seen[step]
        saved = checkpoint.load(tmp_path / "s" / "checkpoints" / f"step-{step}")
        trainer = make_trainer(SPEC, STUDENT, LossSettings(), seed=0, batch=8)
        trainer.restore(saved.tensors, saved.state["trainer"])
        whole = trainer.score([one.ranking.impression for one in examples])
        for row, one in enumerate(examples):
            for place, candidate in enumerate(one.ranking.impression.candidates):
                slot = trainer.catalogue.slot(candidate.item)
                if slot >= 0:
                    assert scores[row, place] == pytest.approx(whole[row, slot], abs=1e-5)
                    compared += 1
    assert compared > 100


@pytest.mark.slow
def test_a_distiller_that_is_killed_anywhere_ends_with_the_same_rows_champion_included(
    log: Log, tmp_path: Path
) -> None:
    run(log, settings(tmp_path / "first"))
    [path] = (tmp_path / "first" / "bundles").iterdir()
    champion = open_bundle(path)
    registry = Registry(new_file(tmp_path / "mlflow.sqlite"), "student")
    version = registry.publish(champion, judged(champion))
    registry.crown(version.number)
    more(log, 120, seed=7)

    def follows(name: str) -> Ahead:
        found = Champion("student", lambda: registry, tmp_path / f"cache-{name}")
        return ahead(Following(InRegistry(found, lambda: True), every_s=60))

    run(log, settings(tmp_path / "whole"), ahead=follows("whole"))
    chance = random.Random(4)
    killed = killed_again_and_again(
        lambda die: run(log, settings(tmp_path / "killed"), ahead=follows("killed"), progress=die),
        times=6,
        after=lambda: chance.randrange(2, 14),
    )
    run(log, settings(tmp_path / "killed"), ahead=follows("killed"))
    assert killed >= 3
    assert_same_state(tmp_path / "whole", tmp_path / "killed")
    whole, again = (final(tmp_path / name) for name in ("whole", "killed"))
    assert whole.state["prequential"] == again.state["prequential"]
    assert whole.read(FILE) == again.read(FILE)
    rows = whole.state["prequential"]["rows"]
    with_it = [row for row in rows if "champion" in row["agreement"]]
    assert with_it
    assert with_it != rows  # not on what it has learnt itself


@pytest.mark.slow
def test_the_champion_that_serves_is_scored_as_it_serves_and_status_and_metrics_tell(shop: Shop) -> None:
    shop.write(lists=60)
    shop("score --drain")
    shop("join --flush")
    shop("distil --drain --set prequential.share=1")
    bundle = shop.learnt("student")
    registry = Registry(new_file(Path("recdistill-data/mlflow.sqlite")), "recdistill-student")
    version = registry.publish(bundle, judged(bundle))
    registry.crown(version.number)
    lists = world.impressions(120)[60:]
    shop.take_in("new-item", "items", [world.items(21)[20]])
    shop.arrive("more", lists, world.feedback(lists))
    shop("join --flush")
    before = len(shop.read("examples"))
    shop("distil --drain --set prequential.share=1 --set distil.publish=true")
    found = shop.json("status")["student"]["prequential"]["now"]
    # The same by hand: the bundle, opened again, orders the labelled lists that came behind it.
    recommender, values = Recommender(bundle), []
    examples = [decode(Example, message.value) for message in shop.read("examples")][60:before]
    for example in examples:
        shown = example.ranking.impression
        if not any(example.labels):
            continue
        items = [candidate.item for candidate in shown.candidates]
        asked = Request(history=shown.history, context=shown.context, time_us=shown.time_us)
        answer = recommender.rank(asked, items)
        given = dict(zip(answer.items, answer.scores, strict=True))
        values.append(ndcg_score([example.labels], [[given[item] for item in items]], k=10))
    assert len(values) > 20
    assert found["ndcg"]["champion"]["n"] == len(values)
    assert found["ndcg"]["champion"]["mean"] == pytest.approx(np.mean(values), abs=1e-6)
    assert found["ndcg"]["weights"]["n"] > len(values)  # it scored the first sixty lists too
    text = shop("status")
    [line] = [one for one in text.splitlines() if one.startswith("what came next")]
    assert "lists before they were learnt: champion" in line
    assert "the trainer's weights" in line
    assert "Kendall's τ with the teacher" in line


def test_prometheus_is_told(log: Log, tmp_path: Path) -> None:
    counts = Counts()
    run(log, settings(tmp_path / "s"), ahead=ahead(), counts=counts)
    text = "\n".join(counts.lines())
    assert 'recdistill_prequential_ndcg10{line="teacher",lists="learnt"} ' in text
    assert 'recdistill_prequential_ndcg10_low{line="weights",lists="learnt"} ' in text
    assert 'recdistill_freshness_seconds_count{hop="learnt"}' in text


@pytest.mark.slow
def test_later_passes_are_not_scored(log: Log, tmp_path: Path) -> None:
    once = run(log, settings(tmp_path / "one"), ahead=ahead())
    twice = run(log, settings(tmp_path / "two", passes=2), ahead=ahead())
    assert twice["examples"] == 2 * once["examples"]
    assert twice["prequential_lists"] == once["prequential_lists"]


@pytest.mark.slow
def test_it_can_be_turned_off_and_on_again(log: Log, tmp_path: Path) -> None:
    run(log, settings(tmp_path / "s"), ahead=ahead())
    more(log, 20, seed=3)
    run(log, settings(tmp_path / "s"))
    assert FILE not in final(tmp_path / "s").files
    more(log, 20, seed=4)
    counts = run(log, settings(tmp_path / "s"), ahead=ahead())
    assert 0 < counts["prequential_lists"] <= 20
    assert json.dumps(final(tmp_path / "s").state["prequential"])

"""Exported bundles against the torch student that they came from, and the figures that an export reports."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from recdistill.bundle import Bundle
from recdistill.bundle.build import export
from recdistill.config import LossSettings, StudentSettings
from recdistill.device import Device, export_device
from recdistill.errors import BundleError, DataError
from recdistill.features import Catalogue, FeatureSpec
from recdistill.loops.trainers import make_trainer
from recdistill.records import Candidate, Event, Example, Impression, Item, Ranking
from recdistill.serve import Recommender, Request
from recdistill.train import Trainer
from recdistill.train.answers import vectors_of
from references.students import make_item, make_requests, make_student, rich_spec


@pytest.fixture(scope="module")
def trainer() -> Trainer:
    """A student that has learnt a little from random lists, so that no weight is at its first value."""
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    trainer = make_trainer(rich_spec(), StudentSettings(dim=8, hidden=16), LossSettings(), seed=3)
    trainer.apply_items([make_item(i, rng) for i in range(60)])
    ids = [f"item-{i}" for i in range(60)]
    for step in range(30):
        examples = []
        for request in make_requests(make_student(), 16, seed=step):
            chosen = rng.choice(60, size=5, replace=False)
            candidates = tuple(Candidate(ids[c]) for c in chosen)
            asked = Impression(
                request.id, request.time_us, history=request.history, context=request.context, candidates=candidates
            )
            scores = tuple(float(s) for s in rng.normal(size=5) + chosen / 20)
            ranking = Ranking(asked, "t", "1", "logit", scores, (True,) * 5)
            examples.append(Example(ranking, (1.0, 0.0, 0.0, 0.0, 0.0), "closed"))
        trainer.learn(trainer.encode(examples))
    return trainer


@pytest.fixture(scope="module")
def bundle(trainer: Trainer, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return _export(trainer, tmp_path_factory.mktemp("bundles") / "one")


def _export(trainer: Trainer, out: Path) -> Bundle:
    return export(
        trainer.weights(),
        trainer.spec,
        trainer.vocabulary,
        trainer.catalogue,
        out,
        provenance={"step": trainer.step},
        popular=[("item-1", 1.0)],
        base_position=60,
        golden_requests=make_requests(make_student(), 10),
    )


@pytest.mark.slow
def test_the_bundle_scores_as_torch_does(trainer: Trainer, bundle: Bundle) -> None:
    requests = make_requests(make_student(), 80, seed=99)
    recommender = Recommender(bundle)
    recommender.check_golden()
    slots = trainer.catalogue.slots(recommender.ids)
    difference = np.abs(recommender.score_all(requests) - trainer.score(requests, slots)).max()
    assert difference < 1e-4
    assert bundle.manifest.provenance["measured"]["parity_max_abs"] < 1e-4


def test_a_new_item_scores_as_torch_would_score_it(trainer: Trainer, bundle: Bundle) -> None:
    """In the overlay an item has no row of its own; in torch it is the same item with its hashed row."""
    rng = np.random.default_rng(8)
    fresh = [Item(f"fresh-{i}", attributes=make_item(i, rng).attributes) for i in range(20)]
    recommender = Recommender(bundle)
    assert recommender.apply_items(fresh, 80)["changed"] == 20
    catalogue = Catalogue(trainer.spec, trainer.vocabulary)
    for item in fresh:
        catalogue.apply(item, admit=False)
    encoded = catalogue.encoded()
    with torch.no_grad():
        items = trainer.student.items(encoded, encoded.id_rows_N)
    requests = make_requests(make_student(), 20, seed=4)
    expected = vectors_of(trainer, requests)[0] @ items.vectors_UD.numpy().T + items.biases_U.numpy()
    np.testing.assert_allclose(recommender.score_all(requests)[:, -20:], expected, atol=1e-4)


def test_int8_figures_are_those_of_the_device(bundle: Bundle, tmp_path: Path) -> None:
    """What the export says of int8 on its golden requests is what the device file does with them."""
    export_device(bundle, tmp_path / "d.onnx")
    device, recommender = Device.open(tmp_path / "d.onnx"), Recommender(bundle)
    worst, shared = 0.0, []
    for golden in bundle.golden:
        items, scores = device.recommend(
            [e.item for e in golden.history],
            actions=[e.action for e in golden.history],
            times_us=[e.time_us for e in golden.history],
            time_us=golden.time_us,
            context=golden.context,
            k=len(bundle.items),
        )
        true = dict(zip(recommender.ids, recommender.score_all([golden])[0], strict=True))
        worst = max(worst, *(abs(s - float(true[i])) for i, s in zip(items, scores, strict=True)))
        shared.append(len(set(items[:10]) & set(golden.items)) / 10)
    measured = bundle.manifest.provenance["measured"]
    scale = float(np.abs(recommender.score_all([bundle.golden[0]])).max())
    # The device rounds the user vector too (14 bits), and a history weight (float16).
    assert measured["int8_score_max_abs"] == pytest.approx(worst, abs=2e-3 * scale)
    assert measured["int8_overlap_10"] == pytest.approx(np.mean(shared), abs=0.1)


def test_a_trained_student_exports_the_same_bytes_twice(trainer: Trainer, bundle: Bundle, tmp_path: Path) -> None:
    again = _export(trainer, tmp_path / "again")
    assert again.content_hash == bundle.content_hash
    export_device(bundle, tmp_path / "a.onnx")
    export_device(again, tmp_path / "b.onnx")
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()


def test_golden_requests_default_to_a_stranger(trainer: Trainer, tmp_path: Path) -> None:
    student = make_student(20)
    bundle = student.export(tmp_path / "b")
    assert [g.history for g in bundle.golden] == [()]
    answer = Recommender(bundle).recommend([Request()], 10)[0]
    assert tuple(answer.items) == bundle.golden[0].items  # without a popular list


def test_golden_requests_keep_only_the_context_that_counts(tmp_path: Path) -> None:
    context = {"hour": "noon", "device": "phone", "secret": "x"}
    requests = [Impression("a", 0), Impression("b", 0, context=context), Impression("c", 0, context={"hour": 3.0})]
    bundle = make_student(20).export(tmp_path / "b", golden_requests=requests)
    assert [g.context for g in bundle.golden] == [{}, {"device": "phone"}, {"hour": 3.0}]
    Recommender(bundle).check_golden()


def test_what_cannot_be_exported_is_said(trainer: Trainer, bundle: Bundle, tmp_path: Path) -> None:
    student = make_student(10)
    for item in student.catalogue.ids:
        student.catalogue.apply(Item(item, version=5, withdrawn=True), admit=True)
    with pytest.raises(DataError, match="no live item"):
        student.export(tmp_path / "x")
    with pytest.raises(BundleError, match="is there already"):
        _export(trainer, bundle.path)
    (tmp_path / "file").write_text("")
    with pytest.raises(BundleError, match="cannot be written"):
        export_device(bundle, tmp_path / "file" / "d.onnx")
    spec = FeatureSpec.from_dict({"context": {"query": {"kind": "text"}}})
    texty = make_student(10, spec=spec).export(tmp_path / "texty")
    with pytest.raises(DataError, match=r"context field 'query' is text, which a device file cannot hash"):
        export_device(texty, tmp_path / "d.onnx")


def test_rows_and_slots_that_were_given_back_are_left_out(tmp_path: Path) -> None:
    """Scores of all other items are those of a student of which nothing was released."""
    student, whole = make_student(40), make_student(40)
    student.catalogue.release("item-7")
    student.vocabulary.release("context.device", "desk")
    before = Recommender(whole.export(tmp_path / "before"))
    bundle = student.export(tmp_path / "after")
    assert bundle.vocabulary.snapshot()["id"].count(None) == 1
    assert bundle.vocabulary.hash == student.vocabulary.hash != whole.vocabulary.hash
    assert bundle.content_hash == student.export(tmp_path / "again").content_hash
    recommender = Recommender(bundle)
    recommender.check_golden()
    requests = [Request((Event("item-3"), Event("item-11")), {"device": "phone"}, time_us=0)]
    ours, theirs = (
        dict(zip(one.ids, one.score_all(requests)[0].tolist(), strict=True)) for one in (recommender, before)
    )
    del theirs["item-7"]
    assert ours == pytest.approx(theirs, abs=1e-5)
    # What the device knows no more is unknown to it, as to the recommender.
    export_device(bundle, tmp_path / "d.onnx")
    device = Device.open(tmp_path / "d.onnx")
    assert device.recommend(["item-3"], context={"device": "desk"}) == device.recommend(
        ["item-3"], context={"device": "never"}
    )
    assert device.recommend(["item-3"], context={"device": "tv"}) != device.recommend(
        ["item-3"], context={"device": "never"}
    )

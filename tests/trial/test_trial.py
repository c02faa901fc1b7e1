"""The trial of artefacts: good ones pass, each planted fault is refused, and nothing runs on for ever."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path

import numpy as np
import psutil
import pytest
from support import spoilt

from recdistill.bundle import Bundle, build_index
from recdistill.bundle import build as building
from recdistill.device import export_device
from recdistill.errors import BundleError, Interrupted
from recdistill.trial import Bounds, answers, towers, tried
from recdistill.trial.device import check_device
from references.students import Student, make_requests, make_student


@pytest.fixture(scope="module")
def student() -> Student:
    return make_student()


@pytest.fixture(scope="module")
def bundle(student: Student, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return student.export(tmp_path_factory.mktemp("good") / "one", golden_requests=make_requests(student, 20))


@pytest.fixture(scope="module")
def indexed(tmp_path_factory: pytest.TempPathFactory) -> list[Bundle]:
    """Two versions of one student, with an index each: the weights of the second have moved a little."""
    place, made = tmp_path_factory.mktemp("indexed"), []
    patch = pytest.MonkeyPatch()
    patch.setattr(building, "build_index", partial(build_index, exact_below=100))
    for version in range(2):
        student = make_student(2_000)
        weights = student.weights
        if version:
            random = np.random.default_rng(9)
            weights = {name: (w + random.normal(0, 0.05, w.shape)).astype(np.float32) for name, w in weights.items()}
        made.append(
            student._replace(weights=weights).export(place / str(version), golden_requests=make_requests(student, 20))
        )
    patch.undo()
    assert all(one.index is not None for one in made)
    return made


def trials(path: Path) -> list[psutil.Process]:
    """The processes that try a bundle now."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            words = process.cmdline()
            if "recdistill.trial" in words and any(str(path) in word for word in words):
                found.append(process)
    return found


def checked(bundle: Bundle) -> None:
    """What the process asks, in this process."""
    towers.check_items(bundle, 20_000)
    towers.check_users(bundle)
    answers.check_index(bundle)
    answers.check_requests(bundle)
    answers.check_overlay(bundle)


@pytest.mark.slow
def test_a_good_bundle_and_its_device_file_pass_in_a_process_of_their_own(bundle: Bundle, tmp_path: Path) -> None:
    export_device(bundle, tmp_path / "device.onnx")
    tried(bundle.path, content_hash=bundle.content_hash, device=tmp_path / "device.onnx")
    with pytest.raises(BundleError, match="is bundle .*, not 000000000000"):
        tried(bundle.path, content_hash="0" * 64)


@pytest.mark.slow
def test_good_bundles_pass(bundle: Bundle, indexed: list[Bundle]) -> None:
    for one in (bundle, *indexed):
        checked(one)


@pytest.mark.parametrize("seed", range(4))
def test_other_students_pass(seed: int, tmp_path: Path) -> None:
    """Of one item, without golden requests, with other sizes."""
    student = make_student((1, 2, 7, 300)[seed], dim=3 + seed, seed=seed)
    bundle = student.export(tmp_path / "one")
    checked(bundle)
    export_device(bundle, tmp_path / "device.onnx")
    check_device(bundle, tmp_path / "device.onnx")


@pytest.mark.parametrize(
    ("file", "nodes", "said"),
    [
        ("user_tower.onnx", spoilt.not_a_number, "not finite"),
        ("item_tower.onnx", spoilt.not_a_number, "not finite"),
        ("user_tower.onnx", spoilt.wider, "shape"),
        ("item_tower.onnx", spoilt.wider, "shape"),
    ],
)
def test_towers_that_answer_garbage_are_refused(
    bundle: Bundle, tmp_path: Path, file: str, nodes: spoilt.Nodes, said: str
) -> None:
    graph = spoilt.tower((bundle.path / file).read_bytes(), nodes)
    bad = spoilt.resealed(bundle, tmp_path / "bad", {file: graph})
    with pytest.raises(BundleError, match=said) as refused:
        checked(bad)
    assert file in str(refused.value)


@pytest.mark.slow
@pytest.mark.parametrize("file", ["user_tower.onnx", "item_tower.onnx"])
def test_a_tower_that_never_ends_is_ended(bundle: Bundle, tmp_path: Path, file: str) -> None:
    graph = spoilt.tower((bundle.path / file).read_bytes(), spoilt.without_end)
    bad = spoilt.resealed(bundle, tmp_path / "bad", {file: graph})
    step = file.removesuffix(".onnx").replace("_", " ")
    with pytest.raises(BundleError, match=f"did not end within 3 s of processor time.*the {step}"):
        tried(bad.path, content_hash=bad.content_hash, bounds=Bounds(cpu_s=3))


@pytest.mark.slow
def test_a_tower_that_takes_all_memory_is_refused(bundle: Bundle, tmp_path: Path) -> None:
    graph = spoilt.tower(bundle.user_tower, spoilt.greedy)
    bad = spoilt.resealed(bundle, tmp_path / "bad", {"user_tower.onnx": graph})
    with pytest.raises(BundleError, match="tried in a separate process"):
        tried(bad.path, content_hash=bad.content_hash, bounds=Bounds(memory_mb=1024))


@pytest.mark.parametrize("key", ["id", "item.genres"])
def test_a_wrong_row_of_the_vocabulary_is_found(bundle: Bundle, tmp_path: Path, key: str) -> None:
    """Two values have each other's row: an id, and a value of an attribute."""
    one, other = [value for value in bundle.vocabulary.snapshot()[key] if value][:2]
    bad = spoilt.with_rows(bundle, tmp_path / "bad", key, one, other)
    with pytest.raises(BundleError, match="another vector than the bundle holds"):
        checked(bad)


def test_an_index_of_another_version_is_found(indexed: list[Bundle], tmp_path: Path) -> None:
    """The versions are so near that the other's index finds nearly the same items."""
    one, other = indexed
    assert other.index is not None
    assert one.manifest.content.index.lists == other.manifest.content.index.lists
    bad = spoilt.resealed(one, tmp_path / "bad", {"index.faiss": other.index})
    with pytest.raises(BundleError, match="index of another version"):
        checked(bad)


def test_vectors_of_another_version_are_found(indexed: list[Bundle], tmp_path: Path) -> None:
    one, other = indexed
    bad = spoilt.resealed(one, tmp_path / "bad", {"vectors.npy": (other.path / "vectors.npy").read_bytes()})
    with pytest.raises(BundleError, match="another vector than the bundle holds"):
        checked(bad)


def test_the_device_file_of_another_bundle_is_refused(student: Student, bundle: Bundle, tmp_path: Path) -> None:
    other = make_student(seed=3).export(tmp_path / "other", golden_requests=make_requests(student, 20))
    export_device(other, tmp_path / "device.onnx")
    with pytest.raises(BundleError, match="comes from bundle"):
        check_device(bundle, tmp_path / "device.onnx")


def test_a_device_file_with_other_weights_is_refused(bundle: Bundle, tmp_path: Path) -> None:
    """It says that it comes from this bundle, and holds the user tower of another student."""
    import dataclasses

    other = make_student(seed=3).export(tmp_path / "other")
    export_device(dataclasses.replace(bundle, user_tower=other.user_tower), tmp_path / "device.onnx")
    with pytest.raises(BundleError, match="golden request .* from those of the bundle"):
        check_device(bundle, tmp_path / "device.onnx")


@pytest.mark.slow
def test_a_trial_ends_when_it_is_told_to_and_leaves_nothing_behind(bundle: Bundle, tmp_path: Path) -> None:
    graph = spoilt.tower(bundle.item_tower, spoilt.without_end)
    bad = spoilt.resealed(bundle, tmp_path / "bad", {"item_tower.onnx": graph})
    stop, began = threading.Event(), time.monotonic()
    threading.Timer(1.0, stop.set).start()
    with pytest.raises(Interrupted):
        tried(bad.path, content_hash=bad.content_hash, stop=stop.is_set)
    assert time.monotonic() - began < 30
    assert not trials(bad.path)


@pytest.mark.slow
def test_a_trial_whose_parent_is_killed_ends(bundle: Bundle, tmp_path: Path) -> None:
    graph = spoilt.tower(bundle.item_tower, spoilt.without_end)
    bad = spoilt.resealed(bundle, tmp_path / "bad", {"item_tower.onnx": graph})
    code = (
        "import sys; from pathlib import Path; from recdistill.trial import tried; "
        "tried(Path(sys.argv[1]), content_hash=sys.argv[2])"
    )
    command = [sys.executable, "-c", code, str(bad.path), bad.content_hash]
    parent = subprocess.Popen(command, env=os.environ, cwd=Path(__file__).parents[2])
    deadline = time.monotonic() + 60
    try:
        while not trials(bad.path):
            assert time.monotonic() < deadline
            time.sleep(0.05)
    finally:
        parent.kill()
        parent.wait()
    while trials(bad.path):
        assert time.monotonic() < deadline, "the process of the trial runs on"
        time.sleep(0.05)


def test_the_process_does_not_load_torch() -> None:
    code = (
        "import sys; import recdistill.trial.__main__, recdistill.trial.answers, recdistill.trial.towers, "
        "recdistill.trial.device; print('torch' in sys.modules, 'mlflow' in sys.modules)"
    )
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2]
    )
    assert found.stdout.split() == ["False", "False"]

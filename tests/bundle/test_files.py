"""A bundle that was changed in any way is refused; the same content has the same bytes."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from support import spoilt

from recdistill.bundle import Bundle, diff, open_bundle, write_bundle
from recdistill.bundle.manifest import FILES, Content, make_manifest, read_manifest, write_manifest
from recdistill.errors import BundleError
from recdistill.records import Item, decode, encode
from recdistill.sealed import Seal, entry_of
from references.students import Student, make_requests, make_student


@pytest.fixture(scope="module")
def student() -> Student:
    return make_student()


@pytest.fixture(scope="module")
def bundle(student: Student, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return student.export(
        tmp_path_factory.mktemp("bundles") / "one",
        golden_requests=make_requests(student, 3),
        popular=[("item-3", 2.0), ("item-4", 1.0)],
        provenance={"made_at": "2026-01-01", "positions": {"lanes": [1, 2]}},
    )


@pytest.fixture
def copy(bundle: Bundle, tmp_path: Path) -> Path:
    return Path(shutil.copytree(bundle.path, tmp_path / "copy"))


def parts(bundle: Bundle, **changes: Any) -> dict[str, Any]:
    """What `write_bundle` was given."""
    content = bundle.manifest.content
    return {
        "spec": bundle.spec,
        "vocabulary": bundle.vocabulary,
        "items": bundle.items,
        "vectors_NW": bundle.vectors_NW,
        "user_tower": bundle.user_tower,
        "item_tower": bundle.item_tower,
        "opsets": content.opsets,
        "index": bundle.index,
        "index_info": content.index,
        "popular": bundle.popular,
        "golden": bundle.golden,
        "base_position": content.base_position,
        "provenance": bundle.manifest.provenance,
    } | changes


def test_what_was_written_is_what_is_read(student: Student, bundle: Bundle) -> None:
    items = [student.catalogue.item(s) for s in np.flatnonzero(student.catalogue.live_N)]
    live = [decode(Item, encode(item)) for item in items]  # the wire has 32-bit floats in its vectors
    assert bundle.items == live
    assert bundle.spec == student.spec
    assert bundle.vocabulary.snapshot() == student.vocabulary.snapshot()
    assert bundle.popular == [("item-3", 2.0)]  # item-4 is withdrawn
    assert [g.history for g in bundle.golden] == [r.history for r in make_requests(student, 3)]
    assert bundle.vectors_NW.shape == (len(live), 10)
    assert not bundle.vectors_NW.flags.writeable
    assert bundle.manifest.provenance["positions"] == {"lanes": [1, 2]}
    assert sorted(p.name for p in bundle.path.iterdir()) == sorted([*FILES, "manifest.json"])
    assert bundle.size == sum(p.stat().st_size for p in bundle.path.iterdir() if p.name != "manifest.json")
    restored = bundle.quantised_ND * bundle.scales_N.astype(np.float64)[:, None]
    error = np.abs(restored - bundle.vectors_NW[:, :-2]).max()
    assert bundle.manifest.content.int8_max_abs_error == pytest.approx(error, rel=1e-5)


@pytest.mark.slow
def test_same_content_has_the_same_bytes_in_any_process(student: Student, bundle: Bundle, tmp_path: Path) -> None:
    code = (
        "import sys; sys.path[:0] = sys.argv[2:]; from pathlib import Path\n"
        "from references.students import make_student, make_requests\n"
        "s = make_student()\n"
        "s.export(Path(sys.argv[1]), golden_requests=make_requests(s, 3), popular=[('item-3', 2.0), ('item-4', 1.0)],"
        " provenance={'made_at': 'another day', 'run': 'x'})\n"
    )
    root = Path(__file__).parents[2]
    for seed in ("1", "2"):
        out = tmp_path / seed
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        subprocess.run(
            [sys.executable, "-c", code, str(out), str(root), str(root / "tests")], env=environment, check=True
        )
        for name in FILES:
            assert (out / name).read_bytes() == (bundle.path / name).read_bytes(), name
        other = open_bundle(out)
        assert other.content_hash == bundle.content_hash
        assert other.manifest.provenance != bundle.manifest.provenance
        assert diff(bundle, other) == {"same": True, "added": [], "gone": [], "changed": [], "moved": 0.0, "files": []}


@pytest.mark.parametrize("name", [*FILES, "manifest.json"])
def test_any_flipped_byte_is_refused(copy: Path, name: str) -> None:
    whole = (copy / name).read_bytes()
    for at in sorted({*np.linspace(0, len(whole) - 1, 12).astype(int)}):
        for bit in (0, 3, 7):
            broken = bytearray(whole)
            broken[at] ^= 1 << bit
            (copy / name).write_bytes(broken)
            with pytest.raises(BundleError):
                open_bundle(copy)
    for length in (0, 1, len(whole) // 2, len(whole) - 1):
        (copy / name).write_bytes(whole[:length])
        with pytest.raises(BundleError):
            open_bundle(copy)
    (copy / name).write_bytes(whole + b"\n")
    with pytest.raises(BundleError):
        open_bundle(copy)
    (copy / name).unlink()
    with pytest.raises(BundleError, match=r"is missing|no bundle here"):
        open_bundle(copy)


def test_every_flipped_bit_of_the_manifest_is_refused(bundle: Bundle) -> None:
    whole = (bundle.path / "manifest.json").read_bytes()
    assert read_manifest(whole, source="m") == bundle.manifest
    for at in range(len(whole)):
        for bit in (0, 2, 5, 7):
            broken = bytearray(whole)
            broken[at] ^= 1 << bit
            with pytest.raises(BundleError):
                read_manifest(bytes(broken), source="m")


def test_links_pipes_folders_and_strangers_are_refused(bundle: Bundle, copy: Path) -> None:
    def refused(why: str) -> None:
        with pytest.raises(BundleError, match=why):
            open_bundle(copy)

    (copy / "notes.txt").write_text("hello")
    refused(r"notes.txt: is not named by manifest.json; remove it")
    (copy / "notes.txt").unlink()
    (copy / "index.faiss").write_bytes(b"")
    refused(r"index.faiss: is not named by manifest.json")
    (copy / "index.faiss").unlink()
    (copy / "scales.npy").unlink()
    (copy / "scales.npy").symlink_to(bundle.path / "scales.npy")
    refused("is a link")
    (copy / "scales.npy").unlink()
    (copy / "scales.npy").mkdir()
    refused("is not a plain file|cannot be read")
    (copy / "scales.npy").rmdir()
    os.mkfifo(copy / "scales.npy")
    refused("is not a plain file")


def rewrite(bundle: Bundle, copy: Path, **content: Any) -> None:
    """A manifest with other content and true hashes: what a forger could make."""
    tree = json.loads((bundle.path / "manifest.json").read_text())
    tree["content"] |= content
    made = make_manifest(msgspec.convert(tree["content"], Content), tree["provenance"])
    (copy / "manifest.json").write_bytes(write_manifest(made))


def test_a_forged_manifest_must_still_fit_its_files(bundle: Bundle, copy: Path) -> None:
    files = json.loads((copy / "manifest.json").read_text())["content"]["files"]
    wrong: list[dict[str, Any]] = [
        {"items": 1},
        {"items": 2**31 - 1},
        {"dim": 7},
        {"dim": 4096},
        {"features_hash": "0" * 64},
        {"vocab_hash": "0" * 64},
        {"popular": 2},
        {"golden": 0},
        {"index": {"kind": "ivf_sq8"}},
        {"files": {name: entry for name, entry in files.items() if name != "golden.json"}},
        {"files": files | {"index.faiss": files["golden.json"]}},
        {"files": files | {"scales.npy": files["scales.npy"] | {"size": 2**53}}},
    ]
    for change in wrong:
        rewrite(bundle, copy, **change)
        with pytest.raises(BundleError):
            open_bundle(copy)
    rewrite(bundle, copy, base_position=5)
    assert open_bundle(copy).content_hash != bundle.content_hash


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"format": 1', b'"format": 2'),
        (b'"format": 1', b'"format": 1e0'),
        (b'"items": 53', b'"items": -1'),
        (b'"items": 53', b'"items": 1' + b"0" * 400),
        (b'"items": 53', b'"items": 1' + b"0" * 5000),
        (b'"items": 53', b'"items": 53, "more": 0'),
        (b'"items": 53', b'"items": 53, "items": 53'),
        (b'"scales.npy"', b'"../scales.npy"'),
        (b'"scales.npy"', b'"/etc/passwd"'),
        (b'"scales.npy"', b'"scales.npy\\u0000"'),
        (b'"recall": 1.0', b'"recall": NaN'),
        (b'"recall": 1.0', b'"recall": 1e999'),
        (b'"provenance": {', b'"provenance": {"a": ' + b"[" * 100_000),
        (b"{", b"\xff{"),
        (b"{", b" " * (5 << 20) + b"{"),
    ],
)
def test_a_hostile_manifest_is_refused(copy: Path, old: bytes, new: bytes) -> None:
    whole = (copy / "manifest.json").read_bytes()
    assert old in whole
    (copy / "manifest.json").write_bytes(whole.replace(old, new, 1))
    with pytest.raises(BundleError, match=r"manifest.json"):
        open_bundle(copy)


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("popular.json", [["item-3", 2.0], ["item-3", 1.0]]),
        ("golden.json", {"scores": [1.0]}),
        ("golden.json", {"items": ["item-3"] * 10}),
    ],
)
def test_lists_that_no_answer_could_be_are_refused(bundle: Bundle, tmp_path: Path, name: str, data: Any) -> None:
    """An answer would hold an item twice, and a golden answer could not be compared."""
    if isinstance(data, dict):
        first, *others = json.loads((bundle.path / name).read_bytes())
        data = [first | data, *others]
    with pytest.raises(BundleError, match="the popular list or the golden answers do not fit the items"):
        spoilt.resealed(bundle, tmp_path / "odd", {name: msgspec.json.encode(data, order="sorted")})


def test_arrays_from_outside_are_never_unpickled(bundle: Bundle, copy: Path) -> None:
    import hashlib

    for array in (np.array([{"a": 1}], dtype=object), np.zeros((53, 10)), np.asfortranarray(bundle.vectors_NW)):
        np.save(copy / "vectors.npy", array, allow_pickle=True)
        data = (copy / "vectors.npy").read_bytes()
        files = json.loads((copy / "manifest.json").read_text())["content"]["files"]
        files["vectors.npy"] = {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        rewrite(bundle, copy, files=files)
        with pytest.raises(BundleError, match=r"vectors.npy: holds .* expected float32 \(53, 10\)"):
            open_bundle(copy)


def test_writing_is_whole_or_not_at_all(bundle: Bundle, tmp_path: Path) -> None:
    vectors = np.array(bundle.vectors_NW)
    vectors[3, 9] = np.nan
    wrong: list[dict[str, Any]] = [
        {"vectors_NW": vectors},
        {"items": [*bundle.items[:-1], bundle.items[0]]},
        {"items": [*bundle.items[:-1], Item("x", withdrawn=True)]},
        {"popular": [("nobody", 1.0)]},
        {"items": bundle.items[:-1]},
        {"provenance": {"x": object()}},
    ]
    for change in wrong:
        with pytest.raises(BundleError):
            write_bundle(tmp_path / "deep" / "out", **parts(bundle, **change))
        assert not list((tmp_path / "deep").iterdir()) if (tmp_path / "deep").exists() else True
    again = write_bundle(tmp_path / "deep" / "out", **parts(bundle))
    assert (again.content_hash, again.path) == (bundle.content_hash, tmp_path / "deep" / "out")
    with pytest.raises(BundleError, match="is there already"):
        write_bundle(tmp_path / "deep" / "out", **parts(bundle))


def test_diff_names_what_changed(bundle: Bundle, tmp_path: Path) -> None:
    items = [Item(bundle.items[0].id, version=9), *bundle.items[1:-1], Item("new")]
    vectors = np.array(bundle.vectors_NW)
    vectors[2, 1] += 0.25
    golden = [g for g in bundle.golden if bundle.items[-1].id not in g.items]
    other = write_bundle(tmp_path / "other", **parts(bundle, items=items, vectors_NW=vectors, golden=golden))
    found = diff(bundle, other)
    assert (found["same"], found["added"], found["gone"]) == (False, ["new"], [bundle.items[-1].id])
    assert found["changed"] == [bundle.items[0].id]
    assert found["moved"] == pytest.approx(0.25)
    assert {"items.bin", "vectors.npy"} <= set(found["files"])
    narrow = dataclasses.replace(
        bundle,
        manifest=msgspec.structs.replace(
            bundle.manifest, content=msgspec.structs.replace(bundle.manifest.content, dim=4)
        ),
    )
    assert diff(bundle, narrow)["moved"] is None


@pytest.mark.parametrize("where", ["content", "beside"])
def test_a_file_that_the_manifest_names_may_join(bundle: Bundle, copy: Path, where: str) -> None:
    (copy / "signature.ed25519").write_bytes(b"signed")
    with pytest.raises(BundleError, match=r"signature.ed25519: is not named by manifest.json"):
        open_bundle(copy)
    entry = entry_of(b"signed")
    content = bundle.manifest.content
    if where == "content":
        content = msgspec.structs.replace(content, files={**content.files, "signature.ed25519": entry})
    manifest = make_manifest(content, bundle.manifest.provenance)
    if where == "beside":
        manifest = msgspec.structs.replace(manifest, beside={"signature.ed25519": entry})
    (copy / "manifest.json").write_bytes(write_manifest(manifest))
    opened = open_bundle(copy)
    assert opened.read("signature.ed25519") == b"signed"
    assert (opened.content_hash == bundle.content_hash) == (where == "beside")
    assert opened.size == bundle.size + 6
    with pytest.raises(BundleError, match="names no file 'delta.bin'"):
        opened.read("delta.bin")
    for damage in (b"forged", b"longer than it was"):
        (copy / "signature.ed25519").write_bytes(damage)
        with pytest.raises(BundleError, match=r"signature.ed25519: (is not the file|has 18 bytes)"):
            open_bundle(copy)
    (copy / "signature.ed25519").unlink()
    with pytest.raises(BundleError, match=r"signature.ed25519: is missing"):
        open_bundle(copy)
    (copy / "signature.ed25519").symlink_to(bundle.path / "scales.npy")
    with pytest.raises(BundleError, match="is a link"):
        open_bundle(copy)


def test_a_file_is_named_once(bundle: Bundle, copy: Path) -> None:
    manifest = msgspec.structs.replace(bundle.manifest, beside={"items.bin": bundle.manifest.files["items.bin"]})
    (copy / "manifest.json").write_bytes(write_manifest(manifest))
    with pytest.raises(BundleError, match=r"manifest.json: must name each file once"):
        open_bundle(copy)


def test_what_is_written_need_not_be_read_again(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bundle that `write_bundle` hands out is the one that a reader would open; it reads no file for it."""

    def read(*_: Any) -> Any:
        raise AssertionError("a file was verified")

    with monkeypatch.context() as patch:
        patch.setattr(Seal, "_check", read)
        made = write_bundle(tmp_path / "made", **parts(bundle))
    opened = open_bundle(tmp_path / "made")
    for field in dataclasses.fields(Bundle):
        mine, theirs = getattr(made, field.name), getattr(opened, field.name)
        if isinstance(mine, np.ndarray):
            assert np.array_equal(mine, theirs)
            assert (mine.dtype, mine.flags.writeable) == (theirs.dtype, False)
        elif field.name == "vocabulary":
            assert mine.snapshot() == theirs.snapshot()
            assert mine is not bundle.vocabulary  # a trainer's goes on growing
        else:
            assert mine == theirs, field.name


def test_the_leftovers_of_killed_exports_are_swept(
    bundle: Bundle, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in (".step-0000000001-ab_c12x9", ".step-0000000001.0a1b2c3d.part"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "vectors.npy").write_bytes(b"half")
    mine = tmp_path / ".step-by-step"
    mine.mkdir()
    write_bundle(tmp_path / "step-0000000002", **parts(bundle))
    assert sorted(path.name for path in tmp_path.iterdir()) == [".step-by-step", "step-0000000002"]
    assert ".step-0000000001-ab_c12x9: swept" in caplog.text

"""A path on the command line, or in the settings, may lead to a pipe, a device or a film: one sentence, and at once."""

from __future__ import annotations

import os
import resource
from pathlib import Path

import pytest

from recdistill.cli import main

pytestmark = pytest.mark.e2e

HTTP = "--set teacher.kind=http --set teacher.http.url=https://127.0.0.1:9"
TYPED = {
    "recommend --device odd A": 6,
    "recommend --bundle odd A": 6,
    "recommend --request odd": 3,
    "evaluate odd": 6,
    "publish odd": 6,
    "export odd": 6,
    "inspect odd": 3,
    "import odd --check": 3,
    "import odd --kind feedback": 3,
    "import data.csv --check --mapping odd": 2,
    "import data.csv --earlier odd --kind interactions": 3,
    "import ml --check": 3,
    "init odd": 3,
    "settings --config odd": 2,
    "recipes odd": 2,
    "dead-letters send odd": 3,
    "keys list": 2,
    "topics list --set log.path=odd": 4,
    "distil --drain --set features.file=odd": 2,
    "score --drain --set teacher.kind=onnx --set teacher.onnx.path=odd": 5,
    f"score --drain {HTTP} --set teacher.http.ca_file=odd": 2,
}


def film(path: Path) -> None:
    """Has 10 GB, all holes: it needs no space."""
    with path.open("wb") as file:
        file.truncate(10 << 30)


KINDS = {"pipe": os.mkfifo, "device": lambda path: path.symlink_to("/dev/zero"), "film": film}


@pytest.mark.parametrize("kind", KINDS)
def test_no_verb_waits_for_a_pipe_or_reads_a_file_without_an_end(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    KINDS[kind](tmp_path / "odd")
    (tmp_path / "data.csv").write_text("user,item,time\na,b,1\n")
    for folder, name in (("ml", "u.data"), ("recdistill-data/keys", "a.pub")):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / name).symlink_to(tmp_path / "odd")
    assert main(["topics", "create"]) == 0
    before_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    capsys.readouterr()
    wrong = []
    for typed, expected in TYPED.items():
        code = main(typed.split())
        out, err = capsys.readouterr()
        lines = [line for line in err.strip().splitlines() if line.startswith("error:")]
        named = any(name in err for name in ("odd", "u.data", "a.pub"))
        if (code, len(lines), named) != (expected, 1, True) or "Traceback" in err:
            wrong.append((typed, code, out[-300:], err[-300:]))
    assert not wrong, "\n".join(map(str, wrong))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kb < 1_000_000

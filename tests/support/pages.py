"""Runs the examples of README.md and docs/. Each page runs from top to bottom, in its own new folder.

| in the page | what happens |
| --- | --- |
| a `python` block | it runs; all blocks of a page share one namespace |
| `<!-- file: NAME -->` before a block | the block is written to that file |
| `<!-- run -->` before a `bash` block | it must exit with 0; `<!-- run: 7 -->`: with 7 |
| `<!-- serve -->` before a `bash` block | its one command runs until the end of the page |
| an `http` block | is sent to that server |
| `<!-- prints -->` before a block | the example above must have printed this; `...` stands for any text |
| `<!-- continues: PAGE -->` | the page begins with the files that another page ends with |

A plain command line with `recdistill` runs in this process, because importing torch each time would take minutes. Other
command lines run in a shell. Where a page says 127.0.0.1:8080, a free port is used. It does not know the pages' text.
"""

from __future__ import annotations

import contextlib
import doctest
import fcntl
import functools
import io
import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any
from unittest import mock

from sybil import Example, Region, Sybil
from sybil.document import Document
from sybil.parsers.markdown import PythonCodeBlockParser

from recdistill.cli import main

ROOT = Path(__file__).resolve().parents[2]
ADDRESS = "127.0.0.1:8080"
KEPT = "PAGES_THAT_OTHERS_CONTINUE"
"""The environment has the folder of their files under this name."""

_made: list[str] = []

_BLOCK = re.compile(
    r"(?:^<!-- (?P<verb>run|file|serve|prints)(?:: (?P<what>[^\n]*?))? -->\n+)?"
    r"^```(?P<language>\w*)\n(?P<body>.*?)^```$"
    r"|^<!-- continues: (?P<page>\S+) -->$",
    re.MULTILINE | re.DOTALL,
)
_FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def _blocks(document: Document) -> Generator[Region, None, None]:
    found = list(_BLOCK.finditer(document.text))
    said = len(re.findall(r"^<!-- (?:run|file|serve|prints|continues)\b", document.text, re.MULTILINE))
    if said != sum(bool(match["verb"] or match["page"]) for match in found):
        raise ValueError(f"{document.path}: one of its comments stands before no block, so that it would not run")
    for match in found:
        verb, body = match["verb"], match["body"]
        run: Callable[[Example], str | None]
        if match["page"]:
            run, parsed = _continue, match["page"]
        elif verb == "file":
            run, parsed = _write, (match["what"], body)
        elif verb == "run":
            run, parsed = _run, (body, int(match["what"] or 0))
        elif verb == "serve":
            run, parsed = _serve, body
        elif verb == "prints":
            run, parsed = _compare, body
        elif match["language"] == "http":
            run, parsed = _send, body
        else:
            continue
        yield Region(match.start(), match.end(), parsed, run)


def _open(namespace: dict[str, Any]) -> None:
    """Makes the folder in which the page runs, saves the environment, and stops what runs at the end."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    stack = contextlib.ExitStack()
    before = Path.cwd()
    folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="recdistill-docs-"))
    stack.enter_context(mock.patch.dict(os.environ, {"RECDISTILL__RANK__PORT": str(port), "PYTHONPATH": str(ROOT)}))
    os.chdir(folder)
    stack.callback(os.chdir, before)
    # The code of a page can import modules that the page has written.
    stack.enter_context(mock.patch.object(sys, "path", [folder, *sys.path]))
    namespace["__page__"] = {"stack": stack, "address": f"127.0.0.1:{port}", "printed": ""}


def _close(namespace: dict[str, Any]) -> None:
    namespace["__page__"]["stack"].close()


def _continue(example: Example) -> None:
    shutil.copytree(_files_after(Path(example.path).parent / example.parsed), Path.cwd(), dirs_exist_ok=True)


def _files_after(path: Path) -> Path:
    """The files that a page ends with. The page is run for this, once for all workers of a run."""
    kept = Path(os.environ[KEPT]) / path.stem
    with kept.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if kept.exists():
            return kept
        document = pages.parse(path)
        _open(document.namespace)
        try:
            for example in document.examples():
                example.evaluate()
            shutil.copytree(Path.cwd(), draft := kept.with_suffix(".draft"))
            draft.rename(kept)
        finally:
            _close(document.namespace)
    return kept


def _write(example: Example) -> None:
    name, body = example.parsed
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    Path(name).write_text(body)


def _run(example: Example) -> str | None:
    body, wanted = example.parsed
    body = body.replace(ADDRESS, example.namespace["__page__"]["address"])
    lines = [line.partition(" #")[0].strip() for line in body.replace("\\\n", " ").splitlines()]
    lines = [line for line in lines if line and not line.startswith("#")]
    plain = all(re.fullmatch(r"(recdistill|export) [^|&;$<*]*", line) for line in lines)
    code, out, errors = _here(lines) if plain else _shell(body)
    example.namespace["__page__"]["printed"] = (out if wanted == 0 else errors).replace(
        example.namespace["__page__"]["address"], ADDRESS
    )
    return None if code == wanted else f"exit code {code}, not {wanted}\n{out}{errors}"


def _here(lines: list[str]) -> tuple[int, str, str]:
    out, errors, code = io.StringIO(), io.StringIO(), 0
    for line in lines:
        line, _, file = line.partition(" > ")
        words = shlex.split(line)
        if words[0] == "export":
            name, _, value = words[1].partition("=")
            os.environ[name] = value
            continue
        own = io.StringIO()
        with contextlib.redirect_stdout(own if file else out), contextlib.redirect_stderr(errors):
            code = main(words[1:])
        if file:
            Path(file.strip()).write_text(own.getvalue())
        if code:
            break
    return code, out.getvalue(), errors.getvalue()


def _shell(body: str) -> tuple[int, str, str]:
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", 'recdistill() { "$PYTHON" -m recdistill "$@"; }\n' + body],
        env={**os.environ, "PYTHON": sys.executable},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


def _serve(example: Example) -> str | None:
    words = shlex.split(example.parsed.partition(" #")[0])
    process = subprocess.Popen(
        [sys.executable, "-m", *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    example.namespace["__page__"]["stack"].callback(_stop, process)
    assert process.stderr is not None
    watch = threading.Timer(60, process.kill)
    watch.start()
    said = []
    for line in process.stderr:
        said.append(line)
        if line.startswith("serving at "):
            watch.cancel()
            return None
    watch.cancel()
    return "it ended without serving:\n" + "".join(said)


def _stop(process: subprocess.Popen[str]) -> None:
    process.terminate()
    process.communicate(timeout=30)


def _send(example: Example) -> None:
    head, _, body = example.parsed.partition("\n\n")
    method, path = head.split("\n")[0].split()
    request = urllib.request.Request(
        f"http://{example.namespace['__page__']['address']}{path}",
        data=body.encode() if method == "POST" else None,
        headers={"Content-Type": "application/json"},
        method=method,
    )
    try:
        with urllib.request.urlopen(request, timeout=30) as response:
            text = response.read().decode()
    except urllib.error.HTTPError as refused:
        text = refused.read().decode()
    with contextlib.suppress(ValueError):
        text = json.dumps(json.loads(text), ensure_ascii=False)
    example.namespace["__page__"]["printed"] = text


def _compare(example: Example) -> str | None:
    found, wanted = example.namespace["__page__"]["printed"], example.parsed
    if doctest.OutputChecker().check_output(wanted, found, _FLAGS):
        return None
    return f"the page says\n{wanted}\nbut it printed\n{found}"


class _Python(PythonCodeBlockParser):
    """Keeps the output of a block, for `<!-- prints -->`. A block under `<!-- file: … -->` is not run here."""

    def __call__(self, document: Document) -> Generator[Region, None, None]:
        files = [match.span() for match in _BLOCK.finditer(document.text) if match["verb"] == "file"]
        for region in super().__call__(document):
            if any(start <= region.start < end for start, end in files):
                continue
            run = region.evaluator
            assert run is not None
            region.evaluator = functools.partial(_keeping, run)
            yield region


def _keeping(run: Callable[[Example], str | None], example: Example) -> str | None:
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        problem = run(example)
    example.namespace["__page__"]["printed"] = out.getvalue()
    return problem


pages = Sybil(
    parsers=[_Python(), _blocks], patterns=["README.md", "docs/*.md", "docs/**/*.md"], path=str(ROOT),
    setup=_open, teardown=_close,
)  # fmt: skip


@functools.cache
def slow(path: Path) -> bool:
    """Whether a page takes seconds: it trains a student, continues such a page, or makes a world many times."""
    found = list(_BLOCK.finditer(path.read_text()))
    ran = [match["body"] for match in found if match["verb"] == "run"]
    return (
        any(match["page"] for match in found)
        or any("recdistill distil" in body for body in ran)
        or sum(body.count("recdistill simulate") for body in ran) > 2
    )


def begin() -> None:
    """Makes the folder for the files of pages that other pages continue. The workers of a run find it by its name."""
    if KEPT not in os.environ:
        os.environ[KEPT] = tempfile.mkdtemp(prefix="recdistill-docs-kept-")
        _made.append(os.environ[KEPT])


def clean() -> None:
    """Removes this folder, where it was made."""
    while _made:
        shutil.rmtree(_made.pop(), ignore_errors=True)
        os.environ.pop(KEPT, None)

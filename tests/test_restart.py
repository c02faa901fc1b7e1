"""A process that is started again is the same process, with other memory."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from recdistill.restart import CHOICE

SCRIPT = (
    "import os, sys; from recdistill.restart import plain_memory; plain_memory();"
    "print(os.getpid(), os.environ['PYTHONMALLOC'], sys.argv[1:], sys.dont_write_bytecode)"
)


@pytest.mark.parametrize(("chosen", "expected"), [(None, "malloc"), ("pymalloc", "pymalloc")])
def test_it_is_the_same_process_with_the_same_arguments(chosen: str | None, expected: str) -> None:
    environment = {key: value for key, value in os.environ.items() if key != CHOICE}
    if chosen is not None:
        environment[CHOICE] = chosen
    command = [sys.executable, "-B", "-c", SCRIPT, "a b", "--c"]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.communicate(timeout=60)[0].strip() == f"{process.pid} {expected} ['a b', '--c'] True"

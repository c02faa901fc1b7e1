"""Reads a Dockerfile: stages, instructions, exec forms. So a test can do what it says without a container engine.

It knows the instructions that deploy/ uses. It refuses all others, so that a test never skips one silently.

Example:
    >>> build, final = parse('FROM a AS build\\nRUN --a=b \\\\\\n  make\\nFROM b\\nENV X=1 Y="a b"\\nENTRYPOINT ["x"]')
    >>> build.values("RUN"), final.exec_form("ENTRYPOINT"), final.env()
    (['make'], ['x'], {'X': '1', 'Y': 'a b'})
"""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import dataclass, field

KNOWN = frozenset(
    ["FROM", "ARG", "ENV", "WORKDIR", "COPY", "RUN", "LABEL", "USER", "EXPOSE", "HEALTHCHECK", "ENTRYPOINT"]
)


@dataclass
class Stage:
    """One `FROM` and the instructions after it, in order: name, rest of the line, and its `--options` separately."""

    base: str
    name: str
    steps: list[tuple[str, str]] = field(default_factory=list)

    def values(self, instruction: str) -> list[str]:
        """The rest of the line of every instruction with this name, without `--options`."""
        return [re.sub(r"^(--\S+\s+)+", "", rest) for name, rest in self.steps if name == instruction]

    def value(self, instruction: str) -> str:
        """The rest of the line of the only instruction with this name."""
        [only] = self.values(instruction)
        return only

    def exec_form(self, instruction: str) -> list[str]:
        """The words of the only instruction with this name. It must be in exec form."""
        words = json.loads(self.value(instruction).removeprefix("CMD "))
        assert isinstance(words, list)
        return words

    def env(self) -> dict[str, str]:
        """The variables that all ENV instructions set."""
        pairs: list[list[str]] = [word.split("=", 1) for rest in self.values("ENV") for word in shlex.split(rest)]
        return dict(pairs)

    def copies(self) -> list[tuple[str | None, list[str], str]]:
        """Every COPY: the stage that it copies from (None: the build context), sources, destination."""
        found = []
        for name, rest in self.steps:
            if name == "COPY":
                stage = re.match(r"--from=(\S+)\s+", rest)
                *sources, destination = re.sub(r"^(--\S+\s+)+", "", rest).split()
                found.append((stage[1] if stage else None, sources, destination))
        return found


def parse(text: str) -> list[Stage]:
    """The stages of a Dockerfile.

    Raises:
        ValueError: There is an instruction that this reader does not know.
    """
    lines = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
    stages: list[Stage] = []
    for line in re.sub(r"\\\n\s*", "", lines).splitlines():
        if not line.strip():
            continue
        name, _, rest = line.partition(" ")
        if name not in KNOWN:
            raise ValueError(f"a Dockerfile instruction that the tests do not know: {name}")
        if name == "FROM":
            base, _, stage = rest.partition(" AS ")
            stages.append(Stage(base, stage))
        else:
            stages[-1].steps.append((name, rest.strip()))
    return stages

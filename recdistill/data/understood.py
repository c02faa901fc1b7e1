r"""A table as it will be read: by the mapping that a person gave, by a ready one, or by what was guessed.

It knows nothing of logs.

Example:
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "log.csv")
    ...     _ = path.write_text("who,movie,stars,when\nu,a,4,978300760\nu,b,5,978302109\n")
    ...     found = understand(path)
    >>> found.kind, found.mapping.columns["user"], found.file
    ('interactions', 'who', 'log.map.toml')
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from recdistill.data.mapping import TableMapping
from recdistill.data.meaning import Meaning, meaning_of
from recdistill.data.ready import ready_for, ready_text
from recdistill.data.shape import Shape, guess
from recdistill.data.survey import Bound
from recdistill.data.written import mapping_text


@dataclass
class Understood:
    """One table.

    Attributes:
        path: The file.
        shape: How it is written.
        kind: What its rows are; empty where it is of no use.
        mapping: Its columns; None where the rows are records already.
        meaning: What was guessed; None with a mapping that somebody wrote.
        file: Name for its mapping file.
        text: The mapping file; empty where none is needed.
        ready: Name of the ready mapping that fits, if one does.
    """

    path: Path
    shape: Shape
    kind: str
    mapping: TableMapping | None = None
    meaning: Meaning | None = None
    file: str = ""
    text: str = ""
    ready: str = ""

    @property
    def why(self) -> str:
        """Why the table is of no use; empty if it is."""
        return self.meaning.why if self.meaning is not None else ""

    def bound(self) -> Bound:
        """The table for a survey."""
        return Bound(self.path, self.kind, self.mapping)

    def write_again(self, *, add_items: bool) -> None:
        """Writes the mapping again, after its meaning has changed."""
        if self.meaning is None or not self.text:
            return
        form = self.shape.settings()
        self.text = mapping_text(self.path.name, self.file, self.meaning, form, add_items=add_items)
        self.mapping = TableMapping.parse(self.text, self.file)


def understand(path: Path, *, kind: str | None = None, mapping: TableMapping | None = None) -> Understood:
    """Looks at a table.

    Args:
        path: The table.
        kind: What its rows are, if somebody said it.
        mapping: The mapping that somebody gave.

    Raises:
        ConfigError: The mapping is not right.
        DataError: The file cannot be read, or is no table.
    """
    shape = guess(path, mapping)
    if mapping is not None or kind is not None:
        return Understood(path, shape, kind or (mapping.kind if mapping else "") or "", mapping=mapping)
    file = f"{path.name.split('.')[0] or 'table'}.map.toml"
    if name := ready_for(shape):
        text = ready_text(name)
        found = TableMapping.parse(text, name)
        meaning = Meaning(found.kind or "")
        return Understood(
            path=path, shape=shape, kind=meaning.kind, mapping=found, meaning=meaning, file=file, text=text, ready=name
        )
    meaning = meaning_of(path.name, shape)
    if meaning.own or not meaning.kind:
        return Understood(path=path, shape=shape, kind=meaning.kind, meaning=meaning, file=file)
    text = mapping_text(path.name, file, meaning, shape.settings())
    mapped = TableMapping.parse(text, file)
    return Understood(path=path, shape=shape, kind=meaning.kind, mapping=mapped, meaning=meaning, file=file, text=text)

r"""Lines of text -> rows of cells: delimiters of one or more characters, quotes, and line ends in quoted cells.

A cell is quoted if its first character, blanks aside, is the quote. Then it ends with a quote before the next delimiter
or the end of the line; two quotes in it stand for one. Anywhere else a quote is a character as any other. Blanks around
a cell do not belong to it.

**A quote that is not closed never swallows rows.** If a quoted cell goes on in the next line, and that line looks like
a row of its own, the table is refused, unless `multiline` says that cells may hold any lines.

It knows nothing of files, columns or records.

Example:
    >>> form = Cut(delimiter="::", quote='"', multiline=False)
    >>> list(rows_of(["1::Toy Story", '2 :: "a :: b"'], form))
    [(1, ['1', 'Toy Story']), (2, ['2', 'a :: b'])]
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

MOST_CHARACTERS = 16 << 20  # of one row; a longer one means a file of another kind


class Cut(NamedTuple):
    """How a line is cut into cells. A delimiter of one blank means any number of blanks."""

    delimiter: str
    quote: str
    multiline: bool


class Broken(Exception):
    """A row that cannot be cut.

    Args:
        line: Number of its first line.
        problem: What is wrong with it.
    """

    def __init__(self, line: int, problem: str) -> None:
        super().__init__(problem)
        self.line = line
        self.problem = problem


class Scanner:
    """Cuts lines into cells. A quoted cell may go over several lines."""

    def __init__(self, cut: Cut) -> None:
        self._delimiter, self._quote, self._multiline = cut
        self._cells: list[str] = []
        self._parts: list[str] = []
        self._open = False

    @property
    def open(self) -> bool:
        """Whether a quoted cell waits for its end."""
        return self._open

    def row(self, line: str) -> list[str] | None:
        """Cells of the row that ends with this line, or None if a quoted cell goes on.

        Raises:
            ValueError: Text stands between the end of a quoted cell and the next delimiter.
        """
        if not self._open and (not self._quote or self._quote not in line):
            return plain(line, self._delimiter)
        return self._scan(line)

    def _scan(self, line: str) -> list[str] | None:
        delimiter, quote = self._delimiter, self._quote
        at, end_of_line = 0, len(line)
        while True:
            if not self._open:
                start = self._skip(line, at)
                if not line.startswith(quote, start):
                    found = line.find(delimiter, start if delimiter == " " else at)
                    self._cells.append(line[at : found if found >= 0 else end_of_line].strip())
                    if found < 0:
                        return self._done()
                    at = self._after(line, found)
                    continue
                self._open, at = True, start + len(quote)
            close = self._close(line, at)
            if close < 0:
                return None
            self._cells.append("".join(self._parts).strip(" \t"))
            self._parts, self._open = [], False
            at = self._skip(line, close)
            if at >= end_of_line:
                return self._done()
            if not (at > close if delimiter == " " else line.startswith(delimiter, at)):
                self._cells = []
                raise ValueError(line[at : at + 20])
            at = at if delimiter == " " else self._after(line, at)

    def _close(self, line: str, at: int) -> int:
        """Place after the quote that ends the open cell; -1 if the cell goes on in the next line."""
        quote = self._quote
        while True:
            end = line.find(quote, at)
            if end < 0:
                self._parts.append(line[at:] + "\n")
                return -1
            if not line.startswith(quote, end + 1):
                self._parts.append(line[at:end])
                return end + 1
            self._parts.append(line[at : end + 1])
            at = end + 2

    def _skip(self, line: str, at: int) -> int:
        while at < len(line) and line[at] in " \t" and not line.startswith(self._delimiter, at):
            at += 1
        if self._delimiter == " ":
            while at < len(line) and line[at] in " \t":
                at += 1
        return at

    def _after(self, line: str, at: int) -> int:
        at += len(self._delimiter)
        return self._skip(line, at) if self._delimiter == " " else at

    def _done(self) -> list[str]:
        cells, self._cells = self._cells, []
        return cells


def plain(line: str, delimiter: str) -> list[str]:
    """Cells of a line without quotes."""
    if delimiter == " ":
        return line.split()
    return [cell.strip() for cell in line.split(delimiter)] if delimiter else [line.strip()]


def rows_of(lines: Iterable[str], cut: Cut, *, first: int = 1) -> Iterator[tuple[int, list[str]]]:
    """Cuts lines into rows. Lines with nothing but blanks are left out.

    Args:
        lines: Lines without their ends.
        cut: How.
        first: Number of the first line.

    Yields:
        The number of the row's first line, and its cells.

    Raises:
        Broken: A quote is not closed, or text follows a quoted cell.
    """
    scanner = Scanner(cut)
    columns = plainly = began = size = 0
    number = first - 1
    for number, line in enumerate(lines, first):
        if not scanner.open:
            if not line or (not line.strip() and not (line.count(cut.delimiter) and cut.delimiter != " ")):
                continue
            began, size, plainly = number, 0, line.count(cut.delimiter) + 1
        elif not cut.multiline and line and line.count(cut.delimiter) + 1 == (columns or plainly):
            raise Broken(
                began,
                f"a quote is not closed, and line {number} looks like a row of its own; mend the quote, or set "
                'quote = "" (a quote is a letter as any other) or multiline = true (quoted cells hold line ends) '
                "in the mapping",
            )
        size += len(line)
        if size > MOST_CHARACTERS:
            raise Broken(
                began, f"is longer than {MOST_CHARACTERS:,} characters; is a quote not closed, or a line end missing?"
            )
        try:
            cells = scanner.row(line)
        except ValueError as e:
            raise Broken(
                began,
                f"after the end of a quoted cell comes {str(e)!r}, not the delimiter {cut.delimiter!r}; double the "
                'quotes inside of the cell, or set quote = "" in the mapping if a quote is a letter as any other',
            ) from None
        if cells is not None:
            columns = columns or len(cells)
            yield began, cells
    if scanner.open:
        raise Broken(
            began,
            "a quote is not closed before the end of the table; mend it, or set "
            'quote = "" in the mapping if a quote is a letter as any other',
        )


def single_line(text: str) -> bool:
    """Whether a text can be a delimiter: it is not empty and holds no line end."""
    return bool(text) and not set(text) & set("\r\n")

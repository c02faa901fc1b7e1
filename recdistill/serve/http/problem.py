"""A refused request as RFC 9457 writes it (`application/problem+json`), with the field that is wrong.

It does not know what a request asks.

Example:
    >>> Problem(404, "there is nothing at /x").reply().body
    b'{"title":"Not Found","status":404,"detail":"there is nothing at /x","type":"about:blank"}'
"""

from __future__ import annotations

from collections.abc import Sequence
from http import HTTPStatus
from typing import Annotated, Final

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from recdistill.serve.http.asgi import Reply
from recdistill.text import cut, printable

KIND: Final = b"application/problem+json"
MAX_QUOTED: Final = 301  # most characters of a problem's text, because it may quote a body


class ProblemForm(Struct, frozen=True, rename={"kind": "type"}):
    """A problem as RFC 9457 writes it, with the field that is wrong."""

    title: Annotated[str, Meta(description="Name of the HTTP status.")]
    status: Annotated[int, Meta(description="The HTTP status: 400 to 599.")]
    detail: Annotated[str, Meta(description="One sentence: what is wrong, and what would be right.")]
    field: Annotated[
        str | UnsetType,
        Meta(description="Path of the wrong field, such as `history[3].item`. It is left out if no field is wrong."),
    ] = UNSET
    kind: Annotated[str, Meta(description="Always about:blank. `status` and `field` say which problem it is.")] = (
        "about:blank"
    )


class Problem(Exception):
    """A request that is refused.

    Args:
        status: The HTTP status.
        detail: What is wrong, and what would be right.
        field: Path of the wrong field, if there is one.
        headers: More headers of the answer.
    """

    def __init__(
        self, status: int, detail: str, *, field: str = "", headers: Sequence[tuple[bytes, bytes]] = ()
    ) -> None:
        super().__init__(f"{field}: {detail}" if field else detail)
        self.status, self.headers = status, headers
        # It may quote a body. So it is cut, and characters that control a terminal are removed.
        self.detail, self.field = cut(printable(detail), MAX_QUOTED), cut(printable(field), MAX_QUOTED)

    def form(self) -> ProblemForm:
        """Its body."""
        return ProblemForm(HTTPStatus(self.status).phrase, self.status, self.detail, self.field or UNSET)

    def reply(self) -> Reply:
        """The answer to the refused request."""
        return Reply(self.status, KIND, msgspec.json.encode(self.form()), list(self.headers))

"""What each input of a model is fed, held against its type and its axes.

It does not know impressions.

Example:
    >>> from recdistill.teachers.tensors.models import OnnxModel
    >>> model = OnnxModel(inputs={"ids": "candidates"})
    >>> one = input_of(Port("ids", "string", (None, None)), "candidates", model, "here")
    >>> one.axis, one.width, fixed([one], "candidate", 1, "here")
    ('candidate', None, None)
"""

from __future__ import annotations

from collections.abc import Sequence

from recdistill.errors import ConfigError
from recdistill.teachers.tensors.feed_sources import DTYPES, TAKES, Axis, Input, Port, Source, cell_of, source_of
from recdistill.teachers.tensors.models import TensorModel


def input_of(port: Port, texts: str | list[str], settings: TensorModel, section: str) -> Input:
    """What an input of the model is fed.

    Args:
        port: The input.
        texts: What the settings say of it.
        settings: Of the model.
        section: Their name, for errors.

    Raises:
        ConfigError: It cannot be fed with that.
    """
    at = f"{section}.inputs.{port.name}"
    many = not isinstance(texts, str)
    sources = tuple(source_of(text, at) for text in ([texts] if isinstance(texts, str) else texts))
    if not sources:
        raise ConfigError(f"{at}: is an empty list; name what is fed")
    if port.dtype not in DTYPES:
        raise ConfigError(f"{at}: the model's input {port} has a type that cannot be fed; use {', '.join(DTYPES)}")
    axis: Axis = "request"
    for source in sources:
        if port.dtype not in TAKES[source.kind] or (many and port.dtype == "string"):
            takes = [one for one in TAKES[source.kind] if not many or one != "string"]
            raise ConfigError(f"{at}: {source.text!r} cannot feed the input {port}; it feeds {', '.join(takes)}")
        if many and (source.axis == "event" or source.kind in ("candidates", "candidates.mask")):
            raise ConfigError(f"{at}: {source.text!r} cannot stand in a list; only numbers of items and requests")
        axis = source.axis if source.axis != "request" else axis
    substitute = settings.missing.get(port.name)
    if substitute is not None and (substitute := cell_of(substitute, port.dtype)) is None:
        raise ConfigError(f"{section}.missing.{port.name}: does not fit the input {port}")
    return Input(
        port=port,
        sources=sources,
        axis=axis,
        width=_width(port, sources, axis, many, at, layout=settings.layout),
        substitute=substitute,
    )


def _width(port: Port, sources: tuple[Source, ...], axis: Axis, many: bool, at: str, *, layout: str) -> int | None:
    """Checks the number of axes, and the first one. Returns the size of an extra last axis, if there is one."""
    lists = layout == "lists"
    batch = "B" if lists else "N"
    natural = [batch, *{"candidate": ["L"] if lists else [], "event": ["H"], "request": []}[axis]]
    more = len(port.shape) - len(natural)
    meant = f"layout {layout!r} feeds {', '.join(map(repr, (s.text for s in sources)))} as"
    shape = f"[{', '.join([*natural, *([str(len(sources))] if many else [])])}]"
    if more not in (0, 1) or (many and not more):
        raise ConfigError(f"{at}: {meant} {shape}, but the input is {port}; change the layout or the model")
    if port.shape[0] not in (None, 1) or (port.shape[0] == 1 and not lists):
        raise ConfigError(f"{at}: the first axis of {port} has a fixed size; export the model with a dynamic one")
    last = port.shape[-1]
    if not more:
        return None
    if many and last not in (None, len(sources)):
        raise ConfigError(f"{at}: names {len(sources)} values, but the last axis of {port} has another size")
    if many:
        return len(sources)
    if last != 1 and (last is None or sources[0].kind not in ("item", "context")):
        raise ConfigError(f"{at}: {meant} {shape}, but the input is {port}; change the layout or the model")
    return last


def fixed(inputs: Sequence[Input], axis: Axis, place: int, section: str) -> int | None:
    """The fixed size of an axis in the model's inputs; None if there is none."""
    sizes = {one.port.shape[place] for one in inputs if one.axis == axis} - {None}
    if len(sizes) > 1:
        raise ConfigError(f"{section}.inputs: the model wants lists of both {' and '.join(map(str, sizes))}")
    return sizes.pop() if sizes else None

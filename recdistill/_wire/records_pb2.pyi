# Generated from schemas/records.proto by tools/generate_proto.py: do not edit.
# ruff: noqa
# fmt: off
# mypy: disable-error-code="type-arg"
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Origin(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ORIGIN_PRODUCT: _ClassVar[Origin]
    ORIGIN_STUDENT: _ClassVar[Origin]
    ORIGIN_SWEEP: _ClassVar[Origin]
    ORIGIN_SERVED: _ClassVar[Origin]

class Scale(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SCALE_UNBOUNDED: _ClassVar[Scale]
    SCALE_LOGIT: _ClassVar[Scale]
    SCALE_PROBABILITY: _ClassVar[Scale]
    SCALE_RANK: _ClassVar[Scale]

class LabelState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    LABEL_STATE_NONE: _ClassVar[LabelState]
    LABEL_STATE_CLOSED: _ClassVar[LabelState]
    LABEL_STATE_LABELS: _ClassVar[LabelState]
ORIGIN_PRODUCT: Origin
ORIGIN_STUDENT: Origin
ORIGIN_SWEEP: Origin
ORIGIN_SERVED: Origin
SCALE_UNBOUNDED: Scale
SCALE_LOGIT: Scale
SCALE_PROBABILITY: Scale
SCALE_RANK: Scale
LABEL_STATE_NONE: LabelState
LABEL_STATE_CLOSED: LabelState
LABEL_STATE_LABELS: LabelState

class Value(_message.Message):
    __slots__ = ("text", "number", "flag", "texts", "vector")
    class Texts(_message.Message):
        __slots__ = ("values",)
        VALUES_FIELD_NUMBER: _ClassVar[int]
        values: _containers.RepeatedScalarFieldContainer[str]
        def __init__(self, values: _Optional[_Iterable[str]] = ...) -> None: ...
    class Vector(_message.Message):
        __slots__ = ("values",)
        VALUES_FIELD_NUMBER: _ClassVar[int]
        values: _containers.RepeatedScalarFieldContainer[float]
        def __init__(self, values: _Optional[_Iterable[float]] = ...) -> None: ...
    TEXT_FIELD_NUMBER: _ClassVar[int]
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    FLAG_FIELD_NUMBER: _ClassVar[int]
    TEXTS_FIELD_NUMBER: _ClassVar[int]
    VECTOR_FIELD_NUMBER: _ClassVar[int]
    text: str
    number: float
    flag: bool
    texts: Value.Texts
    vector: Value.Vector
    def __init__(self, text: _Optional[str] = ..., number: _Optional[float] = ..., flag: bool = ..., texts: _Optional[_Union[Value.Texts, _Mapping]] = ..., vector: _Optional[_Union[Value.Vector, _Mapping]] = ...) -> None: ...

class Item(_message.Message):
    __slots__ = ("id", "version", "withdrawn", "attributes", "time_us")
    class AttributesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: Value
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[Value, _Mapping]] = ...) -> None: ...
    ID_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    WITHDRAWN_FIELD_NUMBER: _ClassVar[int]
    ATTRIBUTES_FIELD_NUMBER: _ClassVar[int]
    TIME_US_FIELD_NUMBER: _ClassVar[int]
    id: str
    version: int
    withdrawn: bool
    attributes: _containers.MessageMap[str, Value]
    time_us: int
    def __init__(self, id: _Optional[str] = ..., version: _Optional[int] = ..., withdrawn: bool = ..., attributes: _Optional[_Mapping[str, Value]] = ..., time_us: _Optional[int] = ...) -> None: ...

class Event(_message.Message):
    __slots__ = ("item", "action", "time_us")
    ITEM_FIELD_NUMBER: _ClassVar[int]
    ACTION_FIELD_NUMBER: _ClassVar[int]
    TIME_US_FIELD_NUMBER: _ClassVar[int]
    item: str
    action: str
    time_us: int
    def __init__(self, item: _Optional[str] = ..., action: _Optional[str] = ..., time_us: _Optional[int] = ...) -> None: ...

class Candidate(_message.Message):
    __slots__ = ("item", "logged_score", "propensity")
    ITEM_FIELD_NUMBER: _ClassVar[int]
    LOGGED_SCORE_FIELD_NUMBER: _ClassVar[int]
    PROPENSITY_FIELD_NUMBER: _ClassVar[int]
    item: str
    logged_score: float
    propensity: float
    def __init__(self, item: _Optional[str] = ..., logged_score: _Optional[float] = ..., propensity: _Optional[float] = ...) -> None: ...

class Impression(_message.Message):
    __slots__ = ("id", "time_us", "user", "history", "context", "candidates", "origin", "served_by", "exclude")
    class ContextEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: Value
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[Value, _Mapping]] = ...) -> None: ...
    ID_FIELD_NUMBER: _ClassVar[int]
    TIME_US_FIELD_NUMBER: _ClassVar[int]
    USER_FIELD_NUMBER: _ClassVar[int]
    HISTORY_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_FIELD_NUMBER: _ClassVar[int]
    CANDIDATES_FIELD_NUMBER: _ClassVar[int]
    ORIGIN_FIELD_NUMBER: _ClassVar[int]
    SERVED_BY_FIELD_NUMBER: _ClassVar[int]
    EXCLUDE_FIELD_NUMBER: _ClassVar[int]
    id: str
    time_us: int
    user: str
    history: _containers.RepeatedCompositeFieldContainer[Event]
    context: _containers.MessageMap[str, Value]
    candidates: _containers.RepeatedCompositeFieldContainer[Candidate]
    origin: Origin
    served_by: str
    exclude: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, id: _Optional[str] = ..., time_us: _Optional[int] = ..., user: _Optional[str] = ..., history: _Optional[_Iterable[_Union[Event, _Mapping]]] = ..., context: _Optional[_Mapping[str, Value]] = ..., candidates: _Optional[_Iterable[_Union[Candidate, _Mapping]]] = ..., origin: _Optional[_Union[Origin, str]] = ..., served_by: _Optional[str] = ..., exclude: _Optional[_Iterable[str]] = ...) -> None: ...

class Ranking(_message.Message):
    __slots__ = ("impression", "teacher_id", "teacher_version", "scale", "scores", "scored", "scored_at_us", "catalogue_as_of", "sampled", "candidates_sampled", "self_agreement")
    IMPRESSION_FIELD_NUMBER: _ClassVar[int]
    TEACHER_ID_FIELD_NUMBER: _ClassVar[int]
    TEACHER_VERSION_FIELD_NUMBER: _ClassVar[int]
    SCALE_FIELD_NUMBER: _ClassVar[int]
    SCORES_FIELD_NUMBER: _ClassVar[int]
    SCORED_FIELD_NUMBER: _ClassVar[int]
    SCORED_AT_US_FIELD_NUMBER: _ClassVar[int]
    CATALOGUE_AS_OF_FIELD_NUMBER: _ClassVar[int]
    SAMPLED_FIELD_NUMBER: _ClassVar[int]
    CANDIDATES_SAMPLED_FIELD_NUMBER: _ClassVar[int]
    SELF_AGREEMENT_FIELD_NUMBER: _ClassVar[int]
    impression: Impression
    teacher_id: str
    teacher_version: str
    scale: Scale
    scores: _containers.RepeatedScalarFieldContainer[float]
    scored: bytes
    scored_at_us: int
    catalogue_as_of: int
    sampled: float
    candidates_sampled: _containers.RepeatedScalarFieldContainer[float]
    self_agreement: float
    def __init__(self, impression: _Optional[_Union[Impression, _Mapping]] = ..., teacher_id: _Optional[str] = ..., teacher_version: _Optional[str] = ..., scale: _Optional[_Union[Scale, str]] = ..., scores: _Optional[_Iterable[float]] = ..., scored: _Optional[bytes] = ..., scored_at_us: _Optional[int] = ..., catalogue_as_of: _Optional[int] = ..., sampled: _Optional[float] = ..., candidates_sampled: _Optional[_Iterable[float]] = ..., self_agreement: _Optional[float] = ...) -> None: ...

class Feedback(_message.Message):
    __slots__ = ("id", "impression_id", "item", "action", "value", "time_us")
    ID_FIELD_NUMBER: _ClassVar[int]
    IMPRESSION_ID_FIELD_NUMBER: _ClassVar[int]
    ITEM_FIELD_NUMBER: _ClassVar[int]
    ACTION_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    TIME_US_FIELD_NUMBER: _ClassVar[int]
    id: str
    impression_id: str
    item: str
    action: str
    value: float
    time_us: int
    def __init__(self, id: _Optional[str] = ..., impression_id: _Optional[str] = ..., item: _Optional[str] = ..., action: _Optional[str] = ..., value: _Optional[float] = ..., time_us: _Optional[int] = ...) -> None: ...

class Example(_message.Message):
    __slots__ = ("ranking", "labels", "label_state")
    RANKING_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    LABEL_STATE_FIELD_NUMBER: _ClassVar[int]
    ranking: Ranking
    labels: _containers.RepeatedScalarFieldContainer[float]
    label_state: LabelState
    def __init__(self, ranking: _Optional[_Union[Ranking, _Mapping]] = ..., labels: _Optional[_Iterable[float]] = ..., label_state: _Optional[_Union[LabelState, str]] = ...) -> None: ...

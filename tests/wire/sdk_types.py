"""The official SDKs' own types of a request, as validators that take nothing else.

The SDKs declare bodies as TypedDicts, which pydantic reads leniently: unknown keys are dropped and iterables are looked at
only when somebody reads them. Here each of them is made anew, closed and with lists.
"""

from __future__ import annotations

import functools
import types
from collections.abc import Iterable, Sequence
from typing import Annotated, Any, Never, NotRequired, Required, Union, get_args, get_origin, get_type_hints

import pydantic
from typing_extensions import TypedDict, is_typeddict

_SEQUENCES = {Iterable, Sequence}


@functools.cache
def validator(declared: Any) -> pydantic.TypeAdapter[Any]:
    """A validator of what `declared` describes; unknown keys are faults."""
    return pydantic.TypeAdapter(_closed(declared))


def _closed(declared: Any) -> Any:
    if is_typeddict(declared):
        return _closed_dict(declared)
    if isinstance(declared, type) and issubclass(declared, pydantic.BaseModel):
        # What the SDK makes of an answer. It takes these in requests too, but they are no part of the wire.
        return Never
    origin, arguments = get_origin(declared), get_args(declared)
    if origin in {Union, types.UnionType}:
        members = [closed for one in arguments if (closed := _closed(one)) is not Never]
        return Union[tuple(members)] if members else Never  # noqa: UP007 - known at run time only
    if origin is Annotated:
        return _closed(arguments[0])
    if origin in _SEQUENCES:
        return list[_closed(arguments[0])]  # type: ignore[misc]
    return origin[tuple(map(_closed, arguments))] if origin in {list, dict} else declared


@functools.cache
def _closed_dict(declared: Any) -> Any:
    fields = {}
    for name, hint in get_type_hints(declared, include_extras=True).items():
        # The SDKs' annotations are text, in which the class itself did not see `Required`.
        is_wrapped = get_origin(hint) in {Required, NotRequired}
        is_required = get_origin(hint) is Required if is_wrapped else name in declared.__required_keys__
        kind = _closed(get_args(hint)[0] if is_wrapped else hint)
        fields[name] = Required[kind] if is_required else NotRequired[kind]
    make: Any = TypedDict
    closed = make(declared.__name__, fields)
    has_extras = getattr(declared, "__pydantic_config__", {}).get("extra") == "allow"
    closed.__pydantic_config__ = pydantic.ConfigDict(
        extra="allow" if has_extras else "forbid", arbitrary_types_allowed=True, strict=True
    )
    return closed

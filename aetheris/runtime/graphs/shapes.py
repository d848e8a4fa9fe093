"""What a node's result is known to look like beforehand: from its tool's type hints, by JSON Schema."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter
from pydantic.errors import PydanticUserError

from aetheris.runtime.graphs.model import Node
from aetheris.runtime.llm.replies import Reply
from aetheris.runtime.signature import signature_of
from aetheris.runtime.tools import Tool

if TYPE_CHECKING:
    from aetheris.runtime.graphs.check import Tools

Schema = dict[str, Any]
_TEXT: Schema = {"type": "string"}
_APPROVAL: Schema = {
    "type": "object",
    "properties": {"approved": {"type": "boolean"}, "expired": {"type": "boolean"}, "by": _TEXT, "why": _TEXT},
    "additionalProperties": False,
}


def schema_of(node: Node, tools: Tools) -> Schema:
    """Return the JSON Schema of what a node results in; empty where nothing is known."""
    if node.kind == "approval":
        return _APPROVAL
    if node.kind == "condition":
        return {"type": "boolean"}
    if node.kind == "llm":
        return Reply.model_json_schema(mode="serialization")
    tool = tools.get(node.tool or "")
    if tool is None:
        return {}
    returned = _returned(tool)
    return {"type": "array", "items": returned, "$defs": returned.get("$defs", {})} if node.kind == "map" else returned


def known_fields(schema: Schema, key: str | int) -> dict[str, Schema] | None:
    """Return the fields that a value of `schema` can have, or None where anything may be there.

    For an index `key` the answer is None, unless the value can't be a list.
    """
    found = _resolved(schema)
    kind = found.get("type")
    if isinstance(key, int):
        return {} if kind in ("object", "string", "integer", "number", "boolean", "null") else None
    if kind in ("string", "integer", "number", "boolean", "null", "array"):
        return {}
    fields = found.get("properties")
    # A mapping without named fields may hold any; pydantic's models write out what they declare and no more.
    if kind != "object" or not fields or found.get("additionalProperties"):
        return None
    defs = schema.get("$defs", {})
    return {name: {**inner, "$defs": defs} for name, inner in fields.items()}


def _resolved(schema: Schema) -> Schema:
    for _ in range(8):
        reference = schema.get("$ref", "")
        if not reference:
            break
        schema = {**schema.get("$defs", {}).get(reference.removeprefix("#/$defs/"), {}), "$defs": schema.get("$defs")}
    return schema


@lru_cache(maxsize=256)
def _returned(tool: Tool[Any, Any]) -> Schema:
    hints = signature_of(tool.fn)[1]
    try:
        schema: Schema = TypeAdapter(hints.get("return", Any)).json_schema(mode="serialization", by_alias=False)
    except PydanticUserError:
        return {}  # a type without a JSON Schema: nothing is known
    return schema

"""Reward for JSON that follows a schema (jsonschema, extra `verify`)."""

from __future__ import annotations

import json
from typing import Any, Literal

from pydantic import Field

from burnish.errors import RecipeError
from burnish.rewards.normalize import without_thoughts
from burnish.rewards.response_view import ResponseView
from burnish.rewards.reward import Reward
from burnish.rewards.verdict import UnusableRow

_FENCE = "```"


class JsonSchemaReward(Reward):
    """1 if the whole answer is one JSON value that follows the schema; a fence of backticks around it is allowed.

    Duplicate keys, NaN and Infinity are invalid. A schema never fetches another one from the network.
    """

    name: Literal["json_schema"] = "json_schema"
    json_schema: dict[str, Any] | None = Field(None, alias="schema")
    """The schema; null: each row has one."""
    column: str = "schema"
    """Column with the row's schema, an object or its JSON text."""

    def prepare(self) -> None:
        """Imports jsonschema, and checks the schema of the recipe."""
        _jsonschema()
        if self.json_schema is not None and (fault := _schema_fault(self.json_schema)):
            raise RecipeError(
                given=f"reward json_schema: schema: {fault}",
                rule="a schema is valid JSON Schema",
                remedy="correct the schema",
            )

    def score(self, answer: ResponseView) -> bool:
        from referencing import Registry

        schema = self.json_schema if self.json_schema is not None else self._schema_of(answer)
        try:
            value = parsed(without_thoughts(answer.text))
        except ValueError:
            return False
        valid: bool = _kind(schema)(schema, registry=Registry()).is_valid(value)
        return valid

    def _schema_of(self, answer: ResponseView) -> dict[str, Any]:
        given = answer.extra.get(self.column)
        try:
            schema = json.loads(given) if isinstance(given, str) else given
        except ValueError as error:
            raise UnusableRow(f"column {self.column} is not JSON: {error}") from error
        if not isinstance(schema, dict):
            raise UnusableRow(f"the row has no schema in column {self.column}")
        if fault := _schema_fault(schema):
            raise UnusableRow(f"column {self.column}: {fault}")
        return schema


def parsed(text: str) -> Any:
    """JSON value of a response, parsed strictly.

    Raises:
        ValueError: it is not JSON, or has a key twice.
    """
    bare = text.strip()
    head, _, body = bare.partition("\n")
    if head.strip().lower() in (_FENCE, f"{_FENCE}json") and body.endswith(_FENCE):
        bare = body.removesuffix(_FENCE)
    try:
        return json.loads(bare, object_pairs_hook=_unique, parse_constant=_no_constant)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    mapping = dict(pairs)
    if len(mapping) < len(pairs):
        raise ValueError("a key occurs twice")
    return mapping


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _schema_fault(schema: dict[str, Any]) -> str:
    """Fault of a schema; "": it is valid."""
    try:
        _kind(schema).check_schema(schema)
    except _jsonschema().SchemaError as error:
        return str(error.message)
    return ""


def _kind(schema: dict[str, Any]) -> Any:
    """Validator of the draft that the schema names."""
    library = _jsonschema()
    return library.validators.validator_for(schema, default=library.Draft202012Validator)


def _jsonschema() -> Any:
    try:
        import jsonschema
    except ImportError as error:
        raise RecipeError(
            given="reward json_schema: jsonschema is not installed",
            rule="it validates answers against a schema",
            remedy="pip install 'burnish[verify]'",
        ) from error
    return jsonschema

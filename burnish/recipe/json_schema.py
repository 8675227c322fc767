"""JSON schema of recipes, with which editors complete keys, show their help and mark mistakes.

The help is the docstrings of the settings' fields. Stages of installed packages are part of the schema; a stage in a
user's file may have any settings there.
"""

from __future__ import annotations

import json
from typing import Any

from burnish.recipe.recipe import recipe_of
from burnish.stages.registry import registered

DRAFT = "https://json-schema.org/draft/2020-12/schema"


def json_schema() -> dict[str, Any]:
    """The schema as plain data (JSON Schema 2020-12). It has keys and types; rules between keys are checked later."""
    schema = {"$schema": DRAFT, **recipe_of(registered()).model_json_schema()}
    schema["title"] = "A recipe of Burnish"
    schema["$defs"]["Stage"]["patternProperties"] = {r"\.py:\w+$": {"type": "object"}}
    return schema


def schema_text() -> str:
    """The schema as a JSON file."""
    return json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n"

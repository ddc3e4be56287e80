"""One JSON Schema for whole configuration files, for editors that complete and check YAML while it is written."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from archsearch import registry

#: Text that stands for any value: an environment variable.
_VARIABLE = {"type": "string", "pattern": r"\$\{"}


def schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of a configuration file.

    Keys that a section needs are not required here, because a file may be there only to be included, or get them from an
    include; ``archsearch config validate`` tells. Any value may be text with ``${VAR}``.
    """
    named: dict[str, dict[str, type[BaseModel]]] = {}
    single: dict[str, type[BaseModel]] = {}
    for name in registry.SECTIONS:
        section = registry.SECTIONS.get(name)
        if hasattr(section, "models"):
            named[name] = dict(section.models())
        else:
            single[name] = section
    models = [*single.values(), *(model for choices in named.values() for model in choices.values())]
    refs, definitions = models_json_schema([(model, "validation") for model in dict.fromkeys(models)])
    sections = {name: dict(refs[model, "validation"]) for name, model in single.items()}
    for name, choices in named.items():
        branches = {choice: dict(refs[model, "validation"]) for choice, model in choices.items()}
        sections[name] = _chosen_by_name(registry.SECTIONS.get(name), choices, branches)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "archsearch configuration",
        "type": "object",
        "additionalProperties": False,
        "properties": {
            "include": {
                "description": "Files read before this one, relative to it; what comes later wins.",
                "anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}],
            },
            **{name: {"anyOf": [part, {"type": "null"}]} for name, part in sections.items()},
        },
        "$defs": {name: _open(part) for name, part in definitions.get("$defs", {}).items()},
    }


def _chosen_by_name(section: Any, choices: dict[str, type[BaseModel]], refs: dict[str, Any]) -> dict[str, Any]:
    rules: list[dict[str, Any]] = [
        {"if": {"properties": {"name": {"const": name}}, "required": ["name"]}, "then": ref} for name, ref in refs.items()
    ]
    try:
        default = section.model_for({})
    except ValueError:  # the name must be given
        default = None
    for name, model in choices.items():
        if model is default:
            rules.append({"if": {"not": {"required": ["name"]}}, "then": refs[name]})
    return {
        "type": "object",
        "properties": {"name": {"enum": sorted(choices), "description": f"Which one: {', '.join(sorted(choices))}."}},
        "allOf": rules,
    }


def _open(part: Any) -> Any:
    """A copy in which nothing is required and every plain value may be a variable."""
    if isinstance(part, list):
        return [_open(item) for item in part]
    if not isinstance(part, dict):
        return part
    if "properties" in part or part.get("type") == "object":
        closed = {key: value for key, value in part.items() if key != "required"}
        if "properties" in part:
            closed["properties"] = {key: _value(value) for key, value in part["properties"].items()}
        if isinstance(part.get("additionalProperties"), dict):
            closed["additionalProperties"] = _value(part["additionalProperties"])
        return closed
    opened = {key: value if key in ("default", "enum", "const", "examples") else _open(value) for key, value in part.items()}
    if isinstance(part.get("items"), dict):
        opened["items"] = _value(part["items"])
    return opened


def _value(part: Any) -> Any:
    """One key's schema; title, description and default stay outside, where editors look for them."""
    outside = {key: part[key] for key in ("title", "description", "default", "examples") if key in part}
    inside = _open({key: value for key, value in part.items() if key not in outside})
    return {**outside, "anyOf": [*(inside["anyOf"] if list(inside) == ["anyOf"] else [inside]), _VARIABLE]}

"""Pydantic's complaints in words for the user: file, line, full key, what was given, what is allowed, what to do."""

from __future__ import annotations

import difflib
import json
import math
from collections.abc import Collection, Iterable, Sequence
from typing import Any

from pydantic import BaseModel, ValidationError

from archsearch.config.secrets import MASK, is_secret_name, masked
from archsearch.config.tree import KeyPath, Node, Place, dotted, place_of
from archsearch.jobs import InputError

Problem = tuple[Place, str]
Schema = dict[str, Any]

#: Sections by their key, each with the model that checks it.
Models = dict[str, type[BaseModel]]

_SHOWN = 10
_LENGTHS = (("minItems", "at least"), ("maxItems", "at most"))


def report(what: str, problems: Sequence[Problem]) -> InputError:
    """One error that lists them all, in the order of the text, at most ten in full."""
    unique = list(dict.fromkeys(f"{place}: {text}" for place, text in sorted(problems, key=lambda p: (p[0].file, p[0].line))))
    if len(unique) == 1:
        return InputError(unique[0])
    rest = [f"... and {len(unique) - _SHOWN} more."] if len(unique) > _SHOWN else []
    return InputError("\n  ".join([f"{what} has {len(unique)} errors:", *unique[:_SHOWN], *rest]))


def did_you_mean(name: str, known: Collection[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    return f" Did you mean {near[0]}?" if near else ""


def explain(section: str, models: Models, error: ValidationError, values: Any, root: Node) -> list[tuple[KeyPath, Problem]]:
    """One problem for each key that is wrong, with its path.

    Args:
        section: the section that was checked; its model is in ``models``, whose other keys are only used for hints.
        values: the section's values as they were checked.
        root: the whole tree, for places.
    """
    schema = models[section].model_json_schema()
    found: dict[KeyPath, tuple[Any, Any]] = {}
    for item in error.errors(include_url=False):
        steps, given = _real_path(item["loc"], values, item["type"])
        found.setdefault((section, *steps), (item, given))
    problems: list[tuple[KeyPath, Problem]] = []
    for path, (item, given) in found.items():
        if any(other != path and other[: len(path)] == path for other in found):
            continue  # one branch of a union complains about the whole, another about the very item
        place = place_of(root, path)
        if item["type"] == "extra_forbidden":
            text = _unknown_key(path, schema, models)
        elif item["type"] == "missing":
            schemas = _at(schema, schema, path[1:])
            meaning = next((f" ({' '.join(s['description'].split())})" for s in schemas if "description" in s), "")
            text = f"{dotted(path)} is missing. Add it: {_describe(schemas, schema)}{meaning}."
        else:
            text = _wrong_value(path, item, given, _at(schema, schema, path[1:]), schema)
        problems.append((path, (place, text)))
    return problems


def unknown_section(name: str, known: Iterable[str]) -> str:
    names = sorted(known)
    return f"unknown section {name}.{did_you_mean(name, names)} Sections: {', '.join(names)}."


def shown(value: Any) -> str:
    """A value as the user wrote it, shortened, without secrets."""
    hidden = masked(value)
    if isinstance(hidden, float) and not math.isfinite(hidden):
        return ".nan" if math.isnan(hidden) else ".inf" if hidden > 0 else "-.inf"
    text = json.dumps(hidden, default=str, ensure_ascii=False)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _real_path(loc: tuple[int | str, ...], values: Any, kind: str) -> tuple[KeyPath, Any]:
    """``loc`` without the names that pydantic adds for branches of unions and validators, and the value there."""
    path: list[int | str] = []
    for number, step in enumerate(loc):
        if isinstance(values, dict) and str(step) in values:
            path.append(str(step))
            values = values[str(step)]
        elif isinstance(values, list) and isinstance(step, int) and step < len(values):
            path.append(step)
            values = values[step]
        elif kind == "missing" and number == len(loc) - 1:
            path.append(step)
            values = None
    return tuple(path), values


def _unknown_key(path: KeyPath, schema: Schema, models: Models) -> str:
    parent = dotted(path[:-1])
    name = str(path[-1])
    known = _keys(_at(schema, schema, path[1:-1]))
    hint = did_you_mean(name, known)
    if not hint:
        others = [other for other, model in models.items() if name in _keys([model.model_json_schema()])]
        hint = f" It is a key of {', '.join(others)}." if others else ""
    if not hint and known:
        hint = f" Keys of {parent}: {', '.join(known)}."
    return f"unknown key {dotted(path)}.{hint}"


def _wrong_value(path: KeyPath, item: Any, given: Any, schemas: list[Schema], root: Schema) -> str:
    secret = any(is_secret_name(str(step)) for step in path)
    expected = _describe(schemas, root)
    reason = ""
    if item["type"] in ("value_error", "assertion_error"):  # a room's own check knows best
        reason = str(item.get("ctx", {}).get("error", item["msg"])).rstrip(".")
        if isinstance(given, dict):
            return f"{dotted(path)}: {reason}."
    elif not expected or item["type"] == "finite_number" or any("x-expected" in schema for schema in schemas):
        reason = item["msg"][0].lower() + item["msg"][1:]
    choices = [str(choice) for schema in schemas for choice in _choices(schema)]
    near = did_you_mean(given, choices) if isinstance(given, str) and not secret else ""
    advice = f" Write {expected}." if expected else ""
    why = f": {reason}" if reason else ""
    return f"{dotted(path)} is {MASK if secret else shown(given)}, which is not allowed{why}.{near}{advice}"


# ------------------------------------------------------------------------------------------------- reading a JSON Schema
def _branches(schema: Schema, root: Schema) -> list[Schema]:
    """The schema as a list of alternatives without references."""
    if "$ref" in schema:
        return _branches({**root["$defs"][schema["$ref"].rsplit("/", 1)[1]]}, root)
    for key in ("anyOf", "oneOf", "allOf"):
        if key in schema and "x-expected" not in schema:
            return [branch for part in schema[key] for branch in _branches(part, root)]
    return [schema]


def _at(schema: Schema, root: Schema, path: KeyPath) -> list[Schema]:
    found = _branches(schema, root)
    for step in path:
        below: list[Schema] = []
        for branch in found:
            inner = branch.get("properties", {}).get(step)
            if inner is None and isinstance(step, int):
                prefix = branch.get("prefixItems", [])
                inner = prefix[step] if step < len(prefix) else branch.get("items")
            elif inner is None:
                inner = branch.get("additionalProperties")
            if isinstance(inner, dict):
                described = {"description": inner["description"]} if "description" in inner else {}
                below += [{**part, **described} for part in _branches(inner, root)]
        found = below
    return found


def _keys(schemas: list[Schema]) -> list[str]:
    return list(dict.fromkeys(key for schema in schemas for key in schema.get("properties", {})))


def _choices(schema: Schema) -> list[Any]:
    return [schema["const"]] if "const" in schema else list(schema.get("enum", []))


def _describe(schemas: list[Schema], root: Schema) -> str:
    choices = list(dict.fromkeys(shown(choice).strip('"') for schema in schemas for choice in _choices(schema)))
    parts = [f"one of {', '.join(choices)}" if len(choices) > 1 else choices[0]] if choices else []
    parts += [text for schema in schemas if not _choices(schema) and (text := _describe_one(schema, root))]
    return ", or ".join(dict.fromkeys(parts))


def _describe_one(schema: Schema, root: Schema) -> str:
    if "x-expected" in schema:
        return str(schema["x-expected"])
    kind = schema.get("type")
    if kind in ("integer", "number"):
        bounds = [
            f"{words} {schema[key]:g}" if isinstance(schema[key], float) else f"{words} {schema[key]}"
            for key, words in (
                ("minimum", "at least"),
                ("exclusiveMinimum", "greater than"),
                ("maximum", "at most"),
                ("exclusiveMaximum", "less than"),
                ("multipleOf", "a multiple of"),
            )
            if key in schema
        ]
        return ("a whole number" if kind == "integer" else "a number") + (f" {' and '.join(bounds)}" if bounds else "")
    if kind == "array":
        items = _describe(_branches(schema["items"], root), root) if isinstance(schema.get("items"), dict) else ""
        sizes = [
            f"{words} {schema[key]}" for key, words in (("minItems", "at least"), ("maxItems", "at most")) if key in schema
        ]
        return "a list" + (f" of {' and '.join(sizes)}" if sizes else "") + (f" ({items} each)" if items else "")
    if kind == "object":
        keys = _keys([schema])
        return "a mapping" + (f" with keys such as {', '.join(keys[:6])}" if keys else "")
    if kind == "string":
        rule = f" like {schema['pattern']}" if "pattern" in schema else ""
        sizes = [f"{schema[k]} characters {w}" for k, w in (("minLength", "or more"), ("maxLength", "or fewer")) if k in schema]
        return "text" + rule + (f" of {' and '.join(sizes)}" if sizes else "")
    return {"boolean": "true or false", "null": "null"}.get(str(kind), "")

"""Holds requests to an API against its OpenAPI document, forms with bracketed names included.

    validate_requests.py DOCUMENT

Standard input: one JSON object a line, {"method": "POST", "target": "/path?query", "form": [["name", "value"], ...]}.
Prints {"ok": true, "verdicts": [{"operation": "POST /v1/…" or null, "complaints": [...]}, ...]}, one verdict a line.
The document's schemas are closed, so an unknown parameter is a complaint as well as a mistyped one.
"""

import json
import re
import sys
from urllib.parse import parse_qsl, urlsplit

from jsonschema import Draft7Validator

FORM = "application/x-www-form-urlencoded"


def operation_of(document, method, path):
    for template, operations in document["paths"].items():
        pattern = "/".join("[^/]+" if part.startswith("{") else re.escape(part) for part in template.split("/"))
        if re.fullmatch(pattern, path) and method.lower() in operations:
            return f"{method} {template}", operations[method.lower()]
    return None, None


def put(tree, name, value):
    """Puts one bracketed name into the tree, as Stripe reads forms."""
    *path, last = [part.rstrip("]") for part in name.split("[")]
    for part, following in zip(path, [*path[1:], last]):
        tree = tree.setdefault(part, [] if following == "" else {})
    if last == "":
        tree.append(value)
    else:
        tree[last] = value


def coerced(schema, value):
    """A form knows texts only: those that the schema wants as numbers or truth values become such."""
    for choice in schema.get("anyOf", []):
        candidate = coerced(choice, value)
        if Draft7Validator(choice).is_valid(candidate):
            return candidate
    kind = schema.get("type")
    if kind == "integer" and isinstance(value, str) and re.fullmatch(r"-?\d+", value):
        return int(value)
    if kind == "boolean" and value in ("true", "false"):
        return value == "true"
    if kind == "object" and isinstance(value, dict):
        known, others = schema.get("properties", {}), schema.get("additionalProperties")
        others = others if isinstance(others, dict) else {}
        return {name: coerced(known.get(name, others), inside) for name, inside in value.items()}
    if kind == "array" and isinstance(value, list):
        return [coerced(schema.get("items", {}), inside) for inside in value]
    return value


def verdict(document, request):
    target = urlsplit(request["target"])
    name, operation = operation_of(document, request["method"], target.path)
    if operation is None:
        return {"operation": None, "complaints": ["it is no operation of the document"]}
    known = {parameter["name"] for parameter in operation.get("parameters", []) if parameter["in"] == "query"}
    queried = {field.split("[")[0] for field, _ in parse_qsl(target.query, keep_blank_values=True)}
    complaints = [f"the query has `{field}`" for field in sorted(queried - known)]
    if request["method"] == "POST":
        schema = operation["requestBody"]["content"][FORM]["schema"]
        assert schema["properties"] and schema["additionalProperties"] is False, name
        tree = {}
        for field, value in request["form"]:
            put(tree, field, value)
        errors = Draft7Validator(schema).iter_errors(coerced(schema, tree))
        complaints += [f"{'.'.join(map(str, error.absolute_path))}: {error.message[:200]}" for error in errors]
    return {"operation": name, "complaints": complaints}


with open(sys.argv[1], encoding="utf-8") as file:
    DOCUMENT = json.load(file)
requests = [json.loads(line) for line in sys.stdin if line.strip()]
print(json.dumps({"ok": True, "verdicts": [verdict(DOCUMENT, request) for request in requests]}))

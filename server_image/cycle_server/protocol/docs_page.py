"""/docs: the OpenAPI document as one page that needs nothing from anywhere, no script and no network."""

import json
from collections.abc import Iterator
from html import escape
from typing import Any

JsonObject = dict[str, Any]

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #1c1c1c }
h2 { margin-top: 2.5rem } h3 { margin-top: 2rem; border-top: 1px solid #ccc; padding-top: 1rem }
pre { background: #f4f4f4; padding: .8rem; overflow-x: auto } code, pre { font: 14px/1.45 ui-monospace, monospace }
table { border-collapse: collapse; width: 100% } th, td { text-align: left; padding: .3rem .8rem .3rem 0 }
td { border-top: 1px solid #e4e4e4; vertical-align: top }
@media (prefers-color-scheme: dark) { body { background: #161616; color: #e6e6e6 } pre { background: #262626 } }
"""


def render(document: JsonObject) -> str:
    """HTML of the whole document."""
    info = document["info"]
    body = [
        f"<h1>{escape(info['title'])}</h1>",
        f"<p>{escape(info['description'])} Machines read <a href='openapi.json'>openapi.json</a>.</p>",
        "<h2>Endpoints</h2>",
        *(part for path, item in document["paths"].items() for part in _path(path, item)),
        "<h2>Bodies</h2>",
        *(part for name, schema in sorted(document["components"]["schemas"].items()) for part in _schema(name, schema)),
    ]
    head = f"<meta charset='utf-8'><title>{escape(info['title'])}</title><style>{STYLE}</style>"
    view = "<meta name='viewport' content='width=device-width, initial-scale=1'>"
    return f"<!doctype html><html lang='en'><head>{head}{view}</head><body>{''.join(body)}</body></html>"


def _path(path: str, item: JsonObject) -> Iterator[str]:
    shared = item.get("parameters", [])
    for method in ("get", "post"):
        if method not in item:
            continue
        operation = item[method]
        yield f"<h3>{escape(operation['summary'])}</h3><p><code>{method.upper()} {escape(path)}</code></p>"
        yield f"<pre>{escape(_curl(method, path, operation, shared))}</pre>"
        rows = [
            (name, content["description"], _type(next(iter(content["content"].values()))["schema"]))
            for name, content in operation["responses"].items()
        ]
        yield _table(("status", "meaning", "body"), rows)


def _curl(method: str, path: str, operation: JsonObject, parameters: list[JsonObject]) -> str:
    for parameter in parameters:
        path = path.replace(f"{{{parameter['name']}}}", parameter["schema"]["enum"][0])
    if method == "get":
        return f"curl $URL{path}"
    content = operation["requestBody"]["content"]["application/json"]
    body = f"'{json.dumps(content['example'])}'" if "example" in content else "@request.json"
    return f"curl $URL{path} -H 'Content-Type: application/json' -d {body}"


def _schema(name: str, schema: JsonObject) -> Iterator[str]:
    yield f"<h3 id='{escape(name)}'>{escape(name)}</h3><p>{escape(schema.get('description', ''))}</p>"
    required = schema.get("required", [])
    rows = [
        (field + ("" if field in required else " (optional)"), part.get("description", ""), _type(part))
        for field, part in schema.get("properties", {}).items()
    ]
    yield _table(("field", "meaning", "type"), rows)


def _type(schema: JsonObject) -> str:
    """In HTML, with its bounds."""
    if "$ref" in schema:
        name = escape(schema["$ref"].rpartition("/")[2])
        return f"<a href='#{name}'>{name}</a>"
    if "anyOf" in schema:
        return " or ".join(_type(part) for part in schema["anyOf"])
    if "enum" in schema or "const" in schema:
        return escape(" | ".join(json.dumps(value) for value in schema.get("enum", [schema.get("const")])))
    kind = escape(str(schema.get("type", "any")))
    if kind == "array":
        kind = f"array of {_type(schema.get('items', {}))}"
    words = {"minItems": "at least", "maxItems": "at most", "minimum": "from", "maximum": "to", "maxLength": "at most"}
    bounds = [f"{word} {schema[key]}" for key, word in words.items() if key in schema]
    return f"{kind}, {', '.join(bounds)}" if bounds else kind


def _table(head: tuple[str, ...], rows: list[tuple[str, str, str]]) -> str:
    """Of each row the last cell is HTML already."""
    if not rows:
        return ""
    cells = "".join(f"<th>{escape(name)}</th>" for name in head)
    lines = "".join(
        f"<tr><td>{escape(first)}</td><td>{escape(text)}</td><td>{last}</td></tr>" for first, text, last in rows
    )
    return f"<table><tr>{cells}</tr>{lines}</table>"

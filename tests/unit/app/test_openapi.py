"""The OpenAPI description is the repository's file, and agrees with the code."""

from __future__ import annotations

import json
import re
import unicodedata
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from flask.testing import FlaskClient
from hypothesis import given, settings, strategies

from foobar import api, notes, text
from foobar.application import create_app
from foobar.database import NoPrimaryError, OutcomeUnknownError
from foobar.store import Store
from tests.unit.app.fakes import SETTINGS, FakeLab, lost_while_changing, note

DESCRIPTION: dict[str, Any] = json.loads(api.DESCRIPTION.read_text(encoding="utf-8"))
SCHEMAS = DESCRIPTION["components"]["schemas"]
JSON: Any = {"content_type": "application/json"}
METHODS = {"get", "post", "put", "patch", "delete"}


def operation(path: str, method: str) -> dict[str, Any]:
    found: dict[str, Any] = DESCRIPTION["paths"][path][method]
    return found


def test_the_served_description_is_that_of_the_repository(client: FlaskClient) -> None:
    response = client.get("/api/openapi.json")
    assert response.status_code == 200
    assert response.mimetype == "application/json"
    assert response.json == DESCRIPTION
    assert Path(api.DESCRIPTION).is_file()
    assert DESCRIPTION["openapi"].startswith("3.1.")


def test_routes_and_description_agree() -> None:
    app = create_app(SETTINGS, Store(FakeLab().database(), SETTINGS.host))
    routes = {
        (re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule), method.lower())
        for rule in app.url_map.iter_rules()
        if rule.rule.startswith("/api/")
        for method in rule.methods or ()
        if method.lower() in METHODS
    }
    described = {(path, method) for path, item in DESCRIPTION["paths"].items() for method in item}
    assert routes == described


def test_path_parameters_are_described() -> None:
    for path, item in DESCRIPTION["paths"].items():
        for method in item:
            parameters = operation(path, method).get("parameters", ())
            described = {p["name"] for p in parameters if p["in"] == "path"}
            assert described == set(re.findall(r"{(\w+)}", path)), (path, method)


def test_limits_are_those_of_the_code() -> None:
    (limit,) = operation("/api/notes", "get")["parameters"]
    assert limit["schema"] == {
        "type": "integer",
        "minimum": 1,
        "maximum": api.LIST_MAXIMUM,
        "default": api.LIST_DEFAULT,
    }
    new, stored = SCHEMAS["NewNote"]["properties"], SCHEMAS["Note"]["properties"]
    for shown in (new, stored):
        assert shown["author"]["maxLength"] == text.AUTHOR_LIMIT
        assert shown["text"]["maxLength"] == text.TEXT_LIMIT
    assert set(SCHEMAS["NewNote"]["required"]) == {"author", "text"}
    outcomes = {error.outcome for error in (NoPrimaryError, OutcomeUnknownError)}
    assert outcomes == set(SCHEMAS["Error"]["properties"]["outcome"]["enum"])


@pytest.mark.parametrize("value", ["My-1", "a" * 64, "a" * 65, "not ok", "", "é", "a\n", "a/b"])
def test_ids_are_accepted_as_described(client: FlaskClient, value: str) -> None:
    pattern = SCHEMAS["NewNote"]["properties"]["id"]["pattern"]
    matches = re.fullmatch(pattern.strip("^$"), value, re.ASCII) is not None
    assert (note(client, id=value).status_code == 201) is matches


@pytest.mark.parametrize("name", ["author", "text"])
def test_visible_is_what_the_code_calls_visible(name: str) -> None:
    """Every character alone: accepted by the code where it matches the pattern."""
    pattern = re.compile(SCHEMAS["NewNote"]["properties"][name]["pattern"])
    wrong = []
    for number in range(0x30000):
        character = chr(number)
        if unicodedata.category(character) in ("Cs", "Cn"):
            continue
        try:
            text.draft({"author": "a", "text": "b", name: character})
            accepted = True
        except text.InvalidError:
            accepted = False
        if accepted != (pattern.search(character) is not None):
            wrong.append(f"{number:04x}")
    assert not wrong


def status_and_body(response: Any) -> tuple[str, Any]:
    assert response.mimetype == "application/json"
    return str(response.status_code), response.json


def responses() -> list[tuple[str, str, Any]]:
    """Path, method and response of one request per described status, except 500."""
    lab = FakeLab()
    client = lab.client()
    form = {"author": "Ada", "text": "hello"}
    found = [
        ("/api/notes", "post", note(client, id="a")),
        ("/api/notes", "post", note(client, id="a")),
        ("/api/notes", "post", note(client, id="a", text="other")),
        ("/api/notes", "post", note(client, author="")),
        (
            "/api/notes",
            "post",
            client.post("/api/notes", data="{", **JSON),
        ),
        ("/api/notes", "post", client.post("/api/notes", data=form)),
        ("/api/notes", "post", note(client, text="x" * 17000)),
        (
            "/api/notes",
            "post",
            client.post("/api/notes", json=form, headers={"Origin": "http://x"}),
        ),
        ("/api/notes", "get", client.get("/api/notes")),
        ("/api/notes", "get", client.get("/api/notes?limit=0")),
        ("/api/notes/{note_id}", "get", client.get("/api/notes/a")),
        ("/api/notes/{note_id}", "get", client.get("/api/notes/b")),
        ("/api/notes/{note_id}", "get", client.get("/api/notes/b_b")),
        ("/api/markers/{marker_id}", "put", client.put("/api/markers/m")),
        ("/api/markers/{marker_id}", "put", client.put("/api/markers/m")),
        ("/api/markers/{marker_id}", "put", client.put("/api/markers/M")),
        (
            "/api/markers/{marker_id}",
            "put",
            client.put("/api/markers/m", headers={"Sec-Fetch-Site": "cross-site"}),
        ),
        ("/api/markers/{marker_id}", "get", client.get("/api/markers/m?from=local")),
        ("/api/markers/{marker_id}", "get", client.get("/api/markers/m?from=web-77")),
        ("/api/markers/{marker_id}", "get", client.get("/api/markers/M")),
    ]
    lab.primary.before_insert = lost_while_changing
    found.append(("/api/notes", "post", note(client, id="c")))
    lab.primary.up = lab.replica.up = False
    dead = lab.client()
    found += [
        ("/api/notes", "get", dead.get("/api/notes")),
        ("/api/notes/{note_id}", "get", dead.get("/api/notes/a")),
        ("/api/markers/{marker_id}", "get", dead.get("/api/markers/m")),
        ("/api/markers/{marker_id}", "put", dead.put("/api/markers/m")),
    ]
    return found


def resolve(value: dict[str, Any]) -> dict[str, Any]:
    while "$ref" in value:
        part: Any = DESCRIPTION
        for name in value["$ref"].removeprefix("#/").split("/"):
            part = part[name]
        value = part
    return value


def test_responses_are_as_described() -> None:
    seen: dict[tuple[str, str], set[str]] = {}
    for path, method, response in responses():
        status, body = status_and_body(response)
        described = operation(path, method)["responses"]
        assert status in described, (path, method, status, body)
        seen.setdefault((path, method), set()).add(status)
        answer = resolve(described[status])
        schema = resolve(answer["content"]["application/json"]["schema"])
        for item in body if schema["type"] == "array" else [body]:
            kind = resolve(schema["items"]) if schema["type"] == "array" else schema
            assert set(kind["required"]) <= set(item) <= set(kind["properties"]), item
        for header in answer.get("headers", ()):
            assert header in response.headers, (path, status, header)
    for (path, method), statuses in seen.items():
        missing = set(operation(path, method)["responses"]) - statuses - {"500"}
        assert not missing, f"{method} {path}: no request here gets {missing}"


def test_times_have_the_described_format() -> None:
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", notes.iso(notes.now()))
    assert SCHEMAS["Note"]["properties"]["created"]["format"] == "date-time"


# --- generated requests --------------------------------------------------------------------------

PLAIN = strategies.text(strategies.characters(codec="utf-8"), max_size=80)
ID = strategies.one_of(strategies.from_regex(r"\A[A-Za-z0-9-]{1,64}\Z"), PLAIN)
JSON_VALUES = strategies.recursive(
    strategies.none() | strategies.booleans() | strategies.integers() | PLAIN,
    lambda inner: (
        strategies.lists(inner, max_size=3) | strategies.dictionaries(PLAIN, inner, max_size=3)
    ),
    max_leaves=6,
)
NOTES = strategies.fixed_dictionaries(
    {},
    optional={
        "author": PLAIN | JSON_VALUES,
        "text": PLAIN | JSON_VALUES,
        "id": ID | JSON_VALUES,
        "more": JSON_VALUES,
    },
)
BODIES = strategies.one_of(
    NOTES.map(json.dumps), JSON_VALUES.map(json.dumps), strategies.binary(max_size=60)
)


def assert_described(path: str, method: str, response: Any) -> None:
    """Whatever was requested: no crash, a described status, the described content."""
    described = operation(path, method)["responses"]
    assert str(response.status_code) in described, (path, method, response.status_code)
    assert response.status_code != 500
    content = resolve(described[str(response.status_code)])["content"]
    assert response.mimetype in content


@settings(max_examples=300, deadline=None)
@given(body=BODIES, kind=strategies.sampled_from(["application/json", "text/plain", ""]))
def test_any_body_gets_a_described_response(body: str | bytes, kind: str) -> None:
    client = FakeLab().client()
    response = client.post("/api/notes", data=body, content_type=kind)
    assert_described("/api/notes", "post", response)


@settings(max_examples=200, deadline=None)
@given(name=ID.filter(lambda text: text not in ("", ".", "..")), where=PLAIN, limit=PLAIN)
def test_any_path_and_query_gets_a_described_response(name: str, where: str, limit: str) -> None:
    client = FakeLab().client()
    quoted = quote(name, safe="")
    if "/" not in name:
        for path, method in (
            ("/api/notes/{note_id}", "get"),
            ("/api/markers/{marker_id}", "get"),
            ("/api/markers/{marker_id}", "put"),
        ):
            filled = re.sub(r"{\w+}", quoted, path)
            response = client.open(filled, method=method.upper(), query_string={"from": where})
            assert_described(path, method, response)
    response = client.get("/api/notes", query_string={"limit": limit})
    assert_described("/api/notes", "get", response)

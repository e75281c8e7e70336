"""The JSON API for notes and markers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from flask import Blueprint, Response, abort, jsonify, request
from werkzeug.exceptions import BadRequest

from foobar import text
from foobar.context import context
from foobar.database import OutcomeUnknownError
from foobar.errors import failure
from foobar.replies import last_write, record_read, record_write

api = Blueprint("api", __name__, url_prefix="/api")

DESCRIPTION = Path(__file__).with_name("openapi.json")

LIST_DEFAULT = 20
LIST_MAXIMUM = 100


@api.get("/notes")
def list_notes() -> Response:
    """Return the latest notes, newest first; ?limit= sets how many."""
    count = text.limit(request.args.get("limit"), LIST_DEFAULT, LIST_MAXIMUM)
    read = record_read(context().store.recent(count, last_write()))
    return jsonify([note.as_json() for note in read.value])


@api.post("/notes")
def add_note() -> Response:
    """Store a note: 201, or 200 if the same note with this id exists."""
    draft = text.draft(_json_object())
    try:
        written = record_write(context().store.add(draft))
    except OutcomeUnknownError as error:
        return failure(503, str(error), outcome=error.outcome, note_id=draft.id)
    response = jsonify(written.value.item.as_json())
    response.status_code = 201 if written.value.new else 200
    response.headers["Location"] = f"/api/notes/{draft.id}"
    return response


@api.get("/notes/<note_id>")
def show_note(note_id: str) -> Response:
    """Return one note."""
    read = record_read(context().store.note(text.note_id(note_id), last_write()))
    if read.value is None:
        return failure(404, "there is no note with this id", field="id")
    return jsonify(read.value.as_json())


@api.put("/markers/<marker_id>")
def put_marker(marker_id: str) -> Response:
    """Store a marker: 201, or 200 if it exists."""
    written = record_write(context().store.mark(text.marker_id(marker_id)))
    response = jsonify(written.value.item.as_json())
    response.status_code = 201 if written.value.new else 200
    return response


@api.get("/markers/<marker_id>")
def show_marker(marker_id: str) -> Response:
    """Return a marker; ?from=local, or a server's name, reads only there."""
    only = _only(request.args.get("from"))
    read = record_read(context().store.marker(text.marker_id(marker_id), last_write(), only))
    if read.value is None:
        return failure(404, f"{read.server} has no marker with this id", field="id")
    return jsonify(read.value.as_json())


@api.get("/openapi.json")
def describe() -> Response:
    """Return the OpenAPI description of this API."""
    return Response(DESCRIPTION.read_text(encoding="utf-8"), mimetype="application/json")


def _only(name: str | None) -> str | None:
    settings = context().settings
    if name is None:
        return None
    if name == "local":
        return settings.local
    if name not in {server.name for server in settings.servers}:
        message = f"there is no database server {name}: use local or a server's name"
        abort(failure(404, message, field="from"))
    return name


def _json_object() -> dict[str, Any]:
    if request.mimetype != "application/json":
        abort(failure(415, "send the note as application/json"))
    try:
        # RecursionError: nested deeper than the parser allows.
        body = request.get_json()
    except (BadRequest, RecursionError):
        abort(failure(400, "the body is not valid JSON"))
    if not isinstance(body, dict):
        abort(failure(400, 'the body must be a JSON object such as {"author": "", "text": ""}'))
    return body

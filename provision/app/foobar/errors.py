"""Error responses: JSON for the API, an HTML page otherwise, never a traceback."""

from __future__ import annotations

import logging
from typing import Any

from flask import Flask, Response, jsonify, make_response, render_template
from werkzeug.exceptions import HTTPException

from foobar.database import RETRY_SECONDS, UnavailableError
from foobar.notes import ConflictError
from foobar.replies import request_id, wants_json
from foobar.text import BODY_LIMIT_BYTES, InvalidError

CONFLICT_MESSAGE = "this id belongs to another note; choose another id"

_log = logging.getLogger(__name__)
_MESSAGES = {
    400: "the request is malformed",
    403: "changes are accepted from this site's own pages only",
    404: "this page does not exist",
    405: "this method is not allowed here",
    413: f"the request is larger than the {BODY_LIMIT_BYTES // 1024} KiB that are allowed",
    415: "the content type of the request is not supported",
    500: "internal error; see the journal of this server",
}


def failure(
    status: int,
    message: str,
    *,
    field: str | None = None,
    outcome: str | None = None,
    note_id: str | None = None,
) -> Response:
    """Return an error response, as JSON or as a page.

    Args:
        field: the name of the invalid value.
        outcome: of a write, see `UnavailableError`.
        note_id: the id to use when the write is sent again.
    """
    if wants_json():
        body: dict[str, Any] = {"error": message}
        optional = {"field": field, "outcome": outcome, "id": note_id}
        body.update({name: value for name, value in optional.items() if value is not None})
        body["request_id"] = request_id()
        response = jsonify(body)
        response.status_code = status
    else:
        page = render_template(
            "error.html", status=status, message=message, request_id=request_id()
        )
        response = make_response(page, status)
    if status == 503:
        response.headers["Retry-After"] = str(RETRY_SECONDS)
    return response


def install(app: Flask) -> None:
    """Turn every exception of an application into a response."""

    @app.errorhandler(HTTPException)
    def http(error: HTTPException) -> Response:
        status = error.code or 500
        if status < 400:
            return make_response(error.get_response())
        response = failure(status, _MESSAGES.get(status, error.name.lower()))
        for name, value in error.get_headers():
            if name == "Allow":
                response.headers[name] = value
        return response

    @app.errorhandler(InvalidError)
    def invalid(error: InvalidError) -> Response:
        return failure(422, str(error), field=error.field)

    @app.errorhandler(ConflictError)
    def conflict(error: ConflictError) -> Response:
        return failure(409, CONFLICT_MESSAGE, field="id")

    @app.errorhandler(UnavailableError)
    def unavailable(error: UnavailableError) -> Response:
        return failure(503, str(error), outcome=error.outcome)

    @app.errorhandler(Exception)
    def unexpected(error: Exception) -> Response:
        _log.exception("request %s failed", request_id())
        return failure(500, _MESSAGES[500])

"""The guest book for people: the way of the request, the latest notes and the form."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import datetime

from flask import Blueprint, Response, abort, make_response, redirect, render_template, request
from werkzeug.wrappers import Response as BaseResponse

from foobar import hops, notes, text
from foobar.context import context
from foobar.database import (
    RETRY_SECONDS,
    NoReaderError,
    OutcomeUnknownError,
    Read,
    UnavailableError,
)
from foobar.errors import failure
from foobar.notes import ConflictError, Note
from foobar.replies import request_id, seen, told_read, told_write
from foobar.settings import Settings
from foobar.watch import View

pages = Blueprint("pages", __name__)

SHOWN = 20
_FORM_TYPES = frozenset({"application/x-www-form-urlencoded", "multipart/form-data"})
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Form:
    """The form as it is shown: what was typed, and what was wrong with it."""

    id: str
    author: str = ""
    text: str = ""
    error: str | None = None
    field: str | None = None


@dataclass(frozen=True)
class DatabaseCard:
    """One database server in the drawing."""

    name: str
    address: str
    state: str
    read: bool
    written: bool


@pages.get("/")
def guest_book() -> Response:
    """Show the guest book."""
    return _page(Form(text.new_id()), 200)


@pages.get("/notes")
def notes_address() -> BaseResponse:
    """Lead whoever reloads the address of a refused form back to the guest book."""
    return redirect("/", 303)


@pages.post("/notes")
def add_note() -> BaseResponse:
    """Keep the note of the form and lead back to the guest book."""
    if request.mimetype not in _FORM_TYPES:
        abort(failure(415, "send the note as a form"))
    author, words = request.form.get("author", ""), request.form.get("text", "")
    form = Form(text.new_id(), author[: text.BODY_LIMIT_BYTES], words[: text.BODY_LIMIT_BYTES])
    try:
        draft = text.draft(request.form)
    except text.InvalidError as error:
        return _page(_refused(form, str(error), error.field), 422)
    try:
        told_write(context().store.add(draft))
    except ConflictError:
        message = "This form had been sent before with other words. Send it again as a new note."
        return _page(_refused(form, message), 409)
    except OutcomeUnknownError:
        _log.warning("request %s: outcome of note %s is unknown", request_id(), draft.id)
        message = (
            "The connection to the database was lost while your note was being kept, so it may"
            " be there or not. Send it again: it will appear only once."
        )
        return _page(_refused(form, message, same_id=draft.id), 503)
    except UnavailableError as error:
        message = f"Your note was not kept: {error}. Nothing is lost here; send it again soon."
        return _page(_refused(form, message, same_id=draft.id), 503)
    return redirect("/", 303)


def age(created: datetime, moment: datetime) -> str:
    """Return how long ago something was, in words.

    Args:
        created: the time of it, in UTC.
        moment: the time now, in UTC.
    """
    seconds = int((moment - created).total_seconds())
    for unit, name in ((86400, "day"), (3600, "hour"), (60, "minute")):
        count = seconds // unit
        if count >= 1:
            return f"{count} {name}{'s' if count > 1 else ''} ago"
    return "just now"


def cards(
    settings: Settings, view: View, read: Read[list[Note]] | None
) -> tuple[DatabaseCard, ...]:
    """Return the database servers for the drawing, the one that was read first.

    Args:
        settings: names and addresses.
        view: their health.
        read: the read of this page, or None when there was none.
    """
    found = [
        DatabaseCard(
            server.name,
            server.address,
            view.state(server.name),
            read=read is not None and read.server == server.name,
            written=view.primary == server.name,
        )
        for server in settings.servers
    ]
    return tuple(sorted(found, key=lambda card: (not card.read, not card.written)))


def _refused(
    form: Form, message: str, field: str | None = None, same_id: str | None = None
) -> Form:
    return Form(same_id or form.id, form.author, form.text, message, field)


def _page(form: Form, code: int) -> Response:
    about = context()
    try:
        read: Read[list[Note]] | None = told_read(about.store.recent(SHOWN, seen()))
    except NoReaderError as error:
        _log.warning("request %s: %s", request_id(), error)
        read, code = None, 503 if code == 200 else code
    view = about.store.view(1.0)
    moment = notes.now()
    page = render_template(
        "index.html",
        about=about,
        form=form,
        limits={"author": text.AUTHOR_LIMIT, "text": text.TEXT_LIMIT},
        hops=hops.of_request(request.headers, request.remote_addr, about.settings),
        databases=cards(about.settings, view, read),
        view=view,
        read=read,
        shown=[(note, age(note.created, moment), tone(note.author)) for note in read.value]
        if read
        else [],
        request_id=request_id(),
    )
    response = make_response(page, code)
    if code == 503:
        response.headers["Retry-After"] = str(RETRY_SECONDS)
    return response


def tone(author: str) -> int:
    """Return the number, 0 to 5, of the colour that stands for an author."""
    return sum(author.casefold().encode("utf-8")) % 6

"""The HTML guest book: the hops of the request, the latest notes and the form."""

from __future__ import annotations

import logging
import ssl
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
from foobar.replies import last_write, record_read, record_write, request_id
from foobar.settings import Settings
from foobar.watch import HealthView

pages = Blueprint("pages", __name__)

SHOWN = 20
_FORM_TYPES = frozenset({"application/x-www-form-urlencoded", "multipart/form-data"})
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Form:
    """The form: its values, and an error message."""

    id: str
    author: str = ""
    text: str = ""
    error: str | None = None
    field: str | None = None


@dataclass(frozen=True)
class DatabaseCard:
    """One database server in the diagram."""

    name: str
    address: str
    state: str
    read: bool
    written: bool


@dataclass(frozen=True)
class MachineBox:
    """One machine in the diagram, with everything on it that is drawn."""

    name: str
    address: str | None
    hops: tuple[hops.RequestHop, ...]
    database: DatabaseCard | None


@pages.get("/")
def guest_book() -> Response:
    """Show the guest book."""
    return _page(Form(text.new_id()), 200)


@pages.get("/notes")
def notes_address() -> BaseResponse:
    """Redirect a reload after a refused form to the guest book."""
    return redirect("/", 303)


@pages.post("/notes")
def add_note() -> BaseResponse:
    """Store the note of the form and redirect to the guest book."""
    if request.mimetype not in _FORM_TYPES:
        abort(failure(415, "send the note as a form"))
    author, words = request.form.get("author", ""), request.form.get("text", "")
    form = Form(text.new_id(), author[: text.BODY_LIMIT_BYTES], words[: text.BODY_LIMIT_BYTES])
    try:
        draft = text.draft(request.form)
    except text.InvalidError as error:
        return _page(_with_error(form, str(error), error.field), 422)
    try:
        record_write(context().store.add(draft))
    except ConflictError:
        message = "This form was sent before with other content. Send it again as a new note."
        return _page(_with_error(form, message), 409)
    except OutcomeUnknownError:
        _log.warning("request %s: outcome of note %s is unknown", request_id(), draft.id)
        message = (
            "The connection to the database was lost while your note was being kept, so it may"
            " be there or not. Send it again: it will appear only once."
        )
        return _page(_with_error(form, message, same_id=draft.id), 503)
    except UnavailableError as error:
        message = f"Your note was not kept: {error}. Nothing is lost here; send it again soon."
        return _page(_with_error(form, message, same_id=draft.id), 503)
    return redirect("/", 303)


def age(created: datetime, moment: datetime) -> str:
    """Return a human-readable age; both times in UTC."""
    seconds = int((moment - created).total_seconds())
    for unit, name in ((86400, "day"), (3600, "hour"), (60, "minute")):
        count = seconds // unit
        if count >= 1:
            return f"{count} {name}{'s' if count > 1 else ''} ago"
    return "just now"


def cards(
    settings: Settings, view: HealthView, read: Read[list[Note]] | None
) -> tuple[DatabaseCard, ...]:
    """Return the database servers for the diagram; the one that was read from comes first."""
    unsorted = [
        DatabaseCard(
            server.name,
            server.address,
            view.state(server.name),
            read=read is not None and read.server == server.name,
            written=view.primary == server.name,
        )
        for server in settings.servers
    ]
    return tuple(sorted(unsorted, key=lambda card: (not card.read, not card.written)))


def boxes(
    path: tuple[hops.RequestHop, ...], databases: tuple[DatabaseCard, ...], settings: Settings
) -> tuple[tuple[MachineBox, ...], tuple[DatabaseCard, ...]]:
    """Return one box per machine that the request passed, and the databases elsewhere.

    Args:
        path: web server and application.
    """
    names = list(dict.fromkeys(hop.name for hop in path if hop.passed))
    by_name = {card.name: card for card in databases}
    machines = tuple(
        MachineBox(
            name,
            settings.address_of(name),
            tuple(hop for hop in path if hop.passed and hop.name == name),
            by_name.get(name),
        )
        for name in names
    )
    return machines, tuple(card for card in databases if card.name not in names)


def _with_error(
    form: Form, message: str, field: str | None = None, same_id: str | None = None
) -> Form:
    return Form(same_id or form.id, form.author, form.text, message, field)


def _page(form: Form, code: int) -> Response:
    about = context()
    try:
        read: Read[list[Note]] | None = record_read(about.store.recent(SHOWN, last_write()))
    except NoReaderError as error:
        _log.warning("request %s: %s", request_id(), error)
        read, code = None, 503 if code == 200 else code
    view = about.store.view(1.0)
    moment = notes.now()
    encrypted = isinstance(request.environ.get("gunicorn.socket"), ssl.SSLSocket)
    path = hops.of_request(
        request.headers, request.remote_addr, about.settings, encrypted=encrypted
    )
    machines, others = boxes(path[2:], cards(about.settings, view, read), about.settings)
    page = render_template(
        "index.html",
        about=about,
        form=form,
        limits={"author": text.AUTHOR_LIMIT, "text": text.TEXT_LIMIT},
        hops=path,
        machines=machines,
        databases=others,
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
    """Return the color of an author: a number from 0 to 5."""
    return sum(author.casefold().encode("utf-8")) % 6

"""The HTTP side of the board: its pages and the JSON that they ask for."""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route, WebSocketRoute

from provision.board import casts, recording, sockets
from provision.board.access import Throttle, Visitor
from provision.board.board import Board
from provision.board.guard import POLICY, RequestGuard
from provision.board.limits import SESSION_SECONDS
from provision.board.markdown import nodes
from provision.board.terminal import clamped
from provision.core.errors import LabError, UsageError
from provision.core.hints import for_lab
from provision.drills import catalogue, reports
from provision.drills.course import load_course
from provision.teaching import explain

STATIC = Path(__file__).parent / "static"
TYPES = {
    ".js": "text/javascript",
    ".mjs": "text/javascript",
    ".css": "text/css",
    ".svg": "image/svg+xml",
}
WORKERS = 64
"""Threads for what blocks: logins, typing, files."""

Handler = Callable[[Board, Request], Awaitable[Response]]


def application(board: Board, hosts: frozenset[str], *, secure: bool, cookie: str) -> RequestGuard:
    """The ASGI application of a board.

    Args:
        hosts: the values of Host under which it is reached.
        secure: whether it is served over TLS.
        cookie: name of the cookie; unique per port, because cookies know no ports.
    """
    throttle = Throttle()

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        pool = ThreadPoolExecutor(WORKERS, thread_name_prefix="board")
        asyncio.get_running_loop().set_default_executor(pool)
        board.start()
        reaper = asyncio.create_task(board.terminals.reap())
        try:
            yield
        finally:
            reaper.cancel()
            board.stop()
            pool.shutdown(wait=False, cancel_futures=True)

    async def login(request: Request) -> Response:
        address = request.client.host if request.client else ""
        wait = throttle.wait(address)
        if wait:
            retry = {"Retry-After": str(round(wait + 0.5))}
            return JSONResponse({"error": "too many wrong codes; wait a moment"}, 429, retry)
        visitor = board.gate.visitor_of_code(text_of(await body(request), "code"))
        if visitor is None:
            throttle.failed(address)
            return JSONResponse({"error": "this is not a code of this board"}, 403)
        response = JSONResponse({"team": visitor.team, "teacher": visitor.teacher})
        response.set_cookie(
            cookie,
            board.gate.cookie(visitor),
            max_age=SESSION_SECONDS,
            httponly=True,
            secure=secure,
            samesite="strict",
        )
        return response

    async def logout(_: Request) -> Response:
        response = JSONResponse({})
        response.delete_cookie(cookie, httponly=True, secure=secure, samesite="strict")
        return response

    def route(path: str, handler: Handler, method: str = "GET") -> Route:
        async def endpoint(request: Request) -> Response:
            try:
                return await handler(board, request)
            except UsageError as error:
                return JSONResponse({"error": str(error)}, 400)
            except LabError as error:
                return JSONResponse({"error": str(error)}, 409)

        return Route(path, endpoint, methods=[method])

    routes = [
        route("/", page),
        Route("/api/login", login, methods=["POST"]),
        Route("/api/logout", logout, methods=["POST"]),
        route("/api/me", me),
        route("/api/drills", drills),
        route("/api/explain", explanation),
        route("/api/act", act, "POST"),
        route("/api/terminals", open_terminal, "POST"),
        route("/api/terminals/close", close_terminal, "POST"),
        route("/api/recording", set_recording, "POST"),
        route("/api/recordings", recordings),
        route("/api/cast", cast),
        route("/api/report", report),
        route("/static/{path:path}", static),
        WebSocketRoute("/ws/lab", sockets.endpoint(board, sockets.lab)),
        WebSocketRoute("/ws/class", sockets.endpoint(board, sockets.classroom)),
        WebSocketRoute("/ws/terminal", sockets.endpoint(board, sockets.terminal)),
    ]
    inner = Starlette(routes=routes, lifespan=lifespan)
    return RequestGuard(inner, board.gate, hosts, secure=secure, cookie=cookie)


def visitor_of(request: Request) -> Visitor:
    """Who sends a request that the guard has let pass."""
    visitor = request.scope.get("visitor")
    if not isinstance(visitor, Visitor):
        raise HTTPException(401)
    return visitor


async def body(request: Request) -> dict[str, Any]:
    """The JSON object of a request.

    Raises:
        HTTPException: when it is none.
    """
    try:
        value = json.loads(await request.body())
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise HTTPException(400, "send a JSON object")
    return value


def text_of(values: dict[str, Any], name: str) -> str:
    """A text of a request; empty when it is missing or no text."""
    value = values.get(name)
    return value[:400] if isinstance(value, str) else ""


async def page(board: Board, request: Request) -> Response:
    """The page; for a browser without a code, the one that asks for it."""
    visitor = request.scope.get("visitor")
    if visitor is None:
        return HTMLResponse(_read("login.html"))
    nonce = secrets.token_urlsafe(16)
    html = _read("board.html").replace("NONCE", nonce)
    policy = POLICY.replace("style-src 'self'", f"style-src 'self' 'nonce-{nonce}'")
    return HTMLResponse(html, headers={"Content-Security-Policy": policy})


def _read(name: str) -> str:
    return (STATIC / name).read_text(encoding="utf-8")


async def static(_: Board, request: Request) -> Response:
    """A file of the page."""
    path = (STATIC / request.path_params["path"]).resolve()
    kind = TYPES.get(path.suffix, "")
    if not path.is_relative_to(STATIC) or not kind or not path.is_file():
        raise HTTPException(404)
    headers = {"Cache-Control": "no-cache", "Content-Type": f"{kind}; charset=utf-8"}
    return Response(path.read_bytes(), headers=headers)


async def me(board: Board, request: Request) -> Response:
    """Who the browser is, and what it may do."""
    visitor = visitor_of(request)
    return JSONResponse(
        {
            "team": visitor.team,
            "teacher": visitor.teacher,
            "title": board.room.title,
            "free": board.room.free or visitor.teacher,
            "watches": visitor.teacher and not board.room.free,
            "course": bool(board.room.course),
            "teams": [seat.team for seat in board.room.seats if visitor.may_see(seat)],
            "topics": explain.TOPICS,
        }
    )


async def drills(board: Board, request: Request) -> Response:
    """The drills that a lab can run: those of the course, else of its topology."""
    seat = board.seat(visitor_of(request), request.query_params.get("team", ""))

    def read() -> list[dict[str, Any]]:
        if board.room.course:
            chosen = [item.drill for item in load_course(Path(board.room.course)).items]
        else:
            name = board.watch(seat).opened().lab.topology.name
            every = catalogue.load_all(catalogue.paths())
            chosen = list(catalogue.matching(every, topology=name))
        return [
            {"id": d.id, "title": d.title, "level": d.level, "layer": d.layer, "minutes": d.minutes}
            for d in chosen
        ]

    return JSONResponse({"drills": await asyncio.to_thread(read)})


async def explanation(board: Board, request: Request) -> Response:
    """A text of `lab.explain`, with the values of the running lab."""
    seat = board.seat(visitor_of(request), request.query_params.get("team", ""))
    topic = request.query_params.get("topic", "")
    watch = board.watch(seat)

    def read() -> list[Any]:
        context = watch.opened().context
        text = explain.text(context, topic, watch.observation())
        return nodes(text)

    return JSONResponse({"topic": topic, "text": await asyncio.to_thread(read)})


async def act(board: Board, request: Request) -> Response:
    """Start a command on one lab, or (for the teacher) on all with the team ``*``."""
    visitor, values = visitor_of(request), await body(request)
    kind = text_of(values, "kind")
    board.actions.require_allowed(visitor, kind)
    team = text_of(values, "team")
    if team == "*" and visitor.teacher:
        seats = list(board.room.seats)
    else:
        seats = [board.seat(visitor, team)]
    by = "teacher" if visitor.teacher else visitor.team
    refused = {}
    for seat in seats:
        try:
            board.actions.begin(board.watch(seat), kind, values, by)
        except UsageError as error:
            refused[seat.team] = str(error)
    if refused and len(refused) == len(seats):
        raise UsageError("\n".join(dict.fromkeys(refused.values())))
    return JSONResponse({"begun": len(seats) - len(refused), "refused": refused}, 202)


async def open_terminal(board: Board, request: Request) -> Response:
    """Open a terminal on a machine of the visitor's lab."""
    visitor, values = visitor_of(request), await body(request)
    seat = board.seat(visitor, text_of(values, "team"))
    if visitor.teacher and not board.room.free:
        raise UsageError("a terminal belongs to a team: watch one that the team has opened")
    size = clamped(values.get("columns"), values.get("rows"))
    machine = text_of(values, "machine")
    try:
        terminal = await board.terminals.open(board.watch(seat), machine, size)
    except LabError as error:
        return JSONResponse({"error": for_lab(str(error), seat.lab)}, 409)
    board.notify(seat.lab)
    return JSONResponse({"id": terminal.id, "number": terminal.number}, 201)


async def close_terminal(board: Board, request: Request) -> Response:
    """Close a terminal; a teacher closes only those that are not a team's."""
    visitor, values = visitor_of(request), await body(request)
    if visitor.teacher and not board.room.free:
        raise UsageError("only the team closes its terminals")
    terminal = board.terminals.find(text_of(values, "id"), board.visible_labs(visitor))
    board.terminals.close(terminal)
    board.notify(terminal.lab)
    return JSONResponse({})


async def set_recording(board: Board, request: Request) -> Response:
    """Turn recording on or off, for one team or (``*``) for all: only the teacher."""
    visitor, values = visitor_of(request), await body(request)
    if not visitor.teacher:
        raise UsageError("only the teacher turns recording on or off")
    team, on = text_of(values, "team"), values.get("on") is True
    seats = list(board.room.seats) if team == "*" else [board.seat(visitor, team)]
    for seat in seats:
        watch = board.watch(seat)
        await asyncio.to_thread(watch.catch_up)  # no marker of this recording comes too late
        try:
            board.terminals.set_recording(watch, on)
        except OSError as error:
            folder = recording.folder(watch.directory)
            raise UsageError(f"{folder}: {error.strerror or error}") from None
        board.notify(seat.lab)
    return JSONResponse({"on": on})


async def recordings(board: Board, request: Request) -> Response:
    """The recordings of a lab, newest first, each with the runs that it has markers of."""
    seat = board.seat(visitor_of(request), request.query_params.get("team", ""))
    directory = board.watch(seat).directory
    listed = await asyncio.to_thread(casts.of_lab, directory)
    return JSONResponse({"recordings": [item.values() for item in reversed(listed)]})


async def cast(board: Board, request: Request) -> Response:
    """One recording."""
    seat = board.seat(visitor_of(request), request.query_params.get("team", ""))
    directory = board.watch(seat).directory
    name = request.query_params.get("name", "")
    text = await asyncio.to_thread(casts.text_of, directory, name)
    return Response(text, media_type="application/x-asciicast")


async def report(board: Board, request: Request) -> Response:
    """The class report as JSON or CSV."""
    if not visitor_of(request).teacher:
        raise UsageError("only the teacher sees the class report")
    rows = await asyncio.to_thread(board.report)
    if request.query_params.get("format") != "csv":
        return JSONResponse({"runs": rows})
    headers = {"Content-Disposition": 'attachment; filename="class-report.csv"'}
    return Response(reports.as_csv(rows, ("lab",)), media_type="text/csv", headers=headers)

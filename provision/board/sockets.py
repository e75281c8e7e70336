"""The WebSockets of the board: a lab's state, the class, and terminals."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from provision.board.access import Visitor
from provision.board.board import Board
from provision.board.limits import MESSAGE_BYTES
from provision.board.terminal import NoTerminalError, PageTerminal, Viewer, clamped
from provision.core.errors import LabError

HEARTBEAT_SECONDS = 5.0
"""After which a state is sent again although nothing has changed: the page stays live."""

CLASS_SECONDS = 0.5
"""Between two states of the class."""

GONE, REFUSED = 4404, 4403
"""Close codes: there is no such terminal; not allowed."""

Serve = Callable[[Board, WebSocket, Visitor], Awaitable[None]]


def endpoint(board: Board, serve: Serve) -> Callable[[WebSocket], Awaitable[None]]:
    """Accept a WebSocket whose browser the guard has let pass, and serve it until it closes."""

    async def handle(socket: WebSocket) -> None:
        visitor: Visitor = socket.scope["visitor"]
        await socket.accept()
        try:
            with board.connection(visitor):
                await serve(board, socket, visitor)
        except NoTerminalError as error:
            await _close(socket, GONE, error.what)
        except LabError as error:
            await _close(socket, REFUSED, error.what)
        except (WebSocketDisconnect, RuntimeError):
            pass  # the browser is gone

    return handle


async def _close(socket: WebSocket, code: int, reason: str) -> None:
    with contextlib.suppress(RuntimeError, WebSocketDisconnect):
        await socket.close(code, reason.encode()[:120].decode(errors="ignore"))


async def _until_closed(socket: WebSocket, work: Awaitable[None]) -> None:
    """Do this work until the browser closes the connection."""
    task = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_drain(socket))
    await _first_of(task, gone)


async def _drain(socket: WebSocket) -> None:
    while socket.client_state == WebSocketState.CONNECTED:
        await socket.receive_text()


async def _first_of(*tasks: asyncio.Future[None]) -> None:
    """Wait for the first task, and cancel the others.

    Raises:
        Exception: that of the first task.
    """
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in done:
        task.result()


async def lab(board: Board, socket: WebSocket, visitor: Visitor) -> None:
    """Send the state of a lab whenever it changes."""
    seat = board.seat(visitor, socket.query_params.get("team", ""))

    async def send() -> None:
        with board.listening([seat.lab]) as changed:
            while True:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(changed.wait(), HEARTBEAT_SECONDS)
                changed.clear()
                await socket.send_text(json.dumps(board.lab_document(seat)))

    await _until_closed(socket, send())


async def classroom(board: Board, socket: WebSocket, visitor: Visitor) -> None:
    """Send the state of all labs: only to the teacher."""
    if not visitor.teacher:
        raise LabError("only the teacher sees the class")

    async def send() -> None:
        with board.listening([seat.lab for seat in board.room.seats]) as changed:
            while True:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(changed.wait(), HEARTBEAT_SECONDS)
                changed.clear()
                await socket.send_text(json.dumps(board.class_document()))
                await asyncio.sleep(CLASS_SECONDS)

    await _until_closed(socket, send())


# --- terminals -----------------------------------------------------------------------------------


async def terminal(board: Board, socket: WebSocket, visitor: Visitor) -> None:
    """Connect a browser with a terminal: output as binary messages, everything else as JSON."""
    shown = board.terminals.find(socket.query_params.get("id", ""), board.visible_labs(visitor))
    board.terminals.require_room(shown)
    text = socket.query_params.get("from", "0")
    position = int(text) if text.isdigit() and len(text) < 16 else 0
    viewer = Viewer(teacher=visitor.teacher and not board.room.free)
    shown.attach(viewer, position)
    board.notify(shown.lab)
    try:
        sending = asyncio.ensure_future(_send_output(socket, shown, viewer))
        receiving = asyncio.ensure_future(_receive(board, socket, shown, viewer))
        await _first_of(sending, receiving)
    finally:
        shown.detach(viewer)
        board.notify(shown.lab)


async def _send_output(socket: WebSocket, shown: PageTerminal, viewer: Viewer) -> None:
    told: dict[str, Any] = {}
    start = viewer.position
    await socket.send_text(json.dumps({"type": "start", "position": start}))
    while True:
        viewer.wake.clear()
        expected = viewer.position
        position, data = shown.next_output(viewer)
        if position != expected:
            await socket.send_text(json.dumps({"type": "gap", "position": position}))
        if data:
            await socket.send_bytes(data)
        state = _state(shown, viewer)
        if state != told and (not data or not told):
            told = state
            await socket.send_text(json.dumps(state))
        if not data:
            await viewer.wake.wait()


def _state(shown: PageTerminal, viewer: Viewer) -> dict[str, Any]:
    return {
        "type": "state",
        "machine": shown.machine,
        "columns": shown.size[0],
        "rows": shown.size[1],
        "writable": shown.may_type(viewer),
        "invited": shown.invited,
        "watched": shown.watched,
        "recorded": shown.cast is not None,
        "notice": shown.notice,
        "ended": shown.ended,
    }


async def _receive(board: Board, socket: WebSocket, shown: PageTerminal, viewer: Viewer) -> None:
    while True:
        text = await socket.receive_text()
        message = _parsed(text)
        kind = message.get("type")
        if kind == "ack":
            shown.acknowledge(viewer, message.get("position"))
        elif kind == "input" and isinstance(message.get("data"), str):
            if shown.may_type(viewer):
                await shown.type(message["data"])
        elif kind == "resize" and not viewer.teacher:
            await shown.resize(clamped(message.get("columns"), message.get("rows")))
        elif kind == "invite" and not viewer.teacher:
            shown.invited = message.get("on") is True
            shown.wake()
            board.notify(shown.lab)


def _parsed(text: str) -> dict[str, Any]:
    if len(text) > MESSAGE_BYTES:
        raise LabError("a message is too long")
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise LabError("send JSON objects")
    return value

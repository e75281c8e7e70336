"""`board.*`: the lab in a browser, with terminals; for a class, one page per team."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from provision.commands.base import number, open_session, task
from provision.core import classroom
from provision.core.access_codes import TEACHER, TEAM, access_code
from provision.core.errors import UsageError
from provision.core.hints import for_lab
from provision.core.lab import ROOT
from provision.core.secrets import Secrets

if TYPE_CHECKING:
    from provision.board.access import BoardRoom
    from provision.board.server import ListenAddress


@task(
    help={
        "bind": "an address of this computer that the class reaches, with TLS by the lab's CA "
        "(default: 127.0.0.1, without TLS)",
        "port": "where the board listens (default: 8090)",
        "class_": "serve the labs of the class (class.up), each to its own team",
    },
)
def serve(c: Any, bind: str = "", port: str = "", class_: bool = False, lab: str = "") -> None:
    """Serve the lab in a browser, until Ctrl-C."""
    from provision.board import server
    from provision.commands.show_drill import run_values

    if class_ and lab:
        raise UsageError("--class serves all labs of the class", "leave out --lab or --class")
    room, directory = _class_room() if class_ else _lab_room(lab)
    place = _listen_address(directory, bind, port)

    def ready() -> None:
        print(f"the board of {room.title} is at {place.url}", flush=True)
        for seat in room.seats if class_ else room.seats[:1]:
            who = f"team {seat.team}" if class_ else "learner"
            print(f"  {who}: {place.url}#code={seat.code}")
        print(f"  teacher: {place.url}#code={room.teacher_code}")
        if place.certificate:
            print(f"  browsers must trust {directory / 'ca.pem'}")
            if not class_:
                print(for_lab("  invoke tls.trust shows how", room.seats[0].lab))
        print("Ctrl-C ends it", flush=True)

    server.serve(room, place, lambda run: {**run_values(run, with_commands=True)}, ready)


def _listen_address(directory: Path, bind: str, port: str) -> ListenAddress:
    """Where to listen; TLS everywhere but on loopback.

    Args:
        directory: of the CA.
    """
    from provision.board import server

    address = server.parse_address(bind or server.LOOPBACK)
    chosen = int(number(port, "--port", 1, 65535)) if port else server.PORT
    certificate = None
    if not address.is_loopback:
        certificate = server.certificate_files(directory, address)
    return server.ListenAddress(address, chosen, certificate)


def _lab_room(lab: str) -> tuple[BoardRoom, Path]:
    """One lab, and the directory of its CA."""
    from provision.board.access import BoardRoom, Seat

    session = open_session(lab)
    directory, name = session.lab.directory, session.lab.name
    seat = Seat(name, name, access_code(directory, TEAM))
    code = access_code(directory, TEACHER)
    return BoardRoom(f"lab {name}", (seat,), code, _cookie_key(directory)), directory


def _class_room() -> tuple[BoardRoom, Path]:
    """The labs of the class, and the directory of the class's CA."""
    from provision.board.access import BoardRoom, Seat

    members = classroom.require()
    if not members.teams:
        raise UsageError("the class has no team", "invoke class.up FILE, or a number of teams")
    seats = tuple(Seat(team.name, team.lab, team.code) for team in members.teams)
    seeds = {team.name: team.seed for team in members.teams}
    directory = classroom.folder(ROOT)
    room = BoardRoom(
        members.title,
        seats,
        members.code,
        _cookie_key(directory),
        free=False,
        course=members.course,
        seeds=seeds,
    )
    return room, directory


def _cookie_key(directory: Path) -> bytes:
    return Secrets(directory).password("board-cookie").encode()

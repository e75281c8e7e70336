"""Who may see what: a code opens one team's lab, or all labs for the teacher.

A browser exchanges its code for a signed cookie. The board keeps no list of sessions: a cookie is
valid until it expires, or until the team gets another code.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from provision.board.limits import (
    ADDRESSES,
    LOGIN_FAILURES,
    LOGIN_SECONDS,
    SESSION_SECONDS,
)
from provision.core.access_codes import same_code

TEACHER_NAME = ""
"""The team's name in a teacher's cookie: no team has it."""


@dataclass(frozen=True)
class Seat:
    """A team, its lab, and the code that opens it."""

    team: str
    lab: str
    code: str = field(repr=False)


@dataclass(frozen=True)
class BoardRoom:
    """Everybody who may use a board.

    Args:
        key: signs cookies; no browser ever gets it.
        free: whether learners start and end drills themselves, as with one lab on a laptop.
        course: path of the file with the drills of a class; empty without one.
        seeds: of the drills, by team; a team without one gets a random seed.
    """

    title: str
    seats: tuple[Seat, ...]
    teacher_code: str = field(repr=False)
    key: bytes = field(repr=False)
    free: bool = True
    course: str = ""
    seeds: Mapping[str, str] = field(default_factory=dict, repr=False)

    def seat(self, team: str) -> Seat | None:
        """The seat of a team."""
        return next((seat for seat in self.seats if seat.team == team), None)


@dataclass(frozen=True)
class Visitor:
    """A browser whose cookie is valid: one team, or the teacher."""

    team: str
    teacher: bool

    def may_see(self, seat: Seat) -> bool:
        """Whether the lab of a seat is shown to it."""
        return self.teacher or seat.team == self.team


class Throttle:
    """Counts wrong codes by address."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._failures: OrderedDict[str, deque[float]] = OrderedDict()

    def wait(self, address: str) -> float:
        """Seconds until an address may send another code; 0 for at once."""
        times = self._failures.get(address)
        if not times or len(times) < LOGIN_FAILURES:
            return 0.0
        return max(0.0, times[0] + LOGIN_SECONDS - self._clock())

    def failed(self, address: str) -> None:
        """An address has sent a wrong code."""
        times = self._failures.pop(address, deque(maxlen=LOGIN_FAILURES))
        times.append(self._clock())
        self._failures[address] = times
        while len(self._failures) > ADDRESSES:
            self._failures.popitem(last=False)


class Gate:
    """Checks codes and cookies of one room."""

    def __init__(self, room: BoardRoom, clock: Callable[[], float] = time.time) -> None:
        self.room = room
        self._clock = clock

    def visitor_of_code(self, code: str) -> Visitor | None:
        """Who has a code. All codes are compared: the response time reveals nothing."""
        match: Visitor | None = None
        for seat in self.room.seats:
            if same_code(code, seat.code):
                match = Visitor(seat.team, teacher=False)
        if same_code(code, self.room.teacher_code):
            match = Visitor(TEACHER_NAME, teacher=True)
        return match

    def cookie(self, visitor: Visitor) -> str:
        """The value of a cookie for a visitor."""
        expires = int(self._clock()) + SESSION_SECONDS
        team = base64.urlsafe_b64encode(visitor.team.encode()).decode().rstrip("=")
        return f"{expires}.{team}.{self._signature(expires, visitor.team)}"

    def visitor(self, cookie: str) -> Visitor | None:
        """Who has a cookie; None when it is invalid or has expired."""
        try:
            expires_text, encoded, signature = cookie[:400].split(".")
            expires = int(expires_text)
            team = base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4)).decode()
        except ValueError:
            return None
        if team != TEACHER_NAME and self.room.seat(team) is None:
            return None
        if not hmac.compare_digest(signature.encode(), self._signature(expires, team).encode()):
            return None
        if expires < self._clock():
            return None
        return Visitor(team, teacher=team == TEACHER_NAME)

    def _signature(self, expires: int, team: str) -> str:
        seat = self.room.seat(team) if team != TEACHER_NAME else None
        code = seat.code if seat else self.room.teacher_code
        text = "\0".join((str(expires), team, code)).encode()
        return hmac.new(self.room.key, text, hashlib.sha256).hexdigest()


def visible(room: BoardRoom, visitor: Visitor) -> Iterable[Seat]:
    """The seats that a visitor may see."""
    return (seat for seat in room.seats if visitor.may_see(seat))

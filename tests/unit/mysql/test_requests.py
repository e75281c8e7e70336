"""Requests to database machines: every one has its operation, and both survive the wire."""

from __future__ import annotations

from provision.database.agent.gtid import GtidSet
from provision.database.agent.requests import CatchUp, DatabaseRequest, Fence, Inspect
from provision.database.agent.results import CatchUpResult, ServerInspection
from provision.database.agent.role_record import RoleRecord
from provision.database.agent.server_status import ReplicaStatus, ServerStatus
from provision.engine.agent.codec import decode, encode
from provision.engine.payload import registrations


def test_every_request_has_its_operation() -> None:
    operations = [request.operation for request in DatabaseRequest.__subclasses__()]
    registered = [name for name in registrations() if name.startswith("operation mysql.")]
    assert sorted(f"operation {name}" for name in operations) == sorted(registered)


def test_the_result_type_follows_from_the_request() -> None:
    assert (Fence.result, CatchUp.result, Inspect.result) == (
        GtidSet,
        CatchUpResult,
        ServerInspection,
    )


def test_requests_and_results_survive_the_wire() -> None:
    record = RoleRecord("web-01", "web-02", 3, {"web-02": "192.168.56.12"})
    assert decode(Fence, encode(Fence(record))) == Fence(record)
    replica = ReplicaStatus("192.168.56.12", received=GtidSet("a:1-3"))
    status = ServerStatus(up=True, executed=GtidSet("a:1-2"), replica=replica)
    inspection = ServerInspection("web-01", status, {"web-02": ServerStatus()}, record)
    assert decode(ServerInspection, encode(inspection)) == inspection

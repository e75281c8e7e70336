"""Checks of what only the guest book offers: skipped with an application of the user's own."""

from __future__ import annotations

from dataclasses import replace

from provision.checks.base import Check, Verdict
from provision.checks.observation import Observation
from provision.engine.context import Context
from provision.services.app.interface import Application, application

ROW = "only the guest book writes and reads a row through /api"
STATIC = "the application has no folder of static files (--static)"

REASONS = {
    "write": ROW,
    "read-back": ROW,
    "version": "only the guest book reports /version; see the checks release/MACHINE",
    "not-found": "only of the guest book is it known which pages do not exist",
}
"""Why checks do not apply, by the kind of their name (what precedes a slash)."""


def reason(app: Application, name: str) -> str:
    """Why a check does not apply to an application; empty when it does."""
    kind = name.partition("/")[0]
    if app.is_guest_book:
        return ""
    if kind == "static" and not app.static:
        return STATIC
    return REASONS.get(kind, "")


def applicable(context: Context, check: Check) -> Check:
    """The check, or one that is skipped and says why."""
    why = reason(application(context), check.name)
    if not why:
        return check

    def skip(_observation: Observation) -> Verdict:
        return Verdict(True, "not applicable", why, skipped=True)

    return replace(check, judge=skip)

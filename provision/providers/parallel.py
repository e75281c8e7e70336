"""The same work for several machines at once, and one error for all that went wrong."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from provision.core.errors import LabError, ProviderError

_T = TypeVar("_T")


def each(items: Sequence[_T], work: Callable[[_T], None]) -> None:
    """Do this for all, in parallel; then raise what went wrong, as one error.

    Raises:
        LabError: the only one, or a ProviderError with the messages of several.
    """
    if not items:
        return
    errors: list[LabError] = []

    def one(item: _T) -> None:
        try:
            work(item)
        except LabError as error:
            errors.append(error)

    with ThreadPoolExecutor(len(items)) as pool:
        list(pool.map(one, items))
    texts = dict.fromkeys(str(error) for error in errors)
    if len(texts) == 1:
        raise errors[0]
    if texts:
        raise ProviderError("\n".join(texts))

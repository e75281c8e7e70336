"""Run work for several machines at once and report every error, not only the first."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from functools import partial
from typing import TypeVar

from provision.core import clock
from provision.core.errors import LabError

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")


def in_parallel(work: Mapping[K, Callable[[], T]]) -> dict[K, T]:
    """Call all functions at once; the results have the same keys in the same order.

    Raises:
        LabError: the error itself when there is one, one message with all of them otherwise.
    """
    if not work:
        return {}
    results: dict[K, T] = {}
    errors: list[LabError] = []
    with ThreadPoolExecutor(max_workers=len(work)) as pool:
        futures = {key: pool.submit(function) for key, function in work.items()}
        while wait(futures.values(), timeout=0.2).not_done:
            pass  # a wait without a timeout would block Ctrl-C
        for key, future in futures.items():
            try:
                results[key] = future.result()
            except LabError as error:
                errors.append(error)
    messages = list(dict.fromkeys(str(error) for error in errors))
    if len(messages) == 1:
        raise errors[0]
    if messages:
        raise LabError("\n".join(messages))
    return results


def for_each(keys: Iterable[K], function: Callable[[K], T]) -> dict[K, T]:
    """Call one function for every key at once; see `in_parallel`."""
    return in_parallel({key: partial(function, key) for key in keys})


def finish_in_time(work: Mapping[K, Callable[[], T]], seconds: float) -> dict[K, T]:
    """Call all functions at once; returns the results of those that end in time.

    Threads that take longer are left behind, and do not keep the program from exiting.

    Raises:
        Exception: the first one that a function raised in time.
    """
    results: dict[K, T] = {}
    errors: list[Exception] = []

    def call(key: K, function: Callable[[], T]) -> None:
        try:
            results[key] = function()
        except Exception as error:
            errors.append(error)

    threads = [
        threading.Thread(target=call, args=(key, function), daemon=True)
        for key, function in work.items()
    ]
    for thread in threads:
        thread.start()
    deadline = clock.now() + seconds
    for thread in threads:
        while thread.is_alive() and (remaining := deadline - clock.now()) > 0:
            thread.join(min(0.2, remaining))  # a longer wait would block Ctrl-C on Windows
    if errors:
        raise errors[0]
    return {key: results[key] for key in work if key in results}

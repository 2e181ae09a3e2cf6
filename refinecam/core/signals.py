"""Ending a process at once where it is asked to, wherever its main thread is."""

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

ENDING = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))

DEPENDENT = "REFINECAM_ENDS_WITH_PARENT"
"""Name of an environment variable."""


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """End the process with one line and the usual status, 128 plus the signal's number, at SIGTERM and SIGHUP.

    A process of a distributed run, and one with :data:`DEPENDENT` in its environment, also ends when the one that
    started it does, however that ended.

    Python runs a signal's handler between two instructions, which a collective operation of several processes that
    waits for one that has died never reaches. What has to be whole when this happens is written by
    :func:`~refinecam.core.files.write_file`.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    before = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    handlers = {number: signal.signal(number, lambda *_: None) for number in ENDING}
    _forget_in_forks()
    if os.environ.get("LOCAL_RANK", "0") != "0" or DEPENDENT in os.environ:
        threading.Thread(target=_end_with_parent, args=(os.getppid(),), daemon=True).start()
    threading.Thread(target=_watch, args=(reader,), daemon=True).start()
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler or signal.SIG_DFL)
        signal.set_wakeup_fd(before)
        os.write(writer, b"\0")
        os.close(writer)


def _watch(reader: int) -> None:
    while number := int.from_bytes(os.read(reader, 1)):
        if number in ENDING:
            name = signal.Signals(number).name
            print(f"\nerror: stopped by {name}; what is written so far stays", file=sys.stderr, flush=True)
            os._exit(128 + number)
    os.close(reader)


def _end_with_parent(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(128 + signal.SIGTERM)


@cache
def _forget_in_forks() -> None:
    """Leave this process out of what is sent to its forks."""
    os.register_at_fork(after_in_child=lambda: signal.set_wakeup_fd(-1))

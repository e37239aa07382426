"""A sweep's matrices are small: one thread is fastest, and trials beside it want the other cores."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

# The number of threads is the process's: of two that set it at once, the second would keep the first one's.
_LOCK = threading.Lock()


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Let NumPy's linear algebra compute on one thread, and afterwards on as many as before."""
    from threadpoolctl import threadpool_limits

    with _LOCK, threadpool_limits(1, user_api="blas"):
        yield

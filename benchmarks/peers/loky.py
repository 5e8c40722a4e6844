# mypy: disable-error-code="import-not-found"
"""loky: the executor below joblib, one host, no network.

The plain executor rather than the reusable one, since nothing is resized here; plain functions of a module, which
are pickled by name, without cloudpickle. Its workers are programs of their own (it never forks), and stay for good.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import loky

from benchmarks.peers import driver
from benchmarks.peers.executor import Executing


@contextmanager
def start(workers: int) -> Iterator[driver.Peer]:
    executor = loky.ProcessPoolExecutor(workers, timeout=None)
    try:
        peer = Executing(executor)
        peer.await_workers(workers)
        yield peer
    finally:
        executor.shutdown(kill_workers=True)


if __name__ == "__main__":
    driver.serve(start)

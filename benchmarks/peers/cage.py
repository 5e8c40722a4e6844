"""`python -m benchmarks.peers.cage COMMAND …`: runs a command, and leaves nothing of it behind.

Systems start servers and daemons that outlive who started them. All that lose their parent below the cage become its
children (PR_SET_CHILD_SUBREAPER), so that none is missed, and it has no others: when the command has ended, or the cage
is told to end, it kills them by their ids.
"""

import ctypes
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress

from benchmarks.processes import descendants

_PR_SET_CHILD_SUBREAPER = 36
_LIMIT_S = 10.0
"""What killing may take: processes that start others meanwhile are looked for again."""


def main() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    try:
        sys.exit(subprocess.Popen(sys.argv[1:]).wait())
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        _kill_all()


def _kill_all() -> None:
    until = time.monotonic() + _LIMIT_S
    while (left := descendants(os.getpid())) and time.monotonic() < until:
        for pid in left:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        with suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        time.sleep(0.01)


if __name__ == "__main__":
    main()

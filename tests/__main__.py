"""Runs the tests in two halves side by side: most of the time both wait, for timers that must be as long as they are.

`python -m tests [ARGS]` gives ARGS to both. What the second half says comes when the first is through.
"""

import subprocess
import sys
import tempfile

HALVES = (["--ignore=tests/faults", "tests"], ["tests/faults"])
NOTHING_RUN = 5
"""pytest's exit code where its arguments choose no test of a half."""


def main() -> int:
    """Run both halves; return the first exit code that is none of success."""
    command = [sys.executable, "-m", "pytest", "-q", *sys.argv[1:]]
    with tempfile.TemporaryFile("w+") as later:
        behind = subprocess.Popen([*command, *HALVES[1]], stdout=later, stderr=subprocess.STDOUT)
        try:
            codes = [subprocess.run([*command, *HALVES[0]], check=False).returncode, behind.wait()]
        finally:
            behind.terminate()
            behind.wait()
        later.seek(0)
        sys.stdout.write(later.read())
    return next((code for code in codes if code not in (0, NOTHING_RUN)), 0)


if __name__ == "__main__":
    sys.exit(main())

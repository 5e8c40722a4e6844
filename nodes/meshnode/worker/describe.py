"""`python -m meshnode.worker.describe FOLDER TARGET…`: prints what an application would serve, as JSON. Shell.

For `meshctl plan`, which imports nobody's code itself.
"""

import sys

import msgspec

from meshnode.worker.zygote import Config, LoadFailed, load_or_explain


def main() -> int:
    """Print the tasks, or say on standard error why there are none."""
    folder, *targets = sys.argv[1:]
    loaded = load_or_explain(Config("", targets, folder, places=0, concurrency=1))
    if isinstance(loaded, LoadFailed):
        sys.stderr.write(loaded.text + "\n")
        return 1
    sys.stdout.buffer.write(msgspec.json.encode([task.spec() for task in loaded.tasks]))
    return 0


if __name__ == "__main__":
    sys.exit(main())

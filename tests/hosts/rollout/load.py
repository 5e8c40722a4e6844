"""Steady work from a host of its own: `python -m tests.hosts.rollout.load FOLDER TASK …` until TERM, with a ledger."""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
import time
from pathlib import Path

import mesh
from tests.support.ledger import Ledger

SETTLE_S = 40.0


async def run(folder: Path, task: str, *, name: str, nodes: int, rate: float, seconds: float) -> int:
    """Hand in `rate` jobs a second until told to stop; return how many had not ended `SETTLE_S` after that."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    with Ledger(folder) as ledger:
        async with mesh.Client(name) as client:
            await client.wait_ready(task, nodes=nodes, timeout=30)
            print("ready", flush=True)
            due = time.monotonic()
            while not stop.is_set():
                ledger.submit(client, task, seconds, expected=seconds)
                due += 1 / rate
                await asyncio.sleep(max(0.0, due - time.monotonic()))
            await ledger.settle(SETTLE_S)
        return ledger.open


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("task")
    parser.add_argument("--mesh", default="default")
    parser.add_argument("--nodes", type=int, default=3)
    parser.add_argument("--rate", type=float, default=25.0)
    parser.add_argument("--seconds", type=float, default=0.02)
    asked = parser.parse_args()
    asked.folder.mkdir(parents=True, exist_ok=True)
    sys.exit(
        asyncio.run(
            run(asked.folder, asked.task, name=asked.mesh, nodes=asked.nodes, rate=asked.rate, seconds=asked.seconds)
        )
        > 0
    )


if __name__ == "__main__":
    main()

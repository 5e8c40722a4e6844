"""`python -m benchmarks.peers nats celery`: these peers alone; all of them without a name."""

import signal
import sys
from pathlib import Path

import click
from rich.console import Console

from benchmarks.peers import PEERS, environment, measure
from benchmarks.rounds import Size


@click.command()
@click.argument("names", nargs=-1, type=click.Choice(list(PEERS)), metavar="[PEER] …")
@click.option("--quick", is_flag=True, help="Two short rounds: does it work, not how fast it is.")
@click.option(
    "--venv", type=click.Path(path_type=Path), default=environment.CACHE, help="Where the peers are installed."
)
@click.option("--out", type=click.Path(path_type=Path), help="Write peers.json and peers.md to this folder.")
@click.option("--readme", type=click.Path(exists=True, path_type=Path), help="Put the table between its markers there.")
def main(names: tuple[str, ...], quick: bool, venv: Path, out: Path | None, readme: Path | None) -> None:
    """Measure the mesh beside its peers. Exit code 1: none of them has a rate, and nothing was written."""
    signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))  # so that the peers end too
    size = Size(rounds=2, scale=0.1) if quick else Size()
    found = measure(size, Console(), venv=venv, out=out, readme=readme, names=names or tuple(PEERS))
    sys.exit(0 if found else 1)


if __name__ == "__main__":
    main()

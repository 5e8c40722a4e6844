"""What the demo shows: steps, progress, a table and a verdict. Plain lines where there is no terminal."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.markup import escape
from rich.padding import Padding
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

LABEL_WIDTH = 16


class Count(Protocol):
    """Gets the number of what is done so far."""

    def __call__(self, done: int) -> None:
        """Show it."""


class Screen:
    """Writes to standard output."""

    def __init__(self) -> None:
        self.console = Console(highlight=False, soft_wrap=True)

    def title(self, text: str) -> None:
        """Say what comes now."""
        self.console.print(f"\n[bold]{escape(text)}[/]\n")

    def step(self, label: str, text: str) -> None:
        """Tell of something that is ready, or has been said."""
        self.console.print(f"  [green]✓[/] {label:{LABEL_WIDTH}}{escape(text)}")

    def line(self, arrow: str, text: str) -> None:
        """Show a line as it went over a socket."""
        self.console.print(f"    [cyan]{arrow}[/] {escape(text)}")

    def promise(self, held: bool, text: str) -> None:
        """Say whether one promise was kept."""
        self.console.print(f"  [green]✓[/] {escape(text)}" if held else f"  [bold red]✗ {escape(text)}[/]")

    def verdict(self, held: bool, text: str) -> None:
        """Say how it all ended."""
        self.console.print(f"\n[bold {'green' if held else 'red'}]{escape(text)}[/]\n")

    def failure(self, error: BaseException, last_words: str) -> None:
        """Say why the demo came to no end, and what its processes said last."""
        self.console.print(f"\n[bold red]failed:[/] {escape(str(error) or type(error).__name__)}\n")
        self.console.print(escape(last_words))

    def note(self, text: str) -> None:
        """Explain a figure."""
        self.console.print(f"    [dim]{escape(text)}[/]")

    @contextmanager
    def progress(self, label: str, total: int) -> Iterator[Count]:
        """Show how far something is: a bar at a terminal, else a line for every quarter."""
        if not self.console.is_terminal or self.console.is_dumb_terminal:
            yield self._quarters(label, total)
            return
        columns = (
            TextColumn(f"    {{task.description:{LABEL_WIDTH}}}"),
            BarColumn(bar_width=32),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
        )
        with Progress(*columns, console=self.console) as progress:
            bar = progress.add_task(label, total=total)
            yield lambda done: progress.update(bar, completed=done)

    def _quarters(self, label: str, total: int) -> Count:
        shown = 0

        def show(done: int) -> None:
            nonlocal shown
            if done * 4 // total > shown:
                shown = done * 4 // total
                self.console.print(f"    {label:{LABEL_WIDTH}}{done}/{total}")

        return show

    def table(self, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
        """Show figures of two kinds side by side; the first of three columns names them."""
        name, *others = columns
        table = Table(name, box=None, padding=(0, 3, 0, 0), header_style="bold")
        for column, style in zip(others, ("green", "yellow"), strict=True):
            table.add_column(column, justify="right", style=style)
        for row in rows:
            table.add_row(*(escape(cell) for cell in row))
        self.console.print(Padding(table, (0, 0, 0, 4), expand=False))

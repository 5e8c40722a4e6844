"""What a benchmark measures: samples taken in alternation, and figures that set ours against a reference. Pure."""

import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Size:
    """How much to measure: `rounds` of everything in alternation, and `scale` times the usual amount of work."""

    rounds: int = 5
    scale: float = 1.0

    def of(self, amount: int, *, least: int = 1) -> int:
        """Scale an amount of work."""
        return max(least, round(amount * self.scale))


@dataclass(frozen=True)
class Samples:
    """What one contestant reached, a value a round. `part`: it is contained in ours, so that no ratio is meant."""

    name: str
    values: list[float]
    part: bool = False

    @property
    def median(self) -> float:
        """The middle one."""
        return statistics.median(self.values)

    @property
    def spread(self) -> tuple[float, float]:
        """The lowest and the highest."""
        return min(self.values), max(self.values)


@dataclass(frozen=True)
class Figure:
    """One result: ours and what it is compared with, both in `unit`.

    `key` names it in `benchmarks/targets.py` and in the JSON. Without `reference` the figure stands for itself (a
    share, seconds, MB). `others` are shown beside it and compared with too, and no target is set against them.
    `series` belongs in a plot: x and y of each point, by the line's name.
    """

    key: str
    title: str
    unit: str
    ours: Samples
    reference: Samples | None = None
    others: list[Samples] = field(default_factory=list)
    note: str = ""
    series: Mapping[str, list[tuple[float, float]]] = field(default_factory=dict)

    @property
    def value(self) -> float:
        """What a target judges: the median of the ratios of each round to its reference's, or ours alone."""
        return self.ours.median if self.reference is None else ratio(self.ours, self.reference)


def ratio(ours: Samples, reference: Samples) -> float:
    """The median of the rounds' ratios: neighbours in time share what the machine was doing."""
    return statistics.median(a / b for a, b in zip(ours.values, reference.values, strict=True))


def alternate(rounds: int, contestants: Mapping[str, Callable[[], float]]) -> list[Samples]:
    """Measure each contestant once a round, in turn, every other round backwards; in the order of `contestants`."""
    values: dict[str, list[float]] = {name: [] for name in contestants}
    for n in range(rounds):
        for name in list(contestants)[:: -1 if n % 2 else 1]:
            values[name].append(contestants[name]())
    return [Samples(name, taken) for name, taken in values.items()]

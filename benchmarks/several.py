"""Contestants that measure several things in one go: p50 and p99, or bodies of three sizes."""

from collections.abc import Callable, Mapping
from functools import partial

from benchmarks.rounds import Samples, alternate


def alternate_several(
    rounds: int, contestants: Mapping[str, Callable[[], Mapping[str, float]]]
) -> dict[str, dict[str, Samples]]:
    """Measure each contestant once a round, in turn, as `alternate` does; by what was measured, then by contestant."""
    taken: dict[str, list[Mapping[str, float]]] = {name: [] for name in contestants}

    def measure(name: str) -> float:
        taken[name].append(contestants[name]())
        return 0.0

    alternate(rounds, {name: partial(measure, name) for name in contestants})
    return {
        what: {name: Samples(name, [one[what] for one in values]) for name, values in taken.items()}
        for what in next(iter(taken.values()))[0]
    }

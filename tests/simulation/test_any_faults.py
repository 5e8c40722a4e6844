"""Whatever befalls a mesh, every job ends once, none runs twice that must not, and all is well afterwards.

Each seed is one scenario. `SEEDS=10000 pytest tests/simulation` tries more of them, `SEED=123` that one alone.
"""

import os

import pytest

from tests.simulation.faults import Scenario

SEEDS = int(os.environ.get("SEEDS", "300"))
ONLY = os.environ.get("SEED")
AT_ONCE = 50


def run(seed: int) -> None:
    scenario = Scenario(seed)
    try:
        scenario.run()
    except AssertionError as error:
        now = scenario.world.agenda.now
        told = "\n  ".join(scenario.told)
        again = f"SEED={seed} .venv/bin/python -m pytest -q tests/simulation/test_any_faults.py"
        raise AssertionError(f"seed {seed}, at {now:.6f}: {error}\n  {told}\nthis seed alone: {again}") from error


@pytest.mark.parametrize("first", range(0, SEEDS, AT_ONCE) if ONLY is None else [int(ONLY)])
def test_whatever_befalls_it_every_job_ends_once_and_all_is_well_afterwards(first: int) -> None:
    for seed in range(first, min(first + AT_ONCE, SEEDS)) if ONLY is None else [first]:
        run(seed)


def test_a_seed_makes_the_same_happen_each_time() -> None:
    stories = []
    for _ in range(2):
        scenario = Scenario(7)
        scenario.run()
        stories.append([entry.story() for entry in scenario.world.ledger.jobs.values()])
    assert stories[0] == stories[1]

"""What `docs/metrics.md`, the dashboard and the alerts name is what a node exports, and the other way round."""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from mesh.wire.messages import CRASH, Lost
from mesh.wire.reports import Status, WorkerStatus
from meshnode.core.counts import BOUNDS, Counts
from meshnode.metrics import STATES, BridgeSeen, Seen, Shown, WorkersSeen
from tests.support.documents import text
from tests.support.scheduling import job_id

NAME = re.compile(r"\b(?:meshnode|process)_[a-z_]+\b")
ROW = re.compile(r"^\| `(meshnode_\w+)` \| (\w+) \| ([^|]*)\|", re.MULTILINE)
SERIES = ("_bucket", "_count", "_sum")


def seen() -> Seen:
    """A node at which everything has happened."""
    counts = Counts()
    counts.serve(["slow"])
    counts.told("slow", 3, failed=1, cancelled=0)
    counts.ended("slow", Lost(job_id(1), 1, CRASH, True, ""))
    counts.ran("slow", 2, 1.5, 1.0)
    workers = [
        WorkerStatus(slot=0, pid=1, ready=True, age=1.0, outstanding=1),
        WorkerStatus(slot=1, pid=2**22, ready=True, age=1.0, outstanding=0),
        WorkerStatus(slot=1, pid=2**22 + 1, ready=False, age=1.0, outstanding=0),
    ]
    status = Status(
        name='a "name"', id="0" * 32, mesh="shop", state="running", pid=1, uptime=1.0, slots=2, workers=workers
    )
    return Seen(
        status=status, version="1", epoch="00", started=1.5, idle=1, counts=counts,
        workers=WorkersSeen(3, 1, 0, 0), bridge=BridgeSeen(), malformed=0, unknown=0,
    )  # fmt: skip


def exported() -> Iterator[Any]:
    return iter(text_string_to_metric_families(Shown().text(seen()).decode()))


def written_name(family: Any) -> str:
    name: str = family.name
    return f"{name}_total" if family.type == "counter" else name


def named(document: str) -> set[str]:
    """The metrics that a document names; a histogram's series count as it."""
    return {_of_series(name) for name in NAME.findall(text(document))} - {"meshnode_"}


def _of_series(name: str) -> str:
    return next((name.removesuffix(end) for end in SERIES if name.endswith(end)), name)


def test_the_page_lists_exactly_what_is_exported() -> None:
    rows = {
        name: (kind, set(re.findall(r"`(\w+)`", labels))) for name, kind, labels in ROW.findall(text("docs/metrics.md"))
    }
    there = {
        written_name(family): (family.type, {label for sample in family.samples for label in sample.labels} - {"le"})
        for family in exported()
        if family.name.startswith("meshnode")
    }
    assert rows == there


def test_the_page_names_exactly_the_process_metrics_that_are_exported() -> None:
    there = {written_name(family) for family in exported()}
    assert named("docs/metrics.md") - {"meshnode_version"} == there


@pytest.mark.parametrize("document", ["docs/grafana-dashboard.json", "docs/alerts.yml"])
def test_what_a_document_asks_for_is_exported(document: str) -> None:
    there = {written_name(family) for family in exported()}
    assert len(named(document)) >= 8
    assert named(document) <= there


def test_the_dashboard_shows_every_metric_of_the_node() -> None:
    there = {written_name(family) for family in exported() if family.name.startswith("meshnode")}
    assert there <= named("docs/grafana-dashboard.json")


def test_the_dashboard_leaves_its_data_source_to_whoever_imports_it() -> None:
    dashboard = json.loads(text("docs/grafana-dashboard.json"))
    assert dashboard["schemaVersion"] >= 38
    variables = {one["name"]: one for one in dashboard["templating"]["list"]}
    assert variables["datasource"]["type"] == "datasource"
    sources = [part["datasource"]["uid"] for panel in dashboard["panels"] for part in [panel, *panel["targets"]]]
    assert set(sources) == {"${datasource}"}
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])
    used = set(re.findall(r"\$(\w+)", json.dumps(dashboard["panels"])))
    assert used - {"__rate_interval"} <= set(variables)


def test_every_series_stands_there_once_though_a_slot_has_two_workers() -> None:
    samples = [(sample.name, *sorted(sample.labels.items())) for family in exported() for sample in family.samples]
    assert len(samples) == len(set(samples))


def test_a_histogram_counts_up_to_all_of_them() -> None:
    (run,) = [family for family in exported() if family.name == "meshnode_job_run_seconds"]
    buckets = [s.value for s in run.samples if s.name.endswith("_bucket") and s.labels["task"] == "slow"]
    assert buckets == sorted(buckets)
    assert len(buckets) == len(BOUNDS) + 1
    assert {s.name[-5:]: s.value for s in run.samples if "le" not in s.labels and s.labels["task"] == "slow"} == {
        "count": 2.0, "s_sum": 1.5,
    }  # fmt: skip


def test_the_state_is_one_of_those_that_are_listed() -> None:
    (state,) = [family for family in exported() if family.name == "meshnode_state"]
    assert {s.labels["state"]: s.value for s in state.samples} == {name: float(name == "running") for name in STATES}

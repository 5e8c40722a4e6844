"""What a deploy would break: the tasks that nodes serve now, against those that the new code would serve. Pure."""

from collections.abc import Mapping, Sequence

from msgspec import Struct

from mesh.wire.messages import Parameter, TaskSpec

ONLY_POSITIONAL, EITHER, ANY_POSITIONAL, ONLY_NAMED, ANY_NAMED = range(5)
"""Kinds of parameters, as Python's `inspect` numbers them."""


class Break(Struct, frozen=True):
    """Calls that find no home after the deploy: of which task, why, and which nodes serve them now."""

    task: str
    why: str
    nodes: list[str]


class Plan(Struct, frozen=True):
    """What would come of a deploy. `changed` fits all calls that are good now."""

    breaks: list[Break]
    added: list[str]
    changed: list[str]
    same: list[str]


def compare(served: Mapping[str, Sequence[TaskSpec]], new: Sequence[TaskSpec]) -> Plan:
    """Compare what each node serves, by its name, with what the new code would."""
    coming = {spec.name: spec for spec in new}
    homes: dict[tuple[str, str], tuple[TaskSpec, list[str]]] = {}
    for node, specs in served.items():
        for spec in specs:
            homes.setdefault((spec.name, repr(spec.parameters)), (spec, []))[1].append(node)
    breaks: list[Break] = []
    changed: set[str] = set()
    for spec, nodes in homes.values():
        anew = coming.get(spec.name)
        if anew is None:
            breaks.append(Break(spec.name, "the new code does not serve it", nodes))
            continue
        reasons = misfits(spec.parameters, anew.parameters)
        if reasons:
            breaks.append(Break(spec.name, "; ".join(reasons), nodes))
        elif spec.parameters != anew.parameters:
            changed.add(spec.name)
    known = {spec.name for spec, _ in homes.values()}
    broken = {one.task for one in breaks}
    same = sorted(known & set(coming) - changed - broken)
    breaks.sort(key=lambda one: one.task)
    return Plan(breaks, sorted(set(coming) - known), sorted(changed - broken), same)


def misfits(old: Sequence[Parameter], new: Sequence[Parameter]) -> list[str]:
    """Say why calls that fit the old parameters may not fit the new ones; nothing if all of them do."""
    return [*_gone(old, new), *_needed(old, new), *_narrowed(old, new)]


def _positional(parameters: Sequence[Parameter]) -> list[Parameter]:
    return [one for one in parameters if one.kind in (ONLY_POSITIONAL, EITHER)]


def _has(parameters: Sequence[Parameter], kind: int) -> bool:
    return any(one.kind == kind for one in parameters)


def _gone(old: Sequence[Parameter], new: Sequence[Parameter]) -> list[str]:
    """What can be given now and could not then."""
    reasons: list[str] = []
    places = _positional(new)
    named = {one.name for one in new if one.kind in (EITHER, ONLY_NAMED)}
    by_name = _has(new, ANY_NAMED)
    for place, one in enumerate(_positional(old)):
        there = places[place] if place < len(places) else None
        if one.kind == EITHER and one.name not in named and not by_name:
            reasons.append(f"{one.name!r} is gone")
        elif there is None and not _has(new, ANY_POSITIONAL):
            reasons.append(f"{one.name!r} cannot be given by position any more")
        elif there is not None and one.kind == EITHER and there.name != one.name:
            reasons.append(f"{there.name!r} stands where {one.name!r} stood")
    reasons += [
        f"{one.name!r} is gone" for one in old if one.kind == ONLY_NAMED and one.name not in named and not by_name
    ]
    return reasons


def _needed(old: Sequence[Parameter], new: Sequence[Parameter]) -> list[str]:
    """What must be given then and need not be now."""
    former = {one.name: one for one in old}
    places = _positional(old)
    reasons: list[str] = []
    for place, one in enumerate(new):
        before = former.get(one.name)
        if before is None and one.kind == ONLY_POSITIONAL and place < len(places):
            before = places[place]  # it goes by its place: its name is nobody's
        if one.required and before is None:
            reasons.append(f"{one.name!r} is new and must be given")
        elif one.required and before is not None and not before.required:
            reasons.append(f"{one.name!r} must be given")
    return reasons


def _narrowed(old: Sequence[Parameter], new: Sequence[Parameter]) -> list[str]:
    reasons: list[str] = []
    if _has(old, ANY_POSITIONAL) and not _has(new, ANY_POSITIONAL):
        reasons.append("further arguments by position are not taken any more")
    if _has(old, ANY_NAMED) and not _has(new, ANY_NAMED):
        reasons.append("further arguments by name are not taken any more")
    return reasons

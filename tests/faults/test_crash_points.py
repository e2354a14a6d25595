"""The process ends before or after each single AWS call, then everything is delivered twice more.

Every flow is counted first, so no call is left out. At the end time passes, only the timers run, and the whole table
is audited.
"""

from __future__ import annotations

from itertools import pairwise

import pytest

from tests.faults.audit import check_invariants, quiesce
from tests.faults.flows import FLOWS, GROUPS, World
from tests.faults.hooks import Crash, at_call, count_calls, faults, new_process

pytestmark = pytest.mark.usefixtures("stack")


def play_crash_points(names: tuple[str, ...], clock) -> dict[str, int]:
    """Crash each flow at every point, each time about another order; answers how many points each flow had.

    After one call is before the next: nothing durable happens in between. So each call once, and the end of the last.
    For the same reason a walk over the partitions of an index is interrupted at its first query only.
    """
    world = World(clock)
    points: dict[str, str] = {}
    counts: dict[str, int] = {}
    for name in names:
        flow = FLOWS[name]
        world.products.clear()
        subject = flow.start(world)
        calls = count_calls(lambda flow=flow, subject=subject: flow.act(world, subject))
        flow.check_end(subject)
        walked = [before.operation == call.operation == "Query" for before, call in pairwise(calls)]
        tried = [call for call, is_walked in zip(calls, [False, *walked], strict=True) if not is_walked]
        for fault, call in [*(("crash_before", call) for call in tried), ("crash_after", calls[-1])]:
            subject = flow.start(world)
            points[subject.order_id] = f"{name}: {fault} {call}"
            with faults(at_call(call.number, fault)), pytest.raises(Crash):
                flow.act(world, subject)
            for _ in range(2):
                new_process()
                flow.act(world, subject)
            try:
                flow.check_end(subject)
            except AssertionError as broken:
                raise AssertionError(f"{points[subject.order_id]}: {broken}") from broken
        counts[name] = len(tried) + 1
    try:
        check_invariants(world.now, shown=world.shown, is_quiet=False)
        check_invariants(quiesce(clock), shown=world.shown)
    except AssertionError as broken:
        raise AssertionError(f"{broken}\n{points}") from broken
    return counts


# The count of held keys is one write after a long walk: losing its answer (elsewhere) says what a crash would.
@pytest.mark.parametrize("group", [group for group in GROUPS if group != "the held figure"])
def test_a_crash_anywhere_loses_nothing_and_doubles_nothing(group, clock):
    counts = play_crash_points(GROUPS[group], clock)
    print(counts)
    assert all(points >= 3 for points in counts.values()), "a flow that asks so little of AWS was not played"

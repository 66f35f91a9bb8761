"""All nodes use another release, or none does: the order of it, without ROS."""

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from vla_mbpo.releases.swapping import Answer, swap

NODES = ("gate", "policy", "imagination", "task")


class Stack:
    """Nodes that load and switch, some of which fail at one of it."""

    def __init__(self, load=(), switch=(), lie=(), running=0):
        self.live = dict.fromkeys(NODES, "old")
        self.loaded = {node: {"old"} for node in NODES}
        self.fails, self.lie, self.running, self.log = {False: set(load), True: set(switch)}, lie, running, []

    def ask(self, node, release, now):
        return asyncio.ensure_future(self._ask(node, release, now))

    async def _ask(self, node, release, now):
        await asyncio.sleep(0)
        self.log.append((node, release, now))
        if release == "new" and node in self.fails[now]:
            return Answer(False, "cannot")
        self.loaded[node].add(release)
        if now:
            assert release in self.loaded[node] and not self.running
            self.live[node] = release
        version = "?" if node in self.lie and release == "new" else self.live[node]
        return Answer(True, "", version)

    async def boundary(self):
        assert all("new" in loaded for loaded in self.loaded.values())
        if self.running < 0:
            return "the attempt does not end"
        self.running = 0
        return ""

    def swap(self):
        expected = dict.fromkeys(NODES, "new")

        async def made():
            return await swap("new", "old", NODES, expected, self.ask, self.boundary)

        return asyncio.run(made())


some = st.sets(st.sampled_from(NODES))


@given(some, some, some, st.integers(-1, 1))
def test_all_or_none(load, switch, lie, running):
    stack = Stack(load, switch, lie, running)
    fault = stack.swap()
    assert set(stack.live.values()) == {"old" if fault else "new"}
    assert bool(fault) == bool(load or switch or lie or running < 0)


@given(some)
def test_nobody_switches_before_all_have_loaded(load):
    stack = Stack(load)
    stack.swap()
    first = next((i for i, (_, _, now) in enumerate(stack.log) if now), len(stack.log))
    assert {node for node, _, _ in stack.log[:first]} == set(NODES)
    assert not load or first == len(stack.log)


def test_who_could_not_and_why():
    assert Stack(load={"policy"}).swap() == "policy: cannot"


def test_another_version_than_stated_is_no_success():
    assert "imagination: uses '?', expected 'new'" in Stack(lie={"imagination"}).swap()

"""The store: whatever happens, what is live is a complete release, and a rollback brings back what was before."""

import json
import os
import signal
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vla_mbpo.core.errors import ConfigError
from vla_mbpo.releases.release import assemble
from vla_mbpo.releases.store import FILE, State, Store

names = st.sampled_from(["a", "b", "c", "d"])


@given(st.lists(st.one_of(names, st.none())))
def test_a_store_is_a_stack_of_promotions(steps):
    state, model = State(), []
    for name in steps:
        try:
            state = state.promoted(name, "now", "") if name else state.rolled_back("now", "")
        except ConfigError:
            assert model[-1:] == [name] if name else len(model) < 2
            continue
        model = [*model, name] if name else model[:-1]
    assert (state.live, state.previous) == (model[-1] if model else "", model[-2] if len(model) > 1 else "")
    assert len(state.history) >= len(model)


@given(st.lists(names, min_size=1, unique=True), names)
def test_a_rollback_undoes_a_promotion(before, name):
    state = State()
    for one in before:
        state = state.promoted(one, "now", "")
    if name != state.live:
        after = state.promoted(name, "now", "").rolled_back("now", "")
        assert (after.live, after.previous) == (state.live, state.previous)


def add(store, policy):
    return store.add(lambda folder: assemble(folder, policy, {"reason": "test"})).path.name


@pytest.fixture
def store(tmp_path, policies):
    made = Store(tmp_path / "releases")
    with made.locked():
        made.promote(add(made, policies["old"]), "first")
    return made


def test_what_is_promoted_is_found_again(store, policies):
    with store.locked():
        name = add(store, policies["new"])
        assert store.release("live").policy.version == policies["old"].version  # adding is not promoting
        store.promote(name, "better")
    again = Store(store.folder)
    assert again.release("live").policy.version == policies["new"].version
    assert again.release(again.state().previous).policy.version == policies["old"].version
    assert [entry["reason"] for entry in again.state().history] == ["first", "better"]


def test_one_writer_at_a_time(store):
    with store.locked(), pytest.raises(ConfigError, match="another process"), Store(store.folder).locked():
        pass


def test_a_release_that_is_not_there_is_not_promoted(store):
    with store.locked(), pytest.raises(ConfigError, match="nowhere"):
        store.promote("nowhere", "")


def test_a_changed_file_of_the_live_release_is_named(store):
    (store.find("live") / "policy" / "step.int8.onnx").write_bytes(b"something else")
    with pytest.raises(ConfigError, match="policy/step.int8.onnx.*sha256"):
        store.release("live")


@pytest.mark.parametrize("text", ["", "{}", "[]", "null", '{"live": "x", "previous": "", "history": []}'])
def test_a_damaged_file_is_said_and_not_guessed(store, text):
    (store.folder / FILE).write_text(text)
    with pytest.raises(ConfigError, match="live.json"):
        store.state()


def test_who_is_live_is_not_believed_against_the_history(store):
    content = json.loads((store.folder / FILE).read_text())
    (store.folder / FILE).write_text(json.dumps({**content, "live": "another"}))
    with pytest.raises(ConfigError, match="history"):
        store.state()


def killed_at(event: int, action) -> bool:
    """Run ``action`` in a child that is killed with SIGKILL at its ``event``-th look at the disk; whether it was."""
    child = os.fork()
    if child == 0:
        left = [event]

        def count(name, _):
            if name.startswith(("open", "os.", "shutil.", "fcntl.")) and name != "os.kill":
                left[0] -= 1
                if left[0] < 0:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(count)
        try:
            action()
        finally:
            os._exit(0)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


def test_a_kill_at_any_moment_of_a_promotion_leaves_the_old_or_the_new_one_live(store, policies):
    before, event, file = store.state(), 0, store.folder / FILE
    content = file.read_text()

    def promotion():
        with store.locked():
            store.promote(add(store, policies["new"]), "better")

    while killed_at(event, promotion):
        event += 1
        state = store.state()
        assert store.release("live").policy.version in (policies["old"].version, policies["new"].version)
        assert state.live == before.live or state.previous == before.live
        with store.locked():  # the lock went with the child
            file.write_text(content)
    assert event > 30 and store.release("live").policy.version == policies["new"].version
    assert len(list(store.folder.glob(".partial-*"))) == 0


def test_a_kill_at_any_moment_of_a_rollback_leaves_the_old_or_the_new_one_live(store, policies):
    with store.locked():
        store.promote(add(store, policies["new"]), "better")
    before, event = store.state(), 0

    def rollback():
        with store.locked():
            store.rollback("test")

    while killed_at(event, rollback):
        event += 1
        state = store.state()
        assert state.live in (before.live, before.previous)
        store.release("live")
        if state.live != before.live:
            break
    assert event > 3 and Store(store.folder).state().live == before.previous

"""``vla-mbpo rollback``: the release before the live one is live again, in the store and in the running stack."""

import argparse
import sys

from vla_mbpo.core.errors import require
from vla_mbpo.paths import store_dir
from vla_mbpo.releases.running import running_stack
from vla_mbpo.releases.store import Store

EXIT_OK, EXIT_REFUSED = 0, 1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add = parser.add_argument
    add("--store", default="", help="folder of the releases; default: releases/ below VLA_MBPO_HOME")
    add("--reason", default="rolled back by hand", help="kept in the store's history")
    add("--wait", action="store_true", help="let a running attempt end by itself; otherwise it is stopped")
    add("--no-swap", action="store_true", help="leave a running stack as it is")
    add("--list", action="store_true", help="show releases and history, and change nothing")


def run(args: argparse.Namespace) -> int:
    """Roll back. Returns the exit code."""
    store = Store(store_dir(args.store))
    if args.list:
        _list(store)
        return EXIT_OK
    with store.locked(), running_stack(store.folder, not args.no_swap) as stack:
        state = store.state()
        astray = stack.used not in ("", state.live)  # a promotion was interrupted after the stack had been asked
        wanted = state.live if astray else state.previous
        require(bool(wanted), "rollback", state.live or "nothing live", "no release was live before it")
        swapped = stack.swap(store.release(wanted).path, now=not args.wait)
        print(swapped.message)
        if swapped.refused:
            print(f"{state.live} stays live; to leave the stack as it is: --no-swap", file=sys.stderr)
            return EXIT_REFUSED
        if astray:
            print(f"the running stack uses {state.live} again, which is live; it used {stack.used}")
            return EXIT_OK
        store.rollback(args.reason)
    print(f"{wanted} is live again, {state.live} is not")
    return EXIT_OK


def _list(store: Store) -> None:
    state = store.state()
    marks = {state.live: "live", state.previous: "previous"}
    for name in store.names():
        print(f"{marks.get(name, ''):9} {name}")
    for entry in state.history:
        print(f"{entry['date']} {entry['action']:9} {entry['name']}: {entry['reason']}")

"""Export, build, verify and benchmark the graphs of one bundle."""

import contextlib
import datetime
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vla_mbpo.engines import cuda, libraries
from vla_mbpo.engines.build import Built, build
from vla_mbpo.engines.cache import PRECISIONS, Cache, Compiled, Key
from vla_mbpo.engines.graphs import CANDIDATES, compiled
from vla_mbpo.engines.samples import feeds
from vla_mbpo.engines.sessions import Feed, Run, Unavailable, cpu_session, cuda_session, shipped
from vla_mbpo.engines.verify import action_error, agreement, timed
from vla_mbpo.policy.bundle import Bundle


@dataclass(frozen=True)
class Plan:
    """What is wanted.

    Attributes:
        library: tensorrt or tensorrt_rtx; empty: no engines.
        architectures: to build for.
        precisions: of ``PRECISIONS``.
        device: this machine's GPU; None: engines cannot be verified here.
        cache: where all is kept.
        run: folder of the world model's training.
        anew: export and build what is there already.
        repeats: of each timing; 0: none.
        say: told a line at a time.
    """

    library: str
    architectures: tuple[str, ...]
    precisions: tuple[str, ...] = PRECISIONS
    device: cuda.Device | None = None
    cache: Cache = field(default_factory=Cache)
    run: Path | None = None
    anew: bool = False
    repeats: int = 0
    say: Callable[[str], None] = print


def compile_bundle(bundle: Bundle, plan: Plan) -> dict[str, Any]:
    """What came of it, by graph; ``ok`` is false where something that was verified is not the same.

    Raises:
        Refused: a graph cannot become an engine; the operator is named.
        ConfigError: see ``compiled`` and ``build``.
    """
    graphs = compiled(bundle, plan.cache, plan.run, plan.anew)
    sessions = {graph.name: cpu_session(graph.onnx("fp32"), 1) for graph in graphs}
    told = [feeds(bundle, sessions, k, seed) for seed, k in enumerate(CANDIDATES)]
    reference: dict[str, Run] = {name: session.run for name, session in sessions.items()}
    result: dict[str, Any] = {"bundle": bundle.version, "graphs": {}, "ok": True}
    ran: list[Ran] = []
    policy = bundle.manifest["kind"] == "policy"
    for graph in graphs:
        _tell(graph, plan.say)
        mine = [feed[graph.name] for feed in told]
        engines = []
        for built in _engines(graph, plan):
            record = built.record
            if plan.device is not None and built.key.target == _target(plan):
                # Of a policy's engine that says the same it is not yet known whether the actions are the same.
                ran.append(_verified(graph, built, reference[graph.name], mine, plan, final=not policy))
                record = ran[-1].record
                result["ok"] &= ran[-1].same
            engines.append(record | {"built_now_seconds": round(built.seconds, 2)})
        result["graphs"][graph.name] = {"onnx": graph.record["onnx"], "engines": engines}
    runs = _by_where(ran)
    for name, file in shipped(bundle.path).items():
        runs.setdefault("cpu, as shipped", {})[name] = cpu_session(file, 1).run
    runs["cpu fp32"] = reference
    if plan.device is not None:
        with contextlib.suppress(Unavailable):  # another onnxruntime is another environment's
            runs["cuda fp32"] = {graph.name: cuda_session(graph.onnx("fp32"), 1).run for graph in graphs}
    if policy:
        half = {g.name: cpu_session(g.onnx("fp16"), 1).run for g in graphs if "fp16" in g.record["onnx"]}
        result["actions"] = _compared_actions(bundle, reference, {**runs, "cpu fp16": half}, plan.say)
        result["ok"] &= all(moved["ok"] for moved in result["actions"].values())
        _settle(ran, result["actions"])
    _time(runs, told[0], plan, result)
    return result


@dataclass(frozen=True)
class Ran:
    """An engine that ran here: of which graph, what is known of it, and whether it says the same as the graph."""

    graph: Compiled
    key: Key
    record: dict[str, Any]
    run: Run
    same: bool

    @property
    def where(self) -> str:
        """What runs it, as sessions call it."""
        return f"{self.key.library} {self.record['precision']}"


def _by_where(ran: list[Ran]) -> dict[str, dict[str, Run]]:
    """Runs by what runs them, then by graph. A graph without half precision runs in full beside the others' half."""
    found: dict[str, dict[str, Run]] = {}
    for one in ran:
        found.setdefault(one.where, {})[one.graph.name] = one.run
    for where, graphs in found.items():
        for name, run in found.get(where.replace("fp16", "fp32"), {}).items():
            graphs.setdefault(name, run)
    return found


def _settle(ran: list[Ran], actions: dict[str, Any]) -> None:
    """Write into the records of a policy's engines whether nodes may use them: all of a precision, or none."""
    for one in ran:
        moved = actions.get(one.where)
        together = all(other.same for other in ran if other.where == one.where)
        ok = moved is not None and moved["ok"] and together
        one.record["verified"].update(ok=ok, actions=moved)  # in the result, too, which holds the same
        one.graph.note(one.key, one.record)


def _tell(graph: Compiled, say: Callable[[str], None]) -> None:
    full, half = (graph.record["onnx"].get(precision) for precision in PRECISIONS)
    text = f"export     {graph.name}: fp32 {full['bytes'] / 1e6:.1f} MB"
    if half is None:
        say(f"{text}; no fp16: {full['no_fp16']}")
        return
    kept = sum(half["kept_fp32"].values())
    same = half["on_cpu"]["cosine"]
    say(f"{text}, fp16 {half['bytes'] / 1e6:.1f} MB ({kept} of {half['nodes']} nodes stay fp32; cosine {same:.6f})")


def _engines(graph: Compiled, plan: Plan) -> list[Built]:
    made = []
    for architecture in plan.architectures if plan.library else ():
        for precision in plan.precisions:
            if precision not in graph.record["onnx"]:
                continue
            gpu = plan.device.name if plan.device and plan.device.architecture == architecture else ""
            built = build(graph, precision, plan.library, architecture, gpu, plan.anew)
            took = f"{built.seconds:.1f} s" if built.seconds else "in the cache"
            size = built.record["bytes"] / 1e6
            key = built.key
            plan.say(
                f"build      {graph.name} {precision} {key.library} {key.version} {key.target}: {size:.1f} MB, {took}"
            )
            made.append(built)
    return made


def _target(plan: Plan) -> str:
    assert plan.device is not None
    return libraries.target(plan.library, plan.device.architecture, plan.device.name)


def _verified(graph: Compiled, built: Built, reference: Run, told: list[Feed], plan: Plan, final: bool) -> Ran:
    """The engine that runs, and its record with what was found; ``ok`` there only if nothing else is to be asked."""
    from vla_mbpo.engines.tensorrt import Engine

    assert plan.device is not None
    engine = Engine(graph.plan(built.key), built.key.library)
    same = agreement(reference, engine.run, told)
    today = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    about = {"gpu": plan.device.name, "driver": plan.device.driver, "memory": engine.memory, "at": today}
    verified = about | same.to_dict() | {"ok": same.ok and final}
    record = graph.note(built.key, built.record | {"verified": verified})
    said = "the same" if same.ok else "NOT the same: no node will use it"
    plan.say(f"verify     {graph.name} {record['precision']}: cosine {same.cosine:.6f}, {said}")
    return Ran(graph, built.key, record, engine.run, same.ok)


def _compared_actions(
    bundle: Bundle, reference: dict[str, Run], runs: dict[str, dict[str, Run]], say: Callable[[str], None]
) -> dict[str, Any]:
    """How far a policy's actions move, by what runs both its graphs."""
    found = {}
    for where, graphs in runs.items():
        if graphs is reference or set(graphs) != set(reference):
            continue
        found[where] = action_error(bundle, reference, graphs)
        say(f"verify     actions, {where}: error {found[where]['ratio']:.2%} of the sampler's own noise")
    return found


def _time(runs: dict[str, dict[str, Run]], told: dict[str, Feed], plan: Plan, result: dict[str, Any]) -> None:
    if not plan.repeats:
        return
    result["latency_ms"] = {}
    for where, graphs in runs.items():
        for name, run in graphs.items():
            took = timed(lambda run=run, feed=told[name]: run(None, feed), plan.repeats)  # type: ignore[misc]
            result["latency_ms"].setdefault(name, {})[where] = took
            plan.say(f"benchmark  {name}, {where}: p50 {took['p50']:.2f} ms, p99 {took['p99']:.2f} ms")

"""The page of a training run: recipe, log, curves, refills, what the world model imagines of the log, rounds."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vla_mbpo.core.errors import ConfigError, require
from vla_mbpo.reports.page import Html, details, heading, page, paragraph, row, save, table
from vla_mbpo.reports.plot import Plot, Series

STATE = "state.json"
NOT_PLOTTED = ("step", "samples_per_s")
REFILLED = ("cost_share", "multiplier", "kept", "rows_saved")  # the columns that come first
PLACES = 4  # of numbers


def write(run: Path, out: Path | None = None, world_model: str = "") -> Path:
    """Write the page of a run folder. Returns where it is.

    Args:
        run: the folder, with state.json.
        out: the HTML file; None: report.html in the folder.
        world_model: bundle that imagines; empty: the one of the recipe, where there is one.

    Raises:
        ConfigError: no run folder.
        OSError: ``out`` cannot be written.
    """
    try:
        state = json.loads((run / STATE).read_text())
        require(isinstance(state["recipe"], dict), STATE, state["recipe"], "a recipe")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError("run", str(run), f"a folder with {STATE} of a run ({type(error).__name__})") from None
    out = out or run / "report.html"
    save(_page(run.resolve(), state, world_model), out)
    return out


def after_run(run: Path) -> str:
    """Write the page at the end of a run. Returns a line that says where it is or why not: nothing is raised."""
    try:
        return f"report: {write(run)}"
    except Exception as error:  # a run of hours does not fail because of its page
        return f"no report: {type(error).__name__}: {error}"


def _page(run: Path, state: Mapping[str, Any], world_model: str) -> str:
    recipe, refills, log = state["recipe"], state.get("refills", []), state.get("log", {})
    parts: list[str] = [table(("", "value"), _summary(state), "The run")]
    parts.append(details(f"Recipe, {len(recipe)} values", table(("", "value"), _values(recipe), "Recipe")))
    if log:
        parts += [heading("Log"), *_log(log)]
    parts += [heading("Curves"), _curves(state.get("history", []), "optimiser step")]
    if refills:
        parts += [heading("Refills"), _curves(refills, "optimiser step"), *_refills(refills)]
    if files := sorted((run / "dreams").glob("*.npz"), key=lambda file: (len(file.stem), file.stem)):
        parts += [heading(f"Dreams at step {files[-1].stem}"), *_kept(files[-1])]
    chosen = world_model or recipe.get("vetting", "")
    if chosen:
        parts += [heading("What the world model imagines of the log"), *_dreams(recipe, chosen)]
    rounds = state.get("rounds", [])
    if rounds:
        parts += [heading("Rounds"), paragraph("From the first training of the policy to this run."), *_rounds(rounds)]
    return page(f"Training run {run.name}", *parts)


def _summary(state: Mapping[str, Any]) -> list[tuple[str, str]]:
    recipe = state["recipe"]
    found = []
    if "step" in state:
        steps = f" of {recipe['samples'] // recipe['batch']}" if {"samples", "batch"} <= set(recipe) else ""
        found.append(("optimiser steps", f"{state['step']}{steps}"))
    for name in ("observations", "rollouts", "attempts", "failures", "policies"):
        if name in state:
            found.append((name, _text(state[name])))
    named = [(name, _text(recipe[name])) for name in ("policy", "world_model", "data", "seed") if name in recipe]
    return found + named


def _log(log: Mapping[str, Any]) -> list[Html]:
    """Facts of the log, its admission and its episodes."""
    flat = {name: value for name, value in log.items() if not isinstance(value, dict)}
    admission = {f"world model on the log: {name}": value for name, value in log.get("admission", {}).items()}
    found = [table(("", "value"), _values(flat | admission), "The log that was learned from")]
    others = {name: value for name, value in log.items() if isinstance(value, dict)}
    others.pop("admission", None)
    episodes = others.pop("episodes", {})
    found += [details(f"Log: {name}", table(("", "value"), _values(value), name)) for name, value in others.items()]
    if episodes:
        rows = [(name, *(_text(v) for v in value.values())) for name, value in episodes.items() if "looks" in name]
        plain = {name: value for name, value in episodes.items() if "looks" not in name}
        found.append(
            details("Episodes of the log", table(("", "value"), _values(plain), "Episodes, shares of attempts"))
        )
        if rows:
            found.append(details("Looks", table(("third of the attempt", "first", "middle", "last"), rows, "Looks")))
    return found


def _curves(history: Sequence[Mapping[str, float]], axis: str) -> Html:
    names = list(dict.fromkeys(key for line in history for key in line if key not in NOT_PLOTTED))
    if not names:
        return paragraph("Nothing was reported: the run is shorter than the interval of its reports.")
    drawn = []
    for name in names:
        points = [(float(line["step"]), float(line[name])) for line in history if name in line]
        words = f"From {points[0][1]:.3g} to {points[-1][1]:.3g}."
        drawn.append(Plot(name, axis, "", lines=[Series(name, points)], words=words).figure())
    return row(*drawn)


def _refills(refills: Sequence[Mapping[str, float]]) -> list[Html]:
    every = list(dict.fromkeys(key for line in refills for key in line if key != "step"))
    names = [name for name in REFILLED if name in every] + [name for name in every if name not in REFILLED]
    rows = [(_text(line["step"]), *(_text(line[name]) if name in line else "" for name in names)) for line in refills]
    whole = table(("step", *names), rows, f"{len(refills)} refills; rows saved and changes are measured now and then")
    return [whole] if len(refills) <= 12 else [details(f"Table of the {len(refills)} refills", whole)]


def _dreams(recipe: Mapping[str, Any], world_model: str) -> list[Html]:
    from vla_mbpo.reports.logged import strips  # the world model's runtime

    try:
        return strips(
            [Path(folder) for folder in recipe.get("data", [])], recipe.get("robot", "sim_panda"), world_model
        )
    except ConfigError as error:
        return [paragraph(f"No pictures: {error}")]


def _kept(file: Path) -> list[Html]:
    from vla_mbpo.reports.logged import kept

    try:
        return kept(file)
    except ConfigError as error:
        return [paragraph(f"No pictures: {error}")]


def _rounds(rounds: Sequence[Mapping[str, Any]]) -> list[Html]:
    """One part per round, the values of its recipes as tables."""
    found = []
    for number, one in enumerate(rounds, 1):
        names = [name for name in one if isinstance(one[name], dict)]
        told = {name: value for name, value in one.items() if name not in names}
        tables = [table(("", "value"), _values(one[name]), f"Round {number}: {name}") for name in names]
        plain = [table(("", "value"), _values(told), f"Round {number}")] if told else []
        found.append(details(f"Round {number}: {', '.join(one)}", *tables, *plain))
    return found


def _values(values: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [(name, _text(value)) for name, value in values.items()]


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{round(value, PLACES) + 0.0:g}"  # no -0
    if isinstance(value, dict):
        return ", ".join(f"{name} {_text(part)}" for name, part in value.items()) or "none"
    if isinstance(value, list | tuple):
        return ", ".join(map(_text, value)) or "none"
    return str(value) if value != "" else "none"

"""The page of recorded episodes: numbers, the worst vetoes with what was seen and imagined, attempts over time."""

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from vla_mbpo.core.errors import ConfigError
from vla_mbpo.core.robot import RobotSpec
from vla_mbpo.record.repair import episodes
from vla_mbpo.reports import numbers
from vla_mbpo.reports.attempt import Told
from vla_mbpo.reports.imagined import Imagination
from vla_mbpo.reports.moments import moments
from vla_mbpo.reports.over_time import plots
from vla_mbpo.reports.page import Html, details, heading, page, paragraph, save, table
from vla_mbpo.reports.reading import Seen, read_told, seen
from vla_mbpo.reports.vetoes import Moment, worst

WORST = 6  # vetoes that are shown
PLOTTED = 20  # attempts that are shown over time, the last ones


def write(folders: Iterable[Path], out: Path, spec: RobotSpec, world_model: str | Path = "") -> int:
    """Write the page of all episodes in ``folders``; a file that is there already is replaced in one step.

    Args:
        folders: episodes, or folders of them.
        out: the HTML file.
        spec: whose recordings these are.
        world_model: bundle for the dreams; empty: the one that vetted, where it is at hand.

    Returns:
        Episodes on the page.

    Raises:
        ConfigError: no episodes, or labels that cannot be read.
        OSError: ``out`` cannot be written.
    """
    found = list(dict.fromkeys(episode.resolve() for folder in folders for episode in episodes(folder)))
    counted = Counter(episode.name for episode in found)
    named = {episode.name if counted[episode.name] == 1 else str(episode): episode for episode in found}
    told = [read_told(episode, name) for name, episode in named.items()]
    chosen = worst(told, WORST)
    around = _around(chosen, named, spec)
    shown = moments(chosen, around, Imagination(spec, world_model), spec.horizon * spec.row_period / 1e9)
    save(_page(told, shown), out)
    return len(found)


def _around(chosen: Sequence[Moment], folders: dict[str, Path], spec: RobotSpec) -> dict[tuple[str, int], Seen]:
    """Pictures of the moments, episode by episode: those of one are in memory."""
    found: dict[tuple[str, int], Seen] = {}
    for name in dict.fromkeys(moment.attempt.name for moment in chosen):
        looks = [moment.look for moment in chosen if moment.attempt.name == name]
        try:
            found |= {(name, number): one for number, one in seen(folders[name], looks, spec).items()}
        except ConfigError:  # it says so where its pictures would be
            continue
    return found


def _page(told: Sequence[Told], worst_vetoes: Sequence[Html]) -> str:
    what = numbers.outcomes(told)
    plotted = [one for one in told if one.looks or one.motion][-PLOTTED:]
    left = f" Of the last {PLOTTED}." if len(plotted) < sum(bool(one.looks or one.motion) for one in told) else ""
    return page(
        f"{len(told)} recorded episodes, {told[0].name} to {told[-1].name}" if len(told) > 1 else told[0].name,
        table(("", "value"), what, "All attempts; the interval is Wilson's of 95 %"),
        heading("Episodes"),
        table(numbers.LISTED, numbers.listed(told), "Episodes; times are seconds"),
        heading("Vetoes"),
        *_counts(told),
        heading("Worst vetoes"),
        *(worst_vetoes or [paragraph("No candidate was refused for what it would have done.")]),
        heading("Times"),
        table(
            ("from the observation to", "p50", "p95", "most", "chunk sets"), numbers.ages(told),
            "Milliseconds, by the stamps of the messages",
        ),
        heading("What is missing from the recordings"),
        paragraph(
            "Lost: on the way to the recorder, by the writers' numbers. Dropped: by the recorder. Unwritten: by the "
            "disk. Topics of which nothing is missing are left out, cameras and motion excepted."
        ),
        table(numbers.LOSSES, numbers.losses(told), "Messages by topic"),
        heading("Over time"),
        paragraph(f"Grey: a person was in command.{left}"),
        *(details(f"{one.name}: {one.labels['outcome'] or 'outcome not known'}", plots(one)) for one in plotted),
    )  # fmt: skip


def _counts(told: Sequence[Told]) -> list[Html]:
    found = [
        table(
            ("decision of the gate", "candidates", "share"), numbers.vetoes(told),
            "Decisions by the first check that refused; a set that is refused as a whole is one",
        )
    ]  # fmt: skip
    if rows := numbers.verdicts(told):
        found.append(table(("verdict", "candidates", "share"), rows, "The world model's verdicts, all candidates"))
    return found

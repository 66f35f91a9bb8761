"""The worst vetoes as a part of a page: why, what was seen, and what the world model imagines."""

from collections.abc import Mapping, Sequence

from vla_mbpo.core.observation import Observation
from vla_mbpo.core.verdict import Verdict
from vla_mbpo.imagination.dream import Dream
from vla_mbpo.reports.attempt import ACCEPTED, Candidate, Look
from vla_mbpo.reports.imagined import Imagination
from vla_mbpo.reports.page import Html, details, figure, heading, paragraph, percent, picture, row, table
from vla_mbpo.reports.reading import Seen
from vla_mbpo.reports.vetoes import Moment

VIEWS = ("head", "wrist")
Pictures = Observation | Dream | None


def moments(
    chosen: Sequence[Moment], around: Mapping[tuple[str, int], Seen], imagination: Imagination, seconds: float
) -> list[Html]:
    """One part of the page for each moment.

    Args:
        chosen: the worst first.
        around: by episode and chunk set; what is missing was not recorded.
        imagination: world models at hand.
        seconds: that a chunk takes.
    """
    parts: list[Html] = []
    for place, moment in enumerate(chosen, 1):
        parts.append(heading(f"{place}. {moment.attempt.name}, {moment.time:.1f} s", 3))
        parts.append(paragraph(_why(moment)))
        parts.append(_strip(moment, around.get((moment.attempt.name, moment.look.set_id)), imagination, seconds))
        parts.append(details("All candidates of this chunk set", _candidates(moment.look)))
    return parts


def _why(moment: Moment) -> str:
    worst, look = moment.worst, moment.look
    refused = sum(c.dangerous for c in look.candidates)
    done = [c.number for c in look.candidates if c.decision == ACCEPTED]
    rest = f"candidate {done[0]} was approved" if done else "none of the set was approved"
    return (
        f"Candidate {worst.number} was refused: {'; '.join(worst.reasons) or ', '.join(worst.checks)}. "
        f"{_said(worst)}{refused} of the {len(look.candidates)} candidates were refused, {rest}."
    )


def _said(one: Candidate) -> str:
    if one.verdict == Verdict.UNKNOWN:
        return "The world model did not judge it. "
    return f"World model: {one.verdict.name}, cost {percent(one.cost)}, success {percent(one.success)}. "


def _strip(moment: Moment, seen: Seen | None, imagination: Imagination, seconds: float) -> Html:
    """Seen at the look; imagined of the refused chunk and of the approved one; seen when they would have ended."""
    if seen is None or seen.before is None:
        return paragraph("No pictures of this moment: none of both cameras with joint states were recorded.")
    number, look = moment.worst.number, moment.look
    wanted = {number: "refused"} | {c.number: "approved" for c in look.candidates if c.decision == ACCEPTED}
    figures, lacking = [_views(seen.before, "Seen at the look")], ""
    version = next(iter(moment.attempt.world_models), "")
    for candidate, fate in wanted.items():
        if candidate not in seen.chunks:
            lacking = "the chunk cannot be read"
            continue
        found = imagination.of(seen.chunks[candidate], seen.before, seen.instruction, version)
        if isinstance(found, str):
            lacking = found
            continue
        chance = f"cost {percent(float(found.cost[0]))}, done {percent(float(found.done[0]))}"
        figures.append(_views(found, f"Imagined {seconds:.1f} s later, candidate {candidate}, {fate}: {chance}"))
    if seen.after is not None:
        figures.append(_views(seen.after, f"Seen {seconds:.1f} s later: the refused chunk was not executed"))
    note = paragraph(f"Only what was seen: {lacking}.") if lacking else ""
    return Html(row(*figures) + note)


def _views(source: Pictures, caption: str) -> Html:
    """Head above wrist. Of a dream its first chunk."""
    pixels = [getattr(source, view) for view in VIEWS]
    flat = [view[0] if view.ndim == 4 else view for view in pixels]
    shown = [picture(view, f"{name} camera. {caption}") for view, name in zip(flat, VIEWS, strict=True)]
    return figure(Html("".join(shown)), caption)


def _candidates(look: Look) -> Html:
    rows = [
        (
            str(c.number), c.decision, c.verdict.name if look.vetted else "–", percent(c.cost), percent(c.success),
            "; ".join(c.reasons) or "–",
        )
        for c in look.candidates
    ]  # fmt: skip
    head = ("candidate", "gate", "world model", "cost", "success", "reasons")
    return table(head, rows, f"Candidates of chunk set {look.set_id}")

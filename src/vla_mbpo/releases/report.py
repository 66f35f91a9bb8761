"""The report of a promotion as one HTML page."""

from typing import Any

from vla_mbpo.reports.page import heading, table
from vla_mbpo.reports.page import page as whole_page

TASKS = ("task", "attempts", "incumbent", "candidate", "difference", "cost events")
MADE = ("command", "machine", "date", "signed_off_by")


def page(report: dict[str, Any]) -> str:
    """The page of what report.json holds."""
    found, alone = report["comparison"], report["scenes"]["kind"] == "recorded"
    pairs = "Paired by order: attempts on the arm have no scene in common" if alone else "Both on the same scenes"
    verdict = "goes live" if report["accepted"] else "is refused"
    return whole_page(
        f"{report['candidate']['version']} {verdict}",
        table(("", "version"), [(name, _versions(report[name])) for name in ("incumbent", "candidate")], "Releases"),
        heading("Limits"),
        table(
            ("limit", "value", "required", "holds"),
            [(c["name"], c["value"], c["required"], "yes" if c["ok"] else "no") for c in report["checks"]],
            "Limits, all of which have to hold",
        ),
        heading(f"{found['n']} {'recorded attempts each' if alone else 'scenes'} of training tasks"),
        table(("", "incumbent", "candidate", "difference, 95 % interval"), _totals(found), pairs),
        heading("Tasks"),
        table(TASKS, _tasks(found["tasks"]), "Tasks; cost events before and after"),
        heading("How it was made"),
        table(("", "value"), [(key, report[key]) for key in MADE], "How it was made"),
    )


def _versions(side: dict[str, Any]) -> str:
    return ", ".join(f"{name} {version}" for name, version in side["versions"].items())


def _totals(found: dict[str, Any]) -> list[tuple[str, ...]]:
    before, after = found["success"]
    gain, ratio, (wins, losses) = found["gain"], found["cost_ratio"], found["discordant"]
    costs = f"x {ratio[0]:.2f} ({ratio[1]:.2f} to {ratio[2]:.2f})" if ratio else "no cost events before"
    return [
        ("success", _rate(before), _rate(after), f"{gain[0]:+.3f} ({gain[1]:+.3f} to {gain[2]:+.3f})"),
        ("solved by this one only", str(losses), str(wins), f"sign test p {found['sign_p']:.4f}"),
        ("cost events", str(found["costs"][0]), str(found["costs"][1]), costs),
    ]


def _rate(rate: list[float]) -> str:
    return f"{rate[0]:.1%} ({rate[1]:.3f} to {rate[2]:.3f})"


def _tasks(tasks: dict[str, dict[str, Any]]) -> list[tuple[str, ...]]:
    return [
        (
            f"{name} (held out)" if row["held_out"] else name,
            str(row["n"]),
            f"{row['before']:.1%}",
            f"{row['after']:.1%}",
            f"{row['difference']:+.3f}",
            f"{row['costs_before']}, {row['costs_after']}",
        )
        for name, row in tasks.items()
    ]

"""The report of a promotion as one HTML page: tables, no scripts, nothing loaded from elsewhere."""

from html import escape
from typing import Any

_STYLE = (
    "body{font-family:sans-serif;margin:2em auto;max-width:60em;color:#222}table{border-collapse:collapse;margin:1em 0}"
    "td,th{border:1px solid #bbb;padding:.3em .7em;text-align:left}.no{background:#fbdcdc}.yes{background:#e0f3e0}"
)


def page(report: dict[str, Any]) -> str:
    """The page of what report.json holds."""
    found = report["comparison"]
    verdict = "goes live" if report["accepted"] else "is refused"
    title = escape(f"{report['candidate']['version']} {verdict}")
    parts = [
        f"<!doctype html><html lang='en'><meta charset='utf-8'><title>{title}</title><style>{_STYLE}</style>",
        f"<h1>{title}</h1>",
        _table(("", "version"), [(name, _versions(report[name])) for name in ("incumbent", "candidate")]),
        "<h2>Limits</h2>",
        _table(
            ("limit", "value", "required", "holds"),
            [(c["name"], c["value"], c["required"], "yes" if c["ok"] else "no") for c in report["checks"]],
        ),
        f"<h2>Paired over {found['n']} scenes of training tasks</h2>",
        _table(("", "incumbent", "candidate", "difference, 95 % interval"), _totals(found)),
        "<h2>Tasks</h2>",
        _table(("task", "attempts", "incumbent", "candidate", "difference", "cost events"), _tasks(found["tasks"])),
        "<h2>How it was made</h2>",
        _table(("", ""), [(key, report[key]) for key in ("command", "machine", "date", "signed_off_by")]),
        "</html>",
    ]
    return "\n".join(parts) + "\n"


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


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    top = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    body = "".join(f"<tr>{''.join(_cell(cell) for cell in row)}</tr>" for row in rows)
    return f"<table><tr>{top}</tr>{body}</table>"


def _cell(cell: str) -> str:
    mark = f" class='{cell}'" if cell in ("yes", "no") else ""
    return f"<td{mark}>{escape(str(cell))}</td>"

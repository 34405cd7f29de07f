"""What people see of a mesh, as lines of text: nodes by state, jobs with their pace and last error, what runs long.

Pure functions of a status. Decides what has room: 80 columns are enough, and a wider terminal shows more; in a pipe
nothing is cut. What a peer says is a claim: it is shown without control characters. Refuses to know how a status
comes, and who draws the lines.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

from stealmesh.client.job_ids import short_forms
from stealmesh.host.saying import printable

NODES_SHOWN = 24
JOBS_SHOWN = 16
LONG_SHOWN = 8
STATES = ("alive", "leaving", "suspect")
"""In this order; all others come first, as they are worth a look."""
_LEFT, _RIGHT = False, True

Status = dict[str, Any]


def frame(status: Status, width: int | None, *, all_of_it: bool = False) -> list[str]:
    """All of it. `width` None: nothing is cut. `all_of_it`: also what is rarely of interest."""
    nodes = [node for node in status["nodes"] if node["role"] != "client"]
    lines = [
        *summary(status, nodes, width),
        "",
        *nodes_lines(nodes, width, all_of_it=all_of_it),
        "",
    ]
    lines += jobs_lines(status["jobs"], width, all_of_it=all_of_it)
    long = long_lines(nodes, status["jobs"], width)
    lines += ["", *long] if long else []
    counted = {name: number for name, number in sorted(status["counters"].items()) if number}
    if counted:
        told = ", ".join(f"{name} {number:,}" for name, number in counted.items())
        lines += ["", *_wrapped(f"counted: {told}", width)]
    return lines


def summary(status: Status, nodes: list[Status], width: int | None) -> list[str]:
    clients = len(status["nodes"]) - len(nodes)
    workers = sum(node["workers"] for node in nodes)
    busy = sum(node.get("busy", 0) for node in nodes)
    by_state = Counter(node["state"] for node in nodes)
    states = ", ".join(f"{count} {printable(state)}" for state, count in sorted(by_state.items()))
    told = f"{counted(len(nodes), 'node')} ({states}), {counted(workers, 'worker')}"
    told += f", {busy:,} busy" if any("busy" in node for node in nodes) else ""
    return _wrapped(f"{told}, {counted(clients, 'client')} (one is this command)", width)


# ---------------------------------------------------------------- nodes


def nodes_lines(nodes: list[Status], width: int | None, *, all_of_it: bool = False) -> list[str]:
    """A table; of many nodes those that are not well, then the busiest."""
    nodes = sorted(nodes, key=lambda node: (STATES.index(node["state"]) if node["state"] in STATES else -1, str(node["name"])))  # fmt: skip
    shown = nodes
    if not all_of_it and len(nodes) > NODES_SHOWN:
        unwell = [node for node in nodes if node["state"] != "alive"]
        busiest = sorted(nodes, key=lambda node: (-node.get("busy", 0), -node["queued_seconds"]))
        shown = [*unwell, *(node for node in busiest if node["state"] == "alive")][:NODES_SHOWN]
    declare = any(node.get("resources") for node in nodes)
    head = ["node", "state", "role", "busy", "queued", "steals", "address"]
    rows = [
        [
            printable(node["name"]),
            printable(node["state"]),
            node["role"],
            f"{node.get('busy', '?')}/{node['workers']}",
            seconds_text(node["queued_seconds"]),
            f"{node['steals_in']:,}/{node['steals_out']:,}",
            printable(node["address"].removeprefix("tcp://")),
            *([_resources(node)] if declare else []),
            printable(node.get("runtime", "")),
            f"pid {node['pid']}",
        ]
        for node in shown
    ]
    head += ["resources in use"] if declare else []
    right = {3, 4, 5}
    lines = table([*head, "runs", "process"], rows, right, width)
    left_out = len(nodes) - len(shown)
    return [*lines, f"… {left_out:,} more nodes (--all)"] if left_out else lines


def _resources(node: Status) -> str:
    """GPU 1 of 2, licence 0 of 1"""
    taken, has = node.get("resources_taken", {}), node.get("resources", {})
    return ", ".join(
        f"{printable(name)} {taken.get(name, 0)} of {count}" for name, count in has.items()
    )


# ---------------------------------------------------------------- jobs


def jobs_lines(
    jobs: Sequence[Status], width: int | None, *, all_of_it: bool = True, now: float | None = None
) -> list[str]:
    """Open ones first, then those that ended last. In a terminal each has a line with its figures and one with its
    name and owner; in a pipe one line has all."""
    if not jobs:
        return ["no jobs"]
    now = time.time() if now is None else now
    ordered = sorted(
        jobs,
        key=lambda job: (bool(job.get("ended")), -(job.get("ended") or job.get("started") or 0.0)),
    )
    shown = ordered if all_of_it else ordered[:JOBS_SHOWN]
    names = short_forms(job["id"] for job in jobs)
    head = ["job", "done", "failed", "rate", "left", "started", "state"]
    rows = [
        [
            names[job["id"]],
            done_text(job),
            f"{job['failed']:,}" if job["failed"] else "-",
            rate_text(job),
            left_text(job),
            moment(job.get("started"), now),
            _state(job),
        ]
        for job in shown
    ]
    if width is None:
        head += ["name", "owner", "last error"]
        rows = [[*row, *_names(job)] for row, job in zip(rows, shown, strict=True)]
        lines = table(head, rows, {1, 2, 3, 4}, None)
    else:
        first, *others = table(head, rows, {1, 2, 3, 4}, width)
        lines = [first]
        for job, line in zip(shown, others, strict=True):
            name, owner, error = _names(job)
            lines += [line, _cut(f"  {name} of {owner}", width)]
            lines += [_cut(f"  last error: {error}", width)] if error else []
    left_out = len(jobs) - len(shown)
    return [*lines, f"… {left_out:,} more jobs (stealmesh jobs)"] if left_out else lines


def _names(job: Status) -> list[str]:
    """Its name, its owner and its last error."""
    name = f"{printable(job['name'])} ({job['kind']})"
    return [name, printable(job.get("owner") or "?"), printable(job.get("error") or "")]


def _state(job: Status) -> str:
    unusual = [f"{job[name]:,} {words}" for name, words in (("rerun", "rerun"), ("duplicates_dropped", "dropped")) if job[name]]  # fmt: skip
    took = (
        ""
        if not (job.get("ended") and job.get("started"))
        else f" after {seconds_text(job['ended'] - job['started'])}"
    )
    return printable(job["state"]) + took + (f" ({', '.join(unusual)})" if unusual else "")


def done_text(job: Status) -> str:
    done, total = job["done"], job["total"]
    share = f" {100 * done // total}%" if total else ""
    return f"{done:,}/{total:,}{share}"


def rate_text(job: Status) -> str:
    rate = job.get("rate") or 0.0
    if not rate:
        return "-"
    return (
        f"{rate:,.0f}/s"
        if rate >= 10
        else f"{rate:.1f}/s"
        if rate >= 0.1
        else f"{60 * rate:.1f}/min"
    )


def left_text(job: Status) -> str:
    eta = job.get("eta_seconds")
    return "-" if eta is None else seconds_text(eta)


# ---------------------------------------------------------------- what runs long


def long_lines(nodes: list[Status], jobs: Sequence[Status], width: int | None) -> list[str]:
    """The items that have run longest, by the names that `stealmesh explain` and `stacks` take."""
    found = [(each, node) for node in nodes for each in node.get("running", [])]
    found = sorted(found, key=lambda pair: -pair[0]["seconds"])[:LONG_SHOWN]
    if not found:
        return []
    names = short_forms({job["id"] for job in jobs} | {each["job"] for each, _ in found})
    rows = [
        [
            seconds_text(each["seconds"]),
            f"{names[each['job']]}/{each['lo']}"
            + (f"-{each['hi'] - 1:,}" if each["hi"] - each["lo"] > 1 else ""),
            printable(node["name"]),
            str(each["worker"]),
            printable(each["name"]),
        ]
        for each, node in found
    ]
    return table(["runs", "job/item", "node", "worker", "function"], rows, {0, 3}, width)


# ---------------------------------------------------------------- text


def table(head: list[str], rows: list[list[str]], right: set[int], width: int | None) -> list[str]:
    """Columns as wide as needed; in a terminal, what does not fit is left out from the right."""
    widths = [max(len(row[at]) for row in [head, *rows]) for at in range(len(head))]
    if width is not None:
        used, fit = 0, 0
        for at, wide in enumerate(widths):
            if at and used + wide > width and at >= len(head) - 3:
                break
            used, fit = used + wide + 2, at + 1
        widths = widths[:fit]
    lines = []
    for row in [head, *rows]:
        cells = [
            cell.rjust(wide) if at in right else cell.ljust(wide)
            for at, (cell, wide) in enumerate(zip(row, widths, strict=False))
        ]
        lines.append(_cut("  ".join(cells).rstrip(), width))
    return lines


def _cut(line: str, width: int | None) -> str:
    return line if width is None or len(line) <= width else line[: width - 1] + "…"


def _wrapped(text: str, width: int | None) -> list[str]:
    if width is None:
        return [text]
    lines, line = [], ""
    for word in text.split(" "):
        if line and len(line) + 1 + len(word) > width:
            lines.append(line)
            line = "  " + word
        else:
            line = f"{line} {word}" if line else word
    return [*lines, line]


def counted(number: int, what: str) -> str:
    return f"{number:,} {what}" + ("" if number == 1 else "s")


def seconds_text(seconds: float) -> str:
    """0.25 s, 12.3 s, 4:05, 2:03:10, 3 d"""
    if seconds < 60:
        return f"{seconds:.2f} s" if seconds < 1 else f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours >= 48:
        return f"{hours // 24} d"
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def moment(at: float | None, now: float) -> str:
    """The local time; with the date if that is not today."""
    if at is None:
        return "?"
    then, today = time.localtime(at), time.localtime(now)
    is_today = (then.tm_year, then.tm_yday) == (today.tm_year, today.tm_yday)
    return time.strftime("%H:%M:%S" if is_today else "%m-%d %H:%M", then)

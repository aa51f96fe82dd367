"""What people read of a step's result."""

from __future__ import annotations

from typing import Any


def show_step(found: dict[str, Any]) -> str:
    """Return the lines for a step of any kind."""
    return {
        "fit": show_fit, "select": show_selection, "predict": show_scores, "score": show_score,
        "compare": show_comparison,
    }[found["step"]](found)  # fmt: skip


def show_fit(found: dict[str, Any], *, report: bool = False) -> str:
    """Return a line for a fit, and its report where it is asked for."""
    if found["status"] == "there already":
        return f"{found['model']} is there already: nothing was done"
    n_passes = "1 pass" if found["n_passes"] == 1 else f"{found['n_passes']} passes"
    finished = ", finished already: nothing was done" if found["status"] == "finished already" else ""
    line = (
        f"{found['model']}: {found['n_components']} components, {found['n_features']} features, "
        f"{found['lower_bound']:.6f} nats per row, {n_passes}, {found['stop_reason']}{finished}"
    )
    return f"{line}\n{found['report']}" if report and found["report"] is not None else line


def show_selection(found: dict[str, Any]) -> str:
    """Return the table of a selection, and a line for the model."""
    if "text" not in found:
        return show_fit(found)
    if found["model"] is None:
        return str(found["text"])
    model = f"{found['model']}: {found['n_components']} components, {found['lower_bound']:.6f} nats per row"
    return f"{found['text']}\n{model}"


def show_scores(found: dict[str, Any]) -> str:
    """Return a line for scores that were written."""
    if found["status"] == "finished already":
        return f"{found['output']} is there already: nothing was done"
    notes = [f"{found['n_rows']} rows"]
    if found["n_missing"]:
        notes.append(f"{found['n_missing']} with missing values")
    if found["n_outliers"] is not None:
        notes.append(f"{found['n_outliers']} outliers")
    if found["n_resumed"]:
        notes.append(f"{found['n_resumed']} of {found['n_parts']} parts written before")
    return f"{found['output']}: {', '.join(notes)}"


def show_score(found: dict[str, Any]) -> str:
    """Return the mean log-likelihood."""
    return f"{found['mean_log_likelihood']:.9f}"


def show_comparison(found: dict[str, Any]) -> str:
    """Return a line for each model, the best marked."""
    lines = []
    for number, (mean, gain, error) in enumerate(
        zip(found["mean_log_likelihoods"], found["gains"], found["standard_errors"], strict=True)
    ):
        mark = "best " if number == found["best"] else "     "
        against = "" if number == 0 else f"  {gain:+.6f} ± {error:.6f}"
        lines.append(f"{mark} {number}  {mean:.6f} nats per row{against}")
    return "\n".join(lines)

"""Settings of Sphinx for the reference of streamgmm; built with warnings as errors, see index.rst."""

from __future__ import annotations

import dataclasses
import json
import os
from enum import Enum
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.roles import XRefRole
from sphinx.util.docutils import SphinxDirective

import streamgmm

project = "streamgmm"
author = "the authors of streamgmm"
project_copyright = "the authors of streamgmm"
version = release = streamgmm.__version__

extensions = [
    "myst_parser",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.doctest",
    "sphinx.ext.intersphinx",
    "sphinx_click",
]
exclude_patterns = ["_build", "_templates"]
templates_path = ["_templates"]
# What stands in single backticks in a docstring: see `link_or_code` below.
default_role = "link_or_code"
nitpicky = True
# Options of commands begin with two hyphens, and texts in code with straight quotes.
smartquotes = False
toc_object_entries_show_parents = "hide"

# The theme. Nothing on a page is loaded from elsewhere.
html_theme = "pydata_sphinx_theme"
html_title = f"streamgmm {version}"
html_show_sourcelink = False
html_copy_source = False
# Pages without others below them need no list of those.
html_sidebars = {name: [] for name in ("index", "commands", "rooms", "model_files", "glossary", "changelog")}
html_context = {"default_mode": "auto"}
html_theme_options = {
    "navigation_with_keys": False,
    "show_prev_next": False,
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": [],
}

# Signatures show names and defaults; types are in the sections of the docstrings, which readers can read.
autodoc_typehints = "none"
autodoc_member_order = "groupwise"
autosummary_generate = True

# Autodoc lists the members; numpydoc would list them once more.
numpydoc_show_class_members = False
numpydoc_validation_checks = {
    "all",
    # A summary is enough where nothing is left to say, and no section is there for its own sake.
    "ES01",
    "EX01",
    "SA01",
}
# What values are made of stands under their attributes: nobody calls their constructors.
numpydoc_validation_exclude = {
    r"\.(Calibration|DriftReport|DriftTest|Estimate|FitReport|MergeTree|Plan|SearchResult|StandardErrors|State|StopReason"
    r"|TrainingSummary)$"
}

# Links to the documentation of other projects need the network when the reference is built: they are made where the
# environment asks for them, STREAMGMM_DOCS_INTERSPHINX=1, and are plain text elsewhere.
intersphinx_timeout = 10
intersphinx_mapping = (
    {
        "python": ("https://docs.python.org/3", None),
        "numpy": ("https://numpy.org/doc/stable", None),
        "scipy": ("https://docs.scipy.org/doc/scipy", None),
        "sklearn": ("https://scikit-learn.org/stable", None),
        "dask": ("https://docs.dask.org/en/stable", None),
        "zarr": ("https://zarr.readthedocs.io/en/stable", None),
        "distributed": ("https://distributed.dask.org/en/stable", None),
        "pyarrow": ("https://arrow.apache.org/docs", None),
        "pandas": ("https://pandas.pydata.org/docs", None),
    }
    if os.environ.get("STREAMGMM_DOCS_INTERSPHINX") == "1"
    else {}
)
_OTHERS = ("sklearn", "numpy", "scipy", "dask", "distributed", "zarr", "pyarrow", "pandas", "xarray")

nitpick_ignore_regex = [
    # Other projects' names: they link where an inventory is at hand and has them, and are plain text where not.
    ("py:obj", rf"({'|'.join(_OTHERS)})\..+"),
    # The errors of Python from which ours inherit: the same.
    ("py:class", "(ValueError|OSError|MemoryError|FileExistsError|RuntimeError|Exception|UserWarning)"),
]

doctest_global_setup = "import streamgmm"


class LinkOrCode(XRefRole):
    """The role of single backticks: a link where a public name is meant, else (parameters, files) code."""

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        target = self._target()
        if target is None:
            return [nodes.literal(self.rawtext, self.title)], []
        self.refdomain, self.reftype = "py", "obj"
        self.classes = ["xref", "py", "py-obj"]
        self.target = target
        return self.create_xref_node()

    def _target(self) -> str | None:
        """Return the full name of what is meant: a member of the class at hand, then one of the package."""
        first, _, rest = self.text.removeprefix("streamgmm.").partition(".")
        if first in _OTHERS:
            return self.text
        within = self.env.ref_context.get("py:class")
        if within is not None and not rest and callable(getattr(getattr(streamgmm, within, None), first, None)):
            return f"streamgmm.{within}.{first}"
        if first in streamgmm.__all__ and (not rest or callable(getattr(getattr(streamgmm, first), rest, None))):
            return f"streamgmm.{first}" + (f".{rest}" if rest else "")
        return None


def show_no_constructor(_app: Sphinx, what: str, _name: str, made: Any, *_: Any) -> tuple[str, str] | None:
    """Leave out the signatures of values that users are given and never make."""
    given = what == "class" and (dataclasses.is_dataclass(made) or issubclass(made, Enum))
    return ("", "") if given else None


def name_public_bases(_app: Sphinx, _name: str, _made: Any, _options: Any, bases: list[Any]) -> None:
    """Name an error's bases as users import them."""
    for at, base in enumerate(bases):
        if getattr(base, "__name__", None) in streamgmm.__all__:
            bases[at] = f":py:class:`streamgmm.{base.__name__}`"


class JobEntries(SphinxDirective):
    """Tables of what a job file can say, made of its declaration: one for each part and each kind of step."""

    def run(self) -> list[nodes.Node]:
        from streamgmm.jobs.declaration import STEPS, Cluster, Criteria, Job, Limits, Reports

        lines: list[str] = []
        parts = {"the job": Job, "cluster": Cluster, "limits": Limits, "criteria": Criteria, "reports": Reports}
        for title, model in parts.items():
            lines += self._table("The job" if model is Job else f"``[{title}]``", model)
        for name, step in STEPS.items():
            lines += self._table(f'``step = "{name}"``', step)
        return self.parse_text_to_nodes("\n".join(lines))

    @staticmethod
    def _table(title: str, model: Any) -> list[str]:
        summary = " ".join((model.__doc__ or "").split())
        lines = ["", f".. rubric:: {title}", "", summary, "", ".. list-table::", "   :header-rows: 1", ""]
        rows = [("entry", "type", "default", "what it is")]
        for name, entry in model.model_json_schema()["properties"].items():
            field = model.model_fields[name]
            default = "needed" if field.is_required() else _shown(entry.get("default"))
            rows.append((f"``{name}``", _type_of(entry), default, entry.get("description", "")))
        for row in rows:
            lines += [f"   {'* -' if at == 0 else '  -'} {cell}" for at, cell in enumerate(row)]
        return lines


def _type_of(entry: dict[str, Any]) -> str:
    """Say in a few words what an entry of a JSON Schema may be."""
    if "anyOf" in entry:
        return " or ".join(dict.fromkeys(_type_of(one) for one in entry["anyOf"] if one.get("type") != "null"))
    if "enum" in entry:
        return ", ".join(f"``{one}``" for one in entry["enum"])
    if "const" in entry:
        return f"``{entry['const']}``"
    if entry.get("type") == "array":
        return (
            "list" if "$ref" in entry["items"] or "oneOf" in entry["items"] else f"list of {_type_of(entry['items'])}"
        )
    return {"string": "text", "integer": "integer", "number": "number", "boolean": "true or false"}.get(
        entry.get("type", ""), "table"
    )


def _shown(default: Any) -> str:
    return "" if default is None or isinstance(default, dict) else f"``{json.dumps(default)}``"


def setup(app: Sphinx) -> None:
    """Add what Sphinx has no setting for."""
    app.add_directive("job-entries", JobEntries)
    app.add_role("link_or_code", LinkOrCode(), override=True)
    app.connect("autodoc-process-signature", show_no_constructor)
    app.connect("autodoc-process-bases", name_public_bases)

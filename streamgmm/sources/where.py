"""Which rows of a table are meant: a condition in SQL's words, as an expression of Arrow's for columns of known types.

Comparisons (``=``, ``<>``, ``<``, ``<=``, ``>``, ``>=``, ``between``, ``in``, ``like``, ``is null``) of a column with a
value or with another column, put together with ``and``, ``or``, ``not`` and parentheses. Texts stand in single quotes,
and so do dates and times; names that are no words in double quotes. As in SQL a comparison with a missing value is
neither true nor false, and the row is left out; NaN is a number that is equal to none. Whole numbers, decimals and
times are compared exactly; floats as doubles are, also those of 32 bits: of these few are equal to 0.1. In `like` a
backslash takes a sign after it for itself.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from streamgmm.exceptions import ConditionError
from streamgmm.sources.comparing import ALLOWED, Binding, inside

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.compute as pc
    from sqlglot import exp

#: Characters of a condition, at most.
_LONGEST = 20_000


@dataclass(frozen=True)
class RowFilter:
    """A condition on the columns of a table.

    Attributes
    ----------
    text : str
    """

    text: str

    @classmethod
    def of(cls, where: Any) -> RowFilter | None:
        """Check what a user gave for `where`; None where nothing was.

        Raises
        ------
        ConditionError
            If it is no condition.
        """
        if where is None:
            return None
        if not isinstance(where, str):
            raise ConditionError(f"where must be a text, \"date >= '2026-01-01'\" say; got a {type(where).__name__}")
        found = cls(where)
        _ = found.names
        return found

    @cached_property
    def _tree(self) -> exp.Expr:
        import sqlglot
        from sqlglot.errors import SqlglotError

        if len(self.text) > _LONGEST:
            raise self._error(f"has {len(self.text)} characters; {_LONGEST} are the most")
        logging.getLogger("sqlglot").setLevel(logging.ERROR)
        try:
            tokens = sqlglot.tokenize(self.text)
            if any(token.comments for token in tokens):
                raise self._error("has a comment in it")
            statements = [one for one in sqlglot.parse(self.text) if one is not None]
        except SqlglotError as error:
            said: list[Any] = getattr(error, "errors", [])
            found = said[0] if said else {}
            near = f" near {found['highlight']!r}" if found.get("highlight") else ""
            raise self._error(f"can't be read{near}; {ALLOWED}") from error
        except RecursionError as error:
            raise self._error("is nested too deeply") from error
        if len(statements) != 1:
            raise self._error(f"is {'several statements' if statements else 'empty'}; {ALLOWED}")
        return statements[0]

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The columns that it names, each once."""
        from sqlglot import exp

        try:
            self._check(self._tree)
            columns = list(self._tree.find_all(exp.Column))
        except RecursionError as error:
            raise self._error("is nested too deeply") from error
        if not columns:
            raise self._error(f"names no column; {ALLOWED}")
        return tuple(dict.fromkeys(self._name(column) for column in columns))

    def bind(self, schema: pa.Schema) -> pc.Expression:
        """Return the condition as an expression on a table that has the columns with these types.

        Raises
        ------
        ConditionError
            If a column can't be compared with what it is compared with.
        """
        import pyarrow as pa

        binding = Binding({one.name: one.type for one in schema}, self._name, self._error)
        try:
            found = binding.condition(self._tree)
            # What else Arrow does not compare, it says here.
            schema.empty_table().filter(found)
        except RecursionError as error:
            raise self._error("is nested too deeply") from error
        except pa.ArrowException as error:
            raise self._error(f"can't be evaluated: {error}") from error
        return found

    def terms(self) -> tuple[RowFilter, ...]:
        """Return the conditions that must all hold."""
        from sqlglot import exp

        found, left = [], [inside(self._tree)]
        while left:
            node = left.pop()
            if isinstance(node, exp.And):
                left += [inside(node.right), inside(node.left)]
            else:
                found.append(RowFilter(node.sql(identify=True)))
        return tuple(found)

    @property
    def excludes_by_bounds(self) -> bool:
        """Whether rows that the bounds of a row group rule out are surely left out: of NaN no bounds tell."""
        from sqlglot import exp

        return all(not isinstance(one, (exp.Not, exp.NEQ)) and not one.args.get("negate") for one in self._tree.walk())

    def _check(self, node: Any) -> None:
        from sqlglot import exp

        pair, word = {"this", "expression"}, {"this"}
        # Each word of the language, and its parts: one that is not known here would be passed over in silence.
        allowed: dict[type, set[str]] = {
            **dict.fromkeys((exp.And, exp.Or, exp.EQ, exp.NEQ, exp.GT, exp.GTE, exp.LT, exp.LTE), pair),
            **dict.fromkeys((exp.Not, exp.Paren, exp.Neg, exp.Boolean, exp.Column), word),
            exp.Null: set(), exp.Is: {*pair, "negate"}, exp.Like: {*pair, "negate"},
            exp.In: {"this", "expressions", "negate"}, exp.Between: {"this", "low", "high", "negate"},
            exp.Literal: {"this", "is_string"}, exp.Identifier: {"this", "quoted"}, exp.Cast: {"this", "to"},
            exp.DataType: {"this", "nested"},
        }  # fmt: skip
        for one in node.walk():
            known = allowed.get(type(one))
            if isinstance(one, exp.Column) and one.args.get("table") is not None:
                self._name(one)
            said = {name for name, value in one.args.items() if value not in (None, False, [])}
            if known is None or not said <= known:
                raise self._error(f"has {type(one).__name__} in it, {one.sql()!r}; {ALLOWED}")

    def _name(self, column: exp.Column) -> str:
        if column.args.get("table") is not None:
            raise self._error(f'names {column.sql()!r}: write a name with a dot in double quotes, "{column.sql()}"')
        return str(column.name)

    def _error(self, what: str) -> ConditionError:
        shown = self.text if len(self.text) <= 200 else f"{self.text[:200]}..."
        return ConditionError(f"where={' '.join(shown.split())!r} {what}")

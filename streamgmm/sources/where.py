"""Which rows of a table are meant: a condition in SQL's words, as an expression of Arrow's for columns of known types.

Comparisons (``=``, ``<>``, ``<``, ``<=``, ``>``, ``>=``, ``between``, ``in``, ``like``, ``is null``) of a column with a
value or with another column, put together with ``and``, ``or``, ``not`` and parentheses. Texts stand in single quotes,
and so do dates and times; names that are no words in double quotes. As in SQL a comparison with a missing value is
neither true nor false, and the row is left out; NaN is a number that is equal to none.
"""

from __future__ import annotations

import datetime
import logging
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import numpy as np

from streamgmm.exceptions import RowsError

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.compute as pc
    from sqlglot import exp

#: Characters of a condition, at most.
_LONGEST = 20_000
_ALLOWED = (
    "a condition compares columns with values: =, <>, <, <=, >, >=, between, in, like, is null, and, or, not, as in "
    "date >= '2026-01-01' and country = 'DE'"
)


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
        RowsError
            If it is no condition.
        """
        if where is None:
            return None
        if not isinstance(where, str):
            raise RowsError(f"where must be a text, \"date >= '2026-01-01'\" say; got a {type(where).__name__}")
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
            raise self._error(f"can't be read{near}; {_ALLOWED}") from error
        except RecursionError as error:
            raise self._error("is nested too deeply") from error
        if len(statements) != 1:
            raise self._error(f"is {'several statements' if statements else 'empty'}; {_ALLOWED}")
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
            raise self._error(f"names no column; {_ALLOWED}")
        return tuple(dict.fromkeys(self._name(column) for column in columns))

    def bind(self, schema: pa.Schema) -> pc.Expression:
        """Return the condition as an expression on a table that has the columns with these types.

        Raises
        ------
        RowsError
            If a column can't be compared with what it is compared with.
        """
        import pyarrow as pa

        binding = _Binding(self, {one.name: one.type for one in schema})
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

        found, left = [], [_inside(self._tree)]
        while left:
            node = left.pop()
            if isinstance(node, exp.And):
                left += [_inside(node.right), _inside(node.left)]
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
                raise self._error(f"has {type(one).__name__} in it, {one.sql()!r}; {_ALLOWED}")

    def _name(self, column: exp.Column) -> str:
        if column.args.get("table") is not None:
            raise self._error(f'names {column.sql()!r}: write a name with a dot in double quotes, "{column.sql()}"')
        return str(column.name)

    def _error(self, what: str) -> RowsError:
        shown = self.text if len(self.text) <= 200 else f"{self.text[:200]}..."
        return RowsError(f"where={' '.join(shown.split())!r} {what}")


@dataclass(frozen=True)
class _Binding:
    """A condition, and the types of the columns that it is about."""

    where: RowFilter
    types: Mapping[str, pa.DataType]

    def condition(self, node: Any) -> pc.Expression:
        found = self._condition(node)
        return ~found if node.args.get("negate") else found

    def _condition(self, node: Any) -> pc.Expression:
        import pyarrow as pa
        import pyarrow.compute as pc
        from sqlglot import exp

        if isinstance(node, exp.Paren):
            return self.condition(node.this)
        if isinstance(node, exp.And):
            return self.condition(node.left) & self.condition(node.right)
        if isinstance(node, exp.Or):
            return self.condition(node.left) | self.condition(node.right)
        if isinstance(node, exp.Not):
            return ~self.condition(node.this)
        if isinstance(node, exp.Column):
            name, kind = self.column(node)
            if not (pa.types.is_boolean(kind) or pa.types.is_null(kind)):
                raise self.where._error(f"takes column {name!r} ({kind}) for true or false; compare it with a value")
            return pc.field(name) == True  # noqa: E712 (an expression, not a value)
        if isinstance(node, exp.Is):
            name, _ = self.column(node.this)
            if not isinstance(node.expression, exp.Null):
                raise self.where._error(f"has {node.sql()!r}; a column can be tested for null, {name} is null")
            return pc.field(name).is_null()
        if isinstance(node, exp.Between):
            return self.compare(exp.GTE, node.this, node.args["low"]) & self.compare(
                exp.LTE, node.this, node.args["high"]
            )
        if isinstance(node, exp.In):
            found = [self.compare(exp.EQ, node.this, one) for one in node.expressions]
            if not found:
                raise self.where._error(f"has an empty list, {node.sql()!r}")
            return _any(found)
        if isinstance(node, exp.Like):
            name, kind = self.column(node.this)
            if not _is_text(kind) or not (isinstance(node.expression, exp.Literal) and node.expression.is_string):
                raise self.where._error(f"has {node.sql()!r}: column {name!r} is {kind}; like compares texts")
            return pc.match_like(pc.field(name).cast(pa.large_string()), node.expression.this)
        if isinstance(node, (exp.EQ, exp.NEQ, exp.GT, exp.GTE, exp.LT, exp.LTE)):
            return self.compare(type(node), node.left, node.right)
        raise self.where._error(f"has {node.sql()!r}, which is neither true nor false; {_ALLOWED}")

    def compare(self, how: Any, left: Any, right: Any) -> pc.Expression:
        import pyarrow as pa
        import pyarrow.compute as pc
        from sqlglot import exp

        left, right = _inside(left), _inside(right)
        if not isinstance(left, exp.Column):
            turned: dict[Any, Any] = {exp.GT: exp.LT, exp.GTE: exp.LTE, exp.LT: exp.GT, exp.LTE: exp.GTE}
            left, right, how = right, left, turned.get(how, how)
        if not isinstance(left, exp.Column):
            raise self.where._error(f"compares {left.sql()!r} with {right.sql()!r}; one of both must be a column")
        name, kind = self.column(left)
        if isinstance(right, exp.Column):
            other, of_other = self.column(right)
            if not _same_kind(kind, of_other):
                raise self.where._error(
                    f"compares column {name!r} ({kind}) with column {other!r} ({of_other}): their types don't compare"
                )
            if kind != of_other and _is_number(kind):
                # Whole numbers of 64 bits and others: as floats, as databases do.
                return self.apply(
                    how, pc.field(name).cast(pa.float64(), safe=False), pc.field(other).cast(pa.float64(), safe=False)
                )
            return self.apply(how, pc.field(name), pc.field(other))
        if pa.types.is_null(kind):
            return pc.field(name).cast(pa.bool_()) & pc.scalar(pa.scalar(None, pa.bool_()))
        if pa.types.is_integer(kind) and (number := _number(right)) is not None:
            return self.compare_whole(how, name, kind, number)
        return self.apply(how, pc.field(name), self.value(right, name, kind))

    def compare_whole(self, how: Any, name: str, kind: pa.DataType, number: Decimal) -> pc.Expression:
        """Compare a column of whole numbers with any number, exactly."""
        import pyarrow as pa
        import pyarrow.compute as pc
        from sqlglot import exp

        bounds = np.iinfo(kind.to_pandas_dtype())
        column, smallest = pc.field(name), pa.scalar(int(bounds.min), kind)
        whole = number == number.to_integral_value()
        if whole and bounds.min <= number <= bounds.max:
            return self.apply(how, column, pa.scalar(int(number), kind))
        # Between two whole numbers, or beyond all of them: for every row that has a value the same, or nearly.
        true, false = column >= smallest, column < smallest
        if how in (exp.EQ, exp.NEQ):
            return true if how is exp.NEQ else false
        if number > bounds.max or number < bounds.min:
            return true if (how in (exp.LT, exp.LTE)) == (number > bounds.max) else false
        above = how in (exp.GT, exp.GTE)
        return self.apply(
            exp.GTE if above else exp.LTE, column, pa.scalar(math.ceil(number) if above else math.floor(number), kind)
        )

    def apply(self, how: Any, left: Any, right: Any) -> pc.Expression:
        from sqlglot import exp

        operators: dict[Any, Callable[[Any, Any], Any]] = {
            exp.EQ: lambda a, b: a == b, exp.NEQ: lambda a, b: a != b, exp.GT: lambda a, b: a > b,
            exp.GTE: lambda a, b: a >= b, exp.LT: lambda a, b: a < b, exp.LTE: lambda a, b: a <= b,
        }  # fmt: skip
        result: pc.Expression = operators[how](left, right)
        return result

    def column(self, node: Any) -> tuple[str, pa.DataType]:
        from sqlglot import exp

        node = _inside(node)
        if not isinstance(node, exp.Column):
            raise self.where._error(f"has {node.sql()!r} where a column is expected; {_ALLOWED}")
        name = self.where._name(node)
        return name, _plain(self.types[name])

    def value(self, node: Any, name: str, kind: pa.DataType) -> Any:
        """Return the value that a column is compared with, in its type."""
        import pyarrow as pa
        from sqlglot import exp

        text, declared = _literal(node), None
        if isinstance(node, exp.Cast):
            declared = node.to.this.value
            text = _literal(node.this)
        types = pa.types
        wrong = self.where._error(
            f"compares column {name!r} ({kind}) with {node.sql()}: their types don't compare{_remedy(kind)}"
        )
        if isinstance(node, exp.Null):
            raise self.where._error(f"compares column {name!r} with null; write {name} is null, or is not null")
        if isinstance(node, exp.Boolean):
            if not types.is_boolean(kind):
                raise wrong
            return pa.scalar(bool(node.this))
        if text is None:
            raise wrong
        is_text, word = text
        try:
            if types.is_date(kind) and is_text and declared in (None, "DATE"):
                return pa.scalar(datetime.date.fromisoformat(word), pa.date32())
            if types.is_timestamp(kind) and is_text and declared in (None, "DATE", "TIMESTAMP", "TIMESTAMPTZ"):
                return _point_in_time(word, kind)
            if declared is not None:
                raise wrong
            if _is_text(kind) and is_text:
                return pa.scalar(word)
            if types.is_decimal(kind) and not is_text:
                return pa.scalar(Decimal(word))
            if types.is_floating(kind) and not is_text:
                return pa.scalar(float(word))
        except (ValueError, ArithmeticError, pa.ArrowException) as error:
            raise wrong from error
        raise wrong


def _any(conditions: list[pc.Expression]) -> pc.Expression:
    """Return whether one of some conditions holds; as a tree that is not deep."""
    while len(conditions) > 1:
        pairs = [conditions[at : at + 2] for at in range(0, len(conditions), 2)]
        conditions = [pair[0] | pair[1] if len(pair) == 2 else pair[0] for pair in pairs]
    return conditions[0]


def _inside(node: Any) -> Any:
    from sqlglot import exp

    while isinstance(node, exp.Paren):
        node = node.this
    return node


def _literal(node: Any) -> tuple[bool, str] | None:
    """Return whether a literal is a text, and what it says; None where it is no literal."""
    from sqlglot import exp

    if isinstance(node, exp.Neg) and isinstance(node.this, exp.Literal) and not node.this.is_string:
        return False, f"-{node.this.this}"
    return (bool(node.is_string), str(node.this)) if isinstance(node, exp.Literal) else None


def _plain(kind: pa.DataType) -> pa.DataType:
    import pyarrow as pa

    return kind.value_type if pa.types.is_dictionary(kind) else kind


def _is_text(kind: pa.DataType) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _is_number(kind: pa.DataType) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind))


def _same_kind(left: pa.DataType, right: pa.DataType) -> bool:
    import pyarrow as pa

    if pa.types.is_timestamp(left) and pa.types.is_timestamp(right):
        return (left.tz is None) == (right.tz is None)
    if pa.uint64() in (left, right) and left != right and pa.types.is_integer(left) and pa.types.is_integer(right):
        return bool(pa.types.is_unsigned_integer(left) and pa.types.is_unsigned_integer(right))
    tests = (_is_number, _is_text, pa.types.is_boolean, pa.types.is_date)
    return any(test(left) and test(right) for test in tests)


def _number(node: Any) -> Decimal | None:
    """Return the number that a literal stands for; None where it is none."""
    found = _literal(node)
    return None if found is None or found[0] else Decimal(found[1])


def _point_in_time(word: str, kind: pa.DataType) -> Any:
    """Return a point in time, in the column's zone where it says none."""
    import pyarrow as pa

    found = datetime.datetime.fromisoformat(word)
    if kind.tz is None:
        if found.tzinfo is not None:
            raise ValueError("the column has no time zone")
        return pa.scalar(found, pa.timestamp("us"))
    if found.tzinfo is None:
        found = found.replace(tzinfo=ZoneInfo(kind.tz))
    return pa.scalar(found, pa.timestamp("us", tz=kind.tz))


def _remedy(kind: pa.DataType) -> str:
    import pyarrow as pa

    if pa.types.is_date(kind):
        return "; write a date as '2026-01-31'"
    if pa.types.is_timestamp(kind):
        zone = "" if kind.tz is None else f" (of the zone {kind.tz} where none is said)"
        return f"; write a point in time as '2026-01-31 12:00:00'{zone}"
    if _is_text(kind):
        return "; write a text in single quotes"
    return ""

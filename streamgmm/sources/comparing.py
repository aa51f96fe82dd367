"""Comparisons of columns with values, in the types of the columns: exact for whole numbers, by the clock for times."""

from __future__ import annotations

import datetime
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import numpy as np

from streamgmm.exceptions import ConditionError

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.compute as pc

ALLOWED = (
    "a condition compares columns with values: =, <>, <, <=, >, >=, between, in, like, is null, and, or, not, as in "
    "date >= '2026-01-01' and country = 'DE'"
)


#: Of each unit of time.
_NANOSECONDS = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}


@dataclass(frozen=True)
class Binding:
    """Turns the words of a condition into an expression of Arrow's.

    Attributes
    ----------
    types : mapping of str to pyarrow.DataType
        Of the columns that it is about.
    name_of : callable
        Returns the name of a column's node.
    error : callable
        Makes the error that says what is wrong with the condition.
    """

    types: Mapping[str, pa.DataType]
    name_of: Callable[[Any], str]
    error: Callable[[str], ConditionError]

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
                raise self.error(f"takes column {name!r} ({kind}) for true or false; compare it with a value")
            return pc.field(name) == True  # noqa: E712 (an expression, not a value)
        if isinstance(node, exp.Is):
            name, _ = self.column(node.this)
            if not isinstance(node.expression, exp.Null):
                raise self.error(f"has {node.sql()!r}; a column can be tested for null, {name} is null")
            return pc.field(name).is_null()
        if isinstance(node, exp.Between):
            return self.compare(exp.GTE, node.this, node.args["low"]) & self.compare(
                exp.LTE, node.this, node.args["high"]
            )
        if isinstance(node, exp.In):
            found = [self.compare(exp.EQ, node.this, one) for one in node.expressions]
            if not found:
                raise self.error(f"has an empty list, {node.sql()!r}")
            return _any(found)
        if isinstance(node, exp.Like):
            name, kind = self.column(node.this)
            if not _is_text(kind) or not (isinstance(node.expression, exp.Literal) and node.expression.is_string):
                raise self.error(f"has {node.sql()!r}: column {name!r} is {kind}; like compares texts")
            return pc.match_like(pc.field(name).cast(pa.large_string()), node.expression.this)
        if isinstance(node, (exp.EQ, exp.NEQ, exp.GT, exp.GTE, exp.LT, exp.LTE)):
            return self.compare(type(node), node.left, node.right)
        raise self.error(f"has {node.sql()!r}, which is neither true nor false; {ALLOWED}")

    def compare(self, how: Any, left: Any, right: Any) -> pc.Expression:
        import pyarrow as pa
        import pyarrow.compute as pc
        from sqlglot import exp

        left, right = inside(left), inside(right)
        if not isinstance(left, exp.Column):
            turned: dict[Any, Any] = {exp.GT: exp.LT, exp.GTE: exp.LTE, exp.LT: exp.GT, exp.LTE: exp.GTE}
            left, right, how = right, left, turned.get(how, how)
        if not isinstance(left, exp.Column):
            raise self.error(f"compares {left.sql()!r} with {right.sql()!r}; one of both must be a column")
        name, kind = self.column(left)
        if isinstance(right, exp.Column):
            other, of_other = self.column(right)
            if not _same_kind(kind, of_other):
                raise self.error(
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
        if pa.types.is_timestamp(kind) and not isinstance(right, (exp.Null, exp.Boolean)):
            nanoseconds = Decimal(self.nanoseconds(right, name, kind))
            return self.compare_whole(how, name, kind, nanoseconds / _NANOSECONDS[kind.unit])
        return self.apply(how, pc.field(name), self.value(right, name, kind))

    def compare_whole(self, how: Any, name: str, kind: pa.DataType, number: Decimal) -> pc.Expression:
        """Compare a column of whole numbers, or of times that count its unit, with any number of these, exactly."""
        import pyarrow as pa
        import pyarrow.compute as pc
        from sqlglot import exp

        stored = pa.int64() if pa.types.is_timestamp(kind) else kind
        bounds = np.iinfo(stored.to_pandas_dtype())

        def of_column(whole: int) -> pa.Scalar[Any]:
            return pa.scalar(whole, stored).cast(kind)

        column, smallest = pc.field(name), of_column(int(bounds.min))
        whole = number == number.to_integral_value()
        if whole and bounds.min <= number <= bounds.max:
            return self.apply(how, column, of_column(int(number)))
        # Between two whole numbers, or beyond all of them: for every row that has a value the same, or nearly.
        true, false = column >= smallest, column < smallest
        if how in (exp.EQ, exp.NEQ):
            return true if how is exp.NEQ else false
        if number > bounds.max or number < bounds.min:
            return true if (how in (exp.LT, exp.LTE)) == (number > bounds.max) else false
        above = how in (exp.GT, exp.GTE)
        return self.apply(
            exp.GTE if above else exp.LTE, column, of_column(math.ceil(number) if above else math.floor(number))
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

        node = inside(node)
        if not isinstance(node, exp.Column):
            raise self.error(f"has {node.sql()!r} where a column is expected; {ALLOWED}")
        name = self.name_of(node)
        return name, _plain(self.types[name])

    def value(self, node: Any, name: str, kind: pa.DataType) -> Any:
        """Return the value that a column is compared with, in its type."""
        import pyarrow as pa
        from sqlglot import exp

        text, declared = _declared(node)
        types = pa.types
        wrong = self.mismatch(node, name, kind)
        if isinstance(node, exp.Null):
            raise self.error(f"compares column {name!r} with null; write {name} is null, or is not null")
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

    def nanoseconds(self, node: Any, name: str, kind: pa.DataType) -> int:
        """Return the point in time that a column is compared with, since 1970."""
        text, declared = _declared(node)
        wrong = self.mismatch(node, name, kind)
        if text is None or not text[0] or declared not in (None, "DATE", "TIMESTAMP", "TIMESTAMPTZ"):
            raise wrong
        try:
            return _nanoseconds(text[1], kind)
        except (ValueError, ArithmeticError, KeyError) as error:
            raise wrong from error

    def mismatch(self, node: Any, name: str, kind: pa.DataType) -> ConditionError:
        return self.error(
            f"compares column {name!r} ({kind}) with {node.sql()}: their types don't compare{_remedy(kind)}"
        )


def _any(conditions: list[pc.Expression]) -> pc.Expression:
    """Return whether one of some conditions holds; as a tree that is not deep."""
    while len(conditions) > 1:
        pairs = [conditions[at : at + 2] for at in range(0, len(conditions), 2)]
        conditions = [pair[0] | pair[1] if len(pair) == 2 else pair[0] for pair in pairs]
    return conditions[0]


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


def _declared(node: Any) -> tuple[tuple[bool, str] | None, str | None]:
    """Return a literal as `_literal` does, and the type that it is said to be of, as in date '2026-01-31'."""
    from sqlglot import exp

    return (_literal(node.this), node.to.this.value) if isinstance(node, exp.Cast) else (_literal(node), None)


def _nanoseconds(word: str, kind: pa.DataType) -> int:
    """Return a point in time, in the column's zone where it says none, as nanoseconds since 1970."""
    finer = re.fullmatch(r"(?P<before>.*\.[0-9]{6})(?P<nanoseconds>[0-9]{1,3})(?P<zone>.*)", word)
    if finer is not None:
        return _nanoseconds(finer["before"] + finer["zone"], kind) + int(finer["nanoseconds"].ljust(3, "0"))
    found, start = datetime.datetime.fromisoformat(word), datetime.datetime(1970, 1, 1)
    if kind.tz is None:
        if found.tzinfo is not None:
            raise ValueError("the column has no time zone")
    else:
        start = start.replace(tzinfo=datetime.UTC)
        if found.tzinfo is None:
            offset = re.fullmatch(r"[+-][0-9]{2}:?[0-9]{2}", kind.tz)
            zone = datetime.datetime.fromisoformat(f"2000-01-01T00:00{kind.tz}").tzinfo if offset else ZoneInfo(kind.tz)
            found = found.replace(tzinfo=zone)
    return (found - start) // datetime.timedelta(microseconds=1) * 1000


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


def inside(node: Any) -> Any:
    """Return what stands in parentheses."""
    from sqlglot import exp

    while isinstance(node, exp.Paren):
        node = node.this
    return node

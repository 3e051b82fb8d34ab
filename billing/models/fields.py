"""The column type of money and the database rules of many tables."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from operator import or_
from typing import TYPE_CHECKING, Any

from django.db import models
from django.db.backends.base.base import BaseDatabaseWrapper
from django.utils.deconstruct import deconstructible

from billing.pricing import MAX_MICROCREDITS

# Django's fields are generic in its type stubs only.
if TYPE_CHECKING:
    _BigInteger = models.BigIntegerField[int, int]
    _OptionalBigInteger = models.BigIntegerField[int | None, int | None]
else:
    _BigInteger = _OptionalBigInteger = models.BigIntegerField


@deconstructible(path="billing.models.fields.IsInteger")
class IsInteger(models.Func):
    """True if the stored value is an integer. SQLite stores any type in any column; PostgreSQL cannot."""

    template = "typeof(%(expressions)s) = 'integer'"
    output_field = models.BooleanField()

    def as_postgresql(self, compiler: Any, connection: BaseDatabaseWrapper, **context: Any) -> tuple[str, list[Any]]:
        sql, params = self.as_sql(compiler, connection, template="(%(expressions)s) IS NOT NULL", **context)
        return sql, list(params)


class MicrocreditsField(_BigInteger):
    """A signed 64-bit number of microcredits. Use `money_rules` in `Meta.constraints` for its bounds."""


class OptionalMicrocreditsField(_OptionalBigInteger):
    """The same, or nothing. Declare it with `null=True`."""


def money_rules(prefix: str, *names: str) -> list[models.CheckConstraint]:
    """Constraints that keep each column an integer within the ledger's range; a column that may be null may stay so."""
    return [
        models.CheckConstraint(
            condition=models.Q(**{f"{name}__isnull": True})
            | (IsInteger(name) & models.Q(**{f"{name}__range": (-MAX_MICROCREDITS, MAX_MICROCREDITS)})),
            name=f"{prefix}_{name}_is_money",
        )
        for name in names
    ]


def positive_rules(prefix: str, *names: str) -> list[models.CheckConstraint]:
    """Constraints that keep each column, unless it is null, at 1 or more."""
    return [
        models.CheckConstraint(
            condition=models.Q(**{f"{name}__isnull": True}) | models.Q(**{f"{name}__gt": 0}),
            name=f"{prefix}_{name}_is_positive",
        )
        for name in names
    ]


def one_of(name: str, values: Sequence[str]) -> models.Q:
    """True if the column is one of the values, for a constraint of rows that each request writes.

    Said as alternatives, because SQLite makes a table of the values anew for each row that it holds against `IN`.
    """
    return reduce(or_, (models.Q(**{name: value}) for value in values))

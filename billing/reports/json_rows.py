"""Rows of a subquery as one JSON value of the outer query: a second query saved."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import JSONField, Subquery
from django.db.models.sql.compiler import SQLCompiler


class JsonRows(Subquery):
    """The rows of a query whose one column `row` is JSON, as one JSON array."""

    template = "(SELECT json_group_array(json(found.row)) FROM (%(subquery)s) found)"
    output_field = JSONField()

    def as_postgresql(self, compiler: SQLCompiler, connection: BaseDatabaseWrapper) -> tuple[str, Any]:
        template = "(SELECT coalesce(jsonb_agg(found.row), '[]') FROM (%(subquery)s) found)"
        return self.as_sql(compiler, connection, template=template)


def json_moment(text: str) -> datetime:
    """A time as it stands in such a row. SQLite keeps UTC without saying so."""
    at = datetime.fromisoformat(text)
    return at.replace(tzinfo=UTC) if at.tzinfo is None else at

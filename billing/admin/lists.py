"""Lists of rows that nobody edits and that only ever grow: requests, holds, entries, audit events.

No page of them costs more than the rows it shows, whatever the table holds: they are ordered by time, continued from a row
and not from a number of rows, never counted, and searched by whole ids only. What a list shows can be had as CSV.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any, NamedTuple

from django.conf import settings
from django.contrib import messages
from django.contrib.admin.utils import label_for_field
from django.db.models import Model, Q, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from unfold.views import ChangeList

from billing.admin.columns import value_of
from billing.admin.parts import ReadOnlyAdmin
from billing.reports.export import csv_text

BEFORE, AFTER = "before", "after"

_MONTHS_SHOWN = 12
_CHUNK_ROWS = 2_000


class Period(NamedTuple):
    """One link of the list's calendar."""

    label: str
    query: str
    is_current: bool


class KeysetChangeList(ChangeList):
    """Goes on from the row that `before` or `after` names. `older` and `newer` are query strings, or None at an end."""

    older: str | None = None
    newer: str | None = None

    def get_filters_params(self, params: Any = None) -> dict[str, Any]:
        return {key: value for key, value in super().get_filters_params(params).items() if key not in {BEFORE, AFTER}}

    def get_ordering(self, request: HttpRequest, queryset: QuerySet[Model]) -> list[str]:
        time_field = self.model_admin.time_field
        return [*([f"-{time_field}"] if time_field else []), "-pk"]

    def get_ordering_field_columns(self) -> dict[int, str]:
        return {}

    def get_results(self, request: HttpRequest) -> None:
        before, after = self._mark(BEFORE), self._mark(AFTER)
        rows = self._rows(before, after)
        has_more = len(rows) > self.list_per_page
        rows = rows[: self.list_per_page]
        if after is not None:
            rows.reverse()
        has_older = has_more if after is None else True
        has_newer = has_more if after is not None else before is not None
        self.result_list = rows
        self.result_count, self.full_result_count = len(rows), None
        self.show_full_result_count = self.can_show_all = self.multi_page = False
        self.show_admin_actions = False
        self.paginator = self.model_admin.get_paginator(request, self.queryset, self.list_per_page)
        if rows and has_older:
            self.older = self.get_query_string({BEFORE: rows[-1].pk, AFTER: None})
        if rows and has_newer:
            self.newer = self.get_query_string({AFTER: rows[0].pk, BEFORE: None})

    def _mark(self, name: str) -> Model | None:
        value = self.params.get(name, "")
        return self.model._default_manager.filter(pk=int(value)).first() if value.isdecimal() and len(value) < 19 else None

    def _rows(self, before: Model | None, after: Model | None) -> list[Model]:
        rows = self.queryset
        time_field = self.model_admin.time_field
        if after is not None:
            rows = _beyond(rows, after, time_field, "gt").order_by(*([time_field] if time_field else []), "pk")
        elif before is not None:
            rows = _beyond(rows, before, time_field, "lt")
        return list(rows[: self.list_per_page + 1])

    def periods(self) -> list[Period]:
        """The calendar above the list: days of the month that is shown, else the last months."""
        time_field = self.model_admin.time_field
        year, month, day = (self.params.get(f"{time_field}__{part}", "") for part in ("year", "month", "day"))
        names = [f"{time_field}__{part}" for part in ("year", "month", "day")]

        def link(label: str, *values: int) -> Period:
            chosen = dict(zip(names, [*map(str, values), None, None, None], strict=False))
            is_current = [*map(str, values)] == [part for part in (year, month, day) if part]
            return Period(label, self.get_query_string(chosen | {BEFORE: None, AFTER: None}), is_current)

        today = timezone.now().astimezone(UTC).date()
        links = [link("All time"), link("Today", today.year, today.month, today.day)]
        if year.isdecimal() and month.isdecimal() and 0 < int(month) <= 12 and 1970 <= int(year) < 9999:
            first = date(int(year), int(month), 1)
            links.append(link(f"{first:%B %Y}", first.year, first.month))
            count = (_next_month(first) - first).days
            links += [link(str(number), first.year, first.month, number) for number in range(1, count + 1)]
            return links
        first = today.replace(day=1)
        for _ in range(_MONTHS_SHOWN):
            links.append(link(f"{first:%b %Y}", first.year, first.month))
            first = (first - timedelta(days=1)).replace(day=1)
        return links

    def span(self) -> str:
        """What the page shows, in words."""
        rows, time_field = self.result_list, self.model_admin.time_field
        if not rows:
            return "Nothing"
        name = self.opts.verbose_name if len(rows) == 1 else self.opts.verbose_name_plural
        if not time_field:
            return f"{len(rows)} {name}"
        newest, oldest = (_moment(value_of(row, time_field)) for row in (rows[0], rows[-1]))
        return f"{len(rows)} {name}, {newest} to {oldest} UTC"


def _beyond(rows: QuerySet[Any], mark: Model, time_field: str, side: str) -> QuerySet[Any]:
    if not time_field:
        return rows.filter(**{f"pk__{side}": mark.pk})
    at = value_of(mark, time_field)
    # The bound on the time alone is the one by which the index is entered.
    return rows.filter(Q(**{f"{time_field}__{side}": at}) | Q(**{f"pk__{side}": mark.pk}), **{f"{time_field}__{side}e": at})


def _next_month(first: date) -> date:
    return (first + timedelta(days=32)).replace(day=1)


def _moment(at: datetime) -> str:
    return f"{at.astimezone(UTC):%d %b %Y, %H:%M:%S}".lstrip("0")


class BookAdmin(ReadOnlyAdmin):
    """`time_field` orders the list and needs an index; empty where rows have no time. `exact_fields` are searched whole."""

    change_list_template = "admin/billing/book.html"
    list_filter_submit = True
    sortable_by = ()
    time_field = "created_at"
    exact_fields: tuple[str, ...] = ()

    @property
    def date_hierarchy(self) -> str | None:
        """By which Django understands `created_at__year` and the like; the links are `KeysetChangeList.periods`."""
        return self.time_field or None

    def get_changelist(self, request: HttpRequest, **options: Any) -> type[ChangeList]:
        return KeysetChangeList

    def get_search_fields(self, request: HttpRequest) -> tuple[str, ...]:
        return self.exact_fields

    def get_search_results(self, request: HttpRequest, queryset: QuerySet[Any], search_term: str) -> tuple[QuerySet[Any], bool]:
        term = search_term.strip()
        # PostgreSQL takes no character zero
        return (self.found(queryset, term) if term.isprintable() else queryset.none()) if term else queryset, False

    def found(self, queryset: QuerySet[Any], term: str) -> QuerySet[Any]:
        """The rows that a whole id means.

        Each field is looked up by its own index first: of an OR of all of them, a database may rather read the whole table.
        """
        known = self.model._default_manager
        fields = [field for field in self.exact_fields if known.filter(**{field: term}).exists()]
        chosen = Q()
        for field in fields:
            chosen |= Q(**{field: term})
        return queryset.filter(chosen) if fields else queryset.none()

    def get_urls(self) -> list[URLPattern]:
        name = f"{self.opts.app_label}_{self.opts.model_name}_export"
        return [path("export/", self.admin_site.admin_view(self.export), name=name), *super().get_urls()]

    def export(self, request: HttpRequest) -> HttpResponse:
        """All rows that the filters of the list show, as CSV; none where they are too many."""
        if not self.has_view_permission(request):
            return HttpResponse(status=403)
        changes = self.get_changelist_instance(request)
        most = settings.STAFF_EXPORT_ROWS
        # Asked of an index before any row is read.
        if changes.queryset.order_by().values("pk")[most : most + 1]:
            messages.error(request, f"More than {most:,} rows. Choose a month, a day or a filter, and export again.")
            page = reverse(f"admin:{self.opts.app_label}_{self.opts.model_name}_changelist")
            return HttpResponseRedirect(f"{page}?{request.GET.urlencode()}")
        rows = changes.queryset.iterator(chunk_size=_CHUNK_ROWS)
        columns = [column for column in self.get_list_display(request) if column != "action_checkbox"]
        head = [str(label_for_field(column, self.model, self)) for column in columns]
        text = csv_text([head, *([_cell(self, column, row) for column in columns] for row in rows)])
        headers = {"Content-Disposition": f'attachment; filename="{self.opts.model_name}.csv"', "Cache-Control": "no-store"}
        return HttpResponse(text, content_type="text/csv; charset=utf-8", headers=headers)


def _cell(admin: BookAdmin, column: Any, row: Model) -> str | int:
    if callable(raw := getattr(column, "csv", None)):
        value = raw(row)
    else:
        value = column(row) if callable(column) else value_of(row, column)
    return value if isinstance(value, int) else str("" if value is None else value)

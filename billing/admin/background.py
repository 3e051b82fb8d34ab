"""Background work in the staff admin, to read: what waits, runs, was done and failed (`billing.courier` runs it)."""

from __future__ import annotations

import json
from typing import Any

from django.contrib import admin
from django_tasks_db import admin as _of_library  # noqa: F401 - registers its pages, which are not of the theme
from django_tasks_db.models import DBTaskResult
from unfold.contrib.filters.admin import ChoicesDropdownFilter

from billing.admin.columns import badge, id_column, time_column
from billing.admin.parts import ReadOnlyAdmin

admin.site.unregister(DBTaskResult)

_LOOKS = {
    "READY": ("plain", "schedule"),
    "RUNNING": ("info", "sync"),
    "SUCCESSFUL": ("plain", "check"),
    "FAILED": ("bad", "close"),
}


@admin.display(description="State")
def _state(task: DBTaskResult[..., Any]) -> str:
    return badge("", task.status.capitalize(), _LOOKS.get(task.status))


@admin.register(DBTaskResult)
class TaskAdmin(ReadOnlyAdmin):
    list_display = [
        time_column("enqueued_at", "Enqueued"),
        id_column("task_path", "Task"),
        _state,
        time_column("started_at", "Started"),
        time_column("finished_at", "Finished"),
        id_column("exception_class_path", "Failure"),
    ]
    list_filter = [("status", ChoicesDropdownFilter)]
    list_filter_submit = True
    ordering = ["-enqueued_at"]
    fields = [
        *("task_path", "status", "enqueued_at", "started_at", "finished_at", "run_after", "queue_name", "priority"),
        *("arguments", "exception_class_path", "trace"),
    ]
    readonly_fields = fields

    @admin.display(description="Arguments")
    def arguments(self, task: DBTaskResult[..., Any]) -> str:
        return json.dumps(task.args_kwargs, ensure_ascii=False, indent=1)

    @admin.display(description="Trace")
    def trace(self, task: DBTaskResult[..., Any]) -> str:
        return task.traceback or "-"

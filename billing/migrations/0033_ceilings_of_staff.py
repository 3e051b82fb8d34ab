"""The ceiling of a workspace's budget is what staff set. Until now it was what anybody had set last, members too."""

from django.db import migrations


def keep_those_of_staff(apps, schema_editor):
    """Who set what stands in the audit trail. A limit that members had made looser stays so: staff may have let them."""
    Budget, AuditEvent = apps.get_model("billing", "Budget"), apps.get_model("billing", "AuditEvent")
    for budget in Budget.objects.filter(scope="workspace").order_by("pk").iterator():
        events = AuditEvent.objects.filter(workspace_id=budget.scope_id, action="budget.set", actor__startswith="staff:")
        last = events.filter(details__scope="workspace", details__period=budget.period).order_by("-pk").first()
        limit = None if last is None or budget.is_lifted else last.details["limit_microcredits"]
        ceiling = limit if limit is not None and budget.limit_microcredits <= limit else None
        # Requests write other columns of the row meanwhile.
        Budget.objects.filter(pk=budget.pk).update(ceiling_microcredits=ceiling)


class Migration(migrations.Migration):

    dependencies = [
        ("billing", "0032_owed_credit"),
    ]

    operations = [
        migrations.RunPython(keep_those_of_staff, migrations.RunPython.noop),
    ]

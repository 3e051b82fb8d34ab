"""The ceiling of a workspace's budget is what staff set. Until now it was what anybody had set last, members too."""

from django.db import migrations


def keep_those_of_staff(apps, schema_editor):
    """Who set what stands in the audit trail. A limit that members had made looser stays so: staff may have let them."""
    Budget, AuditEvent = apps.get_model("billing", "Budget"), apps.get_model("billing", "AuditEvent")
    events = AuditEvent.objects.filter(action="budget.set", actor__startswith="staff:").order_by("pk")
    limits = {
        (workspace_id, details["period"]): details["limit_microcredits"]
        for workspace_id, details in events.values_list("workspace_id", "details").iterator()
        if details.get("scope") == "workspace"
    }
    budgets = Budget.objects.filter(scope="workspace").order_by("pk")
    for budget in list(budgets.only("pk", "scope_id", "period", "is_lifted", "limit_microcredits")):
        limit = None if budget.is_lifted else limits.get((budget.scope_id, budget.period))
        ceiling = limit if limit is not None and budget.limit_microcredits <= limit else None
        # Requests write other columns of the row meanwhile.
        Budget.objects.filter(pk=budget.pk).update(ceiling_microcredits=ceiling)


class Migration(migrations.Migration):
    # Each row by itself, so that no request waits for all of them. To do it again does no harm.
    atomic = False

    dependencies = [
        ("billing", "0032_owed_credit"),
    ]

    operations = [
        migrations.RunPython(keep_those_of_staff, migrations.RunPython.noop),
    ]

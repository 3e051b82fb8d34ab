"""`migrate` runs the system checks before it migrates, over the tables as the version before left them."""

import pytest
from django.core.management import call_command
from django.db import connection
from django.db.migrations.executor import MigrationExecutor

from chat.models import Provider

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.mark.slow
def test_the_check_of_the_catalogue_reads_no_column_that_is_still_to_come():
    executor = MigrationExecutor(connection)
    leaves = executor.loader.graph.leaf_nodes()
    Provider.objects.create(slug="here", dialect="openai", base_url="https://llm.example.org/v1", api_key_encrypted=b"x")
    executor.migrate([("chat", "0003_provider_state")])
    try:
        call_command("check", databases=["default"])
        call_command("migrate", verbosity=0, skip_checks=False)
    finally:
        MigrationExecutor(connection).migrate(leaves)

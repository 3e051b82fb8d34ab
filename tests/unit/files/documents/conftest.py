from __future__ import annotations

import pytest

from billing.models import Workspace
from files.documents import Documents
from tests.unit.files.documents.reading import ENGINES, CountingSandbox


@pytest.fixture(params=ENGINES.values(), ids=list(ENGINES))
def sandbox(request: pytest.FixtureRequest) -> CountingSandbox:
    return CountingSandbox(kept_in=request.param)


@pytest.fixture
def documents(sandbox: CountingSandbox) -> Documents:
    return Documents(sandbox)


@pytest.fixture
def workspace_id(transactional_db: None) -> int:
    return Workspace.objects.create(name="Acme").pk


@pytest.fixture
def rival_id(transactional_db: None) -> int:
    return Workspace.objects.create(name="Rival").pk

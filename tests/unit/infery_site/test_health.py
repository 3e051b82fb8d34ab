import pytest

from infery_site.health import DRAINING


@pytest.fixture
def draining():
    DRAINING.set()
    yield
    DRAINING.clear()


def test_a_live_process_is_healthy_without_a_database(client):
    response = client.get("/healthz")
    assert response.status_code == 200
    assert response.json() == {"status": "ok"}


def test_probes_may_come_by_any_host(client):
    assert client.get("/healthz", headers={"host": "10.1.2.3:8000"}).status_code == 200


def test_draining_is_alive_and_not_ready(client, draining):
    assert client.get("/healthz").status_code == 200
    response = client.get("/readyz")
    assert response.status_code == 503
    assert response.json() == {"status": "unavailable", "cause": "draining"}
    assert response["retry-after"] == "1"


@pytest.mark.django_db
def test_a_process_with_a_database_is_ready(client):
    assert client.get("/readyz").status_code == 200


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
def test_only_reads_are_answered(client, path):
    response = client.post(path)
    assert response.status_code == 405
    assert response["allow"] == "GET, HEAD"
    assert response.json()["error"]["code"] == "method_not_allowed"

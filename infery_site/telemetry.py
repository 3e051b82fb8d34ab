"""What an installation tells Prometheus: `GET /metrics`, to a caller on this machine or with the METRICS_TOKEN (K17).

Rooms declare their figures with `prometheus_client` where they count them; no label tells a workspace, a key or a file. The
workers of one server share what they count by files, so that whichever of them is asked answers for all.
"""

from __future__ import annotations

import contextlib
import hmac
import ipaddress
import os
import tempfile
from collections.abc import Callable, Iterator

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase, HttpResponseNotAllowed
from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, CollectorRegistry, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

from infery_site.errors import ApiError
from infery_site.responses import error_response

_SHARED_IN = "PROMETHEUS_MULTIPROC_DIR"
_PROXIES_SAY = ("x-forwarded-for", "forwarded", "x-real-ip")


class MetricsForbidden(ApiError):
    def __init__(self) -> None:
        super().__init__(403, "permission_denied", "Metrics are told to this machine, and to who has the METRICS_TOKEN.")


class Metrics:
    """Django middleware that answers `/metrics`, in front of the check of the Host header, and passes everything else on."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        if request.path != "/metrics":
            return self._get_response(request)
        if request.method not in {"GET", "HEAD"}:
            return HttpResponseNotAllowed(["GET", "HEAD"])
        if not (_has_token(request) or _is_here(request)):
            return error_response(MetricsForbidden())
        return HttpResponse(exposition(), content_type=CONTENT_TYPE_LATEST)


def exposition() -> bytes:
    """All figures of this server, in Prometheus' text format."""
    if _SHARED_IN not in os.environ:
        return generate_latest(REGISTRY)
    registry = CollectorRegistry()
    MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return generate_latest(registry)


@contextlib.contextmanager
def shared_by(workers: int) -> Iterator[None]:
    """Processes that are started meanwhile count together, if there are to be several."""
    if workers == 1:
        yield
        return
    with tempfile.TemporaryDirectory(prefix="gateway-metrics-") as folder:
        os.environ[_SHARED_IN] = folder
        try:
            yield
        finally:
            del os.environ[_SHARED_IN]


def _has_token(request: HttpRequest) -> bool:
    wanted, given = f"Bearer {settings.METRICS_TOKEN}", request.headers.get("authorization", "")
    return bool(settings.METRICS_TOKEN) and hmac.compare_digest(given.encode(), wanted.encode())


def _is_here(request: HttpRequest) -> bool:
    """Whether the caller is on this machine. A proxy that is speaks for somebody else."""
    if any(name in request.headers for name in _PROXIES_SAY):
        return False
    try:
        return ipaddress.ip_address(request.META.get("REMOTE_ADDR", "")).is_loopback
    except ValueError:
        return False

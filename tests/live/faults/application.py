"""The gateway as it is served, except that images are fetched from one port of loopback, and not waited for as long."""

import os

from infery_site.asgi import new_application
from infery_site.fetch import Fetcher, Limits
from infery_site.lifespan import Runtime, new_gateway

IMAGE_PORT = "TESTS_IMAGE_PORT"
LIMITS = Limits(total_s=1.5, head_s=0.75, failure_least_s=0.05)


def _fetcher() -> Fetcher:
    return Fetcher(judge="127.0.0.1".__eq__, limits=LIMITS, ports={int(os.environ[IMAGE_PORT])})


application = new_application(Runtime(lambda: new_gateway(_fetcher())))

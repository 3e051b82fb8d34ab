"""Routes of everything that Django serves; the chat endpoint goes around it, see `asgi.py`."""

from __future__ import annotations

from django.contrib import admin
from django.templatetags.static import static
from django.urls import include, path
from django.views.generic import RedirectView

from billing.api.stripe import receive
from chat.console.docs import public_page
from chat.openapi.document import OpenApi

urlpatterns = [
    path("", RedirectView.as_view(url="/console/")),
    path("console", RedirectView.as_view(url="/console/")),
    path("console/", include("billing.console.urls")),
    path("console/", include("files.console.urls")),
    path("console/", include("chat.console.urls")),
    path("docs", RedirectView.as_view(url="/docs/")),
    path("docs/", public_page, name="docs"),
    path("docs/<str:slug>", public_page, name="docs-page"),
    path("openapi.json", OpenApi.as_view(), name="openapi"),
    # Asked for by browsers that show an answer which is no page: JSON, a file, a piece of a page.
    path("favicon.ico", RedirectView.as_view(url=static("gateway/mark.svg"))),
    path("admin", RedirectView.as_view(url="/admin/")),
    path("admin/", admin.site.urls),
    path("accounts/", include("infery_site.signin.urls")),
    path("v1/", include("chat.api.urls")),
    path("v1/", include("files.api.urls")),
    path("v1/", include("billing.api.urls")),
    path("api/", include("billing.api.management_urls")),
    path("stripe/events", receive),
]

handler400 = "infery_site.middleware.bad_request"
handler404 = "infery_site.middleware.not_found"
handler500 = "infery_site.middleware.server_error"

"""Where Stripe tells what became of payments: signed events, from nobody else."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed, JsonResponse
from django.http.response import HttpResponseBase
from django.views.decorators.csrf import csrf_exempt

from billing.errors import EventNotSigned, PaymentNotAsAsked, PaymentServiceAway
from billing.payments import booking, events, provider
from infery_site.middleware import unknown_url
from infery_site.responses import error_response


@csrf_exempt
def receive(request: HttpRequest) -> HttpResponseBase:
    """200 for what was done, now or before, and for what is none of ours; else Stripe sends the event again."""
    if not provider.is_configured():
        return error_response(unknown_url())
    if request.method != "POST":
        return HttpResponseNotAllowed(["POST"])
    try:
        events.handle(provider.event_of(request.body, request.headers.get("stripe-signature", "")))
    except provider.BadEvent:
        return error_response(EventNotSigned())
    except booking.PaymentMismatch:
        return error_response(PaymentNotAsAsked())
    except provider.Unavailable:
        return error_response(PaymentServiceAway())
    answer: HttpResponse = JsonResponse({"received": True})
    return answer

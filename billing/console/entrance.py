"""Before a workspace: which one to go to, a new one, and invitations to join one."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps

from django.contrib import messages
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseNotAllowed
from django.shortcuts import redirect, render
from django.views.decorators.cache import never_cache

from billing import invitations, members
from billing.console.visits import CHOSEN, memberships_of, sent, to_login

View = Callable[..., HttpResponse]


def _signed_in(*methods: str) -> Callable[[View], View]:
    def decorate(view: View) -> View:
        @never_cache
        @wraps(view)
        def answered(request: HttpRequest, **kwargs: str) -> HttpResponse:
            if not request.user.is_authenticated:
                return to_login(request)
            if request.method not in {"HEAD", *methods}:
                return HttpResponseNotAllowed(methods)
            return view(request, request.user, **kwargs)

        return answered

    return decorate


@_signed_in("GET")
def index(request: HttpRequest, user: User) -> HttpResponse:
    """To the workspace that was looked at last; without any, to the making of one."""
    memberships = memberships_of(user)
    if not memberships:
        return redirect("console-new")
    ids = [member.workspace.public_id for member in memberships]
    chosen = request.session.get(CHOSEN)
    return redirect("console-overview", chosen if chosen in ids else ids[0])


@_signed_in("GET", "POST")
def new(request: HttpRequest, user: User) -> HttpResponse:
    name, error = "", ""
    if request.method == "POST":
        name = sent(request, "name")["name"]
        try:
            member = members.found_workspace(name, user)
        except ValidationError as refusal:
            error = refusal.messages[0]
        else:
            return redirect("console-overview", member.workspace.public_id)
    context = {"name": name, "error": error, "offers": invitations.list_offers(user), "memberships": memberships_of(user)}
    return render(request, "console/new.html", context, status=400 if error else 200)


@_signed_in("GET", "POST")
def invitation(request: HttpRequest, user: User, invitation_id: str) -> HttpResponse:
    """An invitation is there for whoever has verified its address; to everybody else it does not exist."""
    offer = invitations.list_offers(user).filter(public_id=invitation_id).first()
    if offer is None:
        raise Http404
    if request.method == "POST":
        sent(request)
        try:
            member = invitations.accept(offer, user)
        except invitations.InvitationOver:
            raise Http404 from None
        except ValidationError as refusal:
            messages.error(request, refusal.messages[0])
            return redirect("console")
        messages.success(request, f"You are a member of {member.workspace.name} now, as {member.get_role_display()}.")
        return redirect("console-overview", member.workspace.public_id)
    return render(request, "console/invitation.html", {"offer": offer})

"""Who looks at a page of the console: a person, as a member of the workspace that the URL names, by his role of this moment.

A view names the action of each of its methods (`billing.permissions`); a method without one is refused. To whoever is no
member, and for whatever object is not his to see, a workspace and what is in it do not exist: one page for all of that.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar, cast

import msgspec
from django.conf import settings
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied, SuspiciousOperation
from django.db.models import Model, QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseNotAllowed
from django.http.response import HttpResponseBase
from django.urls import reverse
from django.views.decorators.cache import never_cache

from billing.apikeys import Creator, creator_of
from billing.members import memberships_open_to
from billing.models import Account, Membership, Workspace
from billing.permissions import Action, Grant, grant_of_role
from infery_site.signin.steps import to_step

CHOSEN = "workspace"
_SAFE = frozenset({"GET", "HEAD"})
_BELOW = "/console/"

Row = TypeVar("Row", bound=Model)
P = ParamSpec("P")


class Visit(msgspec.Struct, frozen=True):
    """`member` comes with his workspace, its plan and account; `memberships` are all that this person has."""

    member: Membership
    memberships: list[Membership]

    @property
    def workspace(self) -> Workspace:
        return self.member.workspace

    @property
    def account(self) -> Account:
        return self.workspace.account

    @property
    def user(self) -> User:
        return self.member.user

    @property
    def actor(self) -> str:
        return f"user:{self.user.get_username()}"

    def grant(self, action: Action) -> Grant:
        return grant_of_role(action, self.member.role)

    def may(self, action: Action) -> bool:
        return self.grant(action) is not Grant.NONE

    def permit(self, action: Action) -> Grant:
        """Raises PermissionDenied, in words for the page."""
        grant = self.grant(action)
        if grant is Grant.NONE:
            raise PermissionDenied(
                f"Your role in {self.workspace.name}, {self.member.get_role_display()}, does not allow this."
            )
        return grant

    def owner_of(self, action: Action) -> Membership | None:
        """Whose rows the visitor may act on: None for everybody's."""
        return self.member if self.permit(action) is Grant.OWN else None

    def creator(self) -> Creator:
        return creator_of(self.member)


class PageView(Protocol):
    actions: dict[str, Action]

    def __call__(self, request: HttpRequest, workspace_id: str, **kwargs: Any) -> HttpResponseBase: ...


def visit_of(user: User, workspace_id: str) -> Visit:
    """The visit of a person to the workspace of this public id, in one query. Raises Http404 where it is not his."""
    memberships = memberships_of(user)
    for member in memberships:
        if member.workspace.public_id == workspace_id:
            return Visit(member, memberships)
    raise Http404


def memberships_of(user: User) -> list[Membership]:
    own = memberships_open_to(user.pk)
    return list(own.select_related("workspace__plan", "workspace__account", "preset", "user").order_by("workspace__name", "pk"))


def visiting(
    **actions: Action,
) -> Callable[[Callable[Concatenate[HttpRequest, Visit, P], HttpResponseBase]], PageView]:
    """A view of a workspace: `actions` names what each method does, as `GET=Action.READ_KEYS`."""

    def decorate(view: Callable[Concatenate[HttpRequest, Visit, P], HttpResponseBase]) -> PageView:
        @never_cache
        @functools.wraps(view)
        def answered(request: HttpRequest, workspace_id: str, *args: P.args, **kwargs: P.kwargs) -> HttpResponseBase:
            if not request.user.is_authenticated:
                return to_login(request, workspace_id)
            action = actions.get("GET" if request.method == "HEAD" else request.method or "")
            visit = visit_of(request.user, workspace_id)
            if action is None:
                return HttpResponseNotAllowed(sorted(actions))
            visit.permit(action)
            if request.method not in _SAFE and visit.workspace.state == Workspace.State.SUSPENDED:
                raise PermissionDenied(f"The workspace {visit.workspace.name} is suspended, so nothing in it can be changed.")
            if request.session.get(CHOSEN) != workspace_id:
                request.session[CHOSEN] = workspace_id
            return view(request, visit, *args, **kwargs)

        made = cast("PageView", answered)
        made.actions = actions
        return made

    return decorate


def to_login(request: HttpRequest, workspace_id: str = "") -> HttpResponse:
    """To the sign-in page; the whole page goes there, also where only a part of it was asked for."""
    page = request.get_full_path() if request.method in _SAFE else _BELOW
    of_workspace = reverse("console-overview", args=[workspace_id]) if workspace_id else _BELOW
    return to_step(request, settings.LOGIN_URL, page, below=_BELOW, otherwise=of_workspace)


def found(rows: QuerySet[Row], public_id: str) -> Row:
    """The row of this public id. Raises Http404, by which unknown and foreign ones are answered alike."""
    row = rows.filter(public_id=public_id).first()
    if row is None:
        raise Http404
    return row


def sent(request: HttpRequest, *names: str, many: str = "") -> dict[str, str]:
    """The fields of a form, of which these may be sent and no other, each once but `many`; what is missing is empty.

    A field that nobody knows is no mistake of a person's: it is refused as it is.
    """
    unknown = set(request.POST) - {"csrfmiddlewaretoken", many, *names}
    if unknown or any(len(values) > 1 for name, values in request.POST.lists() if name != many):
        raise SuspiciousOperation("The form has a field that this page has not.")
    return {name: request.POST.get(name, "").strip() for name in names}

"""The staff admin as a whole: every page opens, who gets in, and what others wrote is shown as text."""

import pytest
from django.contrib import admin
from django.contrib.auth.models import Permission, User
from django.template.loader import get_template
from django.urls import reverse

from billing import apikeys
from billing.models import Account, ApiKey, AuditEvent, Entry, RequestTrace, Workspace
from billing.workspaces import create_workspace, transfer_credits
from chat.models import CatalogModel, FallbackChain, Price, Provider, Target
from tests.api.admin.pages import CREDIT, XSS, make_record, sign_in, url

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize(
    ("model", "model_admin"), list(admin.site._registry.items()), ids=lambda value: getattr(value, "__name__", "")
)
def test_every_page_opens(staff, catalogue, generation, model, model_admin, rf, ada):
    request = rf.get("/")
    request.user = ada
    assert staff.get(url(model)).status_code == 200
    assert staff.get(url(model), {"q": "chatcmpl-one"}).status_code == 200
    if model_admin.has_add_permission(request):
        assert staff.get(url(model, "add")).status_code == 200
    for row in model.objects.all()[:3]:
        assert staff.get(url(row, "change")).status_code == 200
        assert staff.get(url(row, "history")).status_code == 200


@pytest.mark.slow
@pytest.mark.parametrize("model", [Workspace, ApiKey, Account, Entry, AuditEvent, CatalogModel, Provider, Price, FallbackChain])
def test_a_list_asks_no_more_queries_for_more_rows(staff, catalogue, model, django_assert_max_num_queries):
    for number in range(12):
        workspace = create_workspace(f"workspace {number}", actor="test")
        apikeys.mint(workspace, "key", actor="test")
        transfer_credits(workspace, 1, kind=Entry.Kind.GRANT, idempotency_key=str(number), actor="test", reason="r")
    with django_assert_max_num_queries(14):
        assert staff.get(url(model)).status_code == 200


def test_the_pages_are_unfold_s():
    """With the apps in another order Django's plain templates win, and nothing says so."""
    assert "unfold" in get_template("admin/base_site.html").origin.name
    assert "unfold" in get_template("admin/change_form.html").origin.name


def test_strangers_and_customers_are_sent_to_the_log_in(client):
    for model in admin.site._registry:
        assert client.get(url(model)).status_code == 302
    client.force_login(User.objects.create_user("customer"))
    assert client.get(url(Workspace)).status_code == 302


def test_staff_without_permissions_can_do_nothing(client, customer):
    sign_in(client, User.objects.create_user("intern", is_staff=True))
    for model in (Workspace, Provider, CatalogModel, User):
        assert client.get(url(model)).status_code == 403
    for page in ("move_credits", "mint_key", "suspend"):
        assert client.post(url(customer, page), {"reason": "r"}).status_code == 403
    assert Account.objects.get(workspace=customer).posted_microcredits == 10 * CREDIT


def test_one_who_may_edit_users_cannot_make_himself_a_superuser(client):
    intern = User.objects.create_user("intern", is_staff=True)
    intern.user_permissions.set(Permission.objects.filter(content_type__app_label="auth"))
    sign_in(client, intern)
    assert client.get(url(intern, "change")).status_code == 403
    assert client.post(url(intern, "change"), {"username": "intern", "is_superuser": "on"}).status_code == 403
    assert not User.objects.get(username="intern").is_superuser


@pytest.mark.slow
def test_row_150_markup_in_names_is_shown_as_text(staff, catalogue, generation):
    workspace = create_workspace(XSS, actor="test")
    key, _ = apikeys.mint(workspace, XSS, actor=XSS)
    transfer_credits(workspace, 1, kind=Entry.Kind.GRANT, idempotency_key=XSS, actor=XSS, reason=XSS)
    model = CatalogModel.objects.get(slug="gpt-4o")
    CatalogModel.objects.filter(pk=model.pk).update(name=XSS, owned_by=XSS)
    Provider.objects.filter(slug="openai").update(base_url=f"https://{XSS}")
    Target.objects.filter(model=model).update(upstream_model=XSS)
    record = make_record(key, generation="chatcmpl-two", model_asked=XSS, model_used=XSS, request_id=XSS, lines=[XSS])
    RequestTrace.objects.create(generation="chatcmpl-two", attempts=[{"model": XSS}], adaptations=[XSS], timings_ms={XSS: 1})
    chain = FallbackChain.objects.get(source=model)
    rows = [
        workspace,
        key,
        Entry.objects.latest("pk"),
        record,
        AuditEvent.objects.latest("pk"),
        model,
        chain,
    ]
    pages = [url(one) for one in admin.site._registry] + [url(row, "change") for row in rows]
    pages += [url(workspace, "mint_key"), url(workspace, "move_credits"), url(workspace, "suspend"), url(key, "revoke")]
    for page in pages:
        content = staff.get(page).content.decode()
        assert "<img src=x" not in content, page
    minted = staff.post(url(workspace, "mint_key"), {"name": XSS, "scopes": ["chat"]}).content.decode()
    assert "&lt;img src=x" in minted
    assert "<img src=x" not in minted
    made = staff.post(reverse("admin:billing_workspace_new_workspace"), {"name": XSS}, follow=True).content.decode()
    assert "&lt;img src=x" in made
    assert "<img src=x" not in made

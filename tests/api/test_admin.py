"""The staff admin: every page, the flows staff need, and what it must not do."""

import re
from decimal import Decimal

import pytest
from django.contrib import admin
from django.contrib.auth.models import Permission, User
from django.core.management import call_command
from django.template.loader import get_template
from django.test import Client
from django.urls import reverse

from billing import apikeys
from billing.models import Account, ApiKey, AuditEvent, Budget, Entry, Hold, RequestTrace, UsageRecord, Workspace
from billing.workspaces import create_workspace, transfer_credits
from chat.catalog import load_snapshot, provider_key, read_version
from chat.loading.chains import chains_in_force
from chat.loading.rows import set_provider_key
from chat.models import CatalogDefault, CatalogModel, FallbackChain, Price, Provider, Target

pytestmark = pytest.mark.django_db

XSS = "<img src=x onerror=alert(1)>"
CREDIT = 1_000_000


@pytest.fixture
def ada():
    return User.objects.create_superuser("ada")


@pytest.fixture
def staff(client, ada):
    client.force_login(ada)
    return client


@pytest.fixture
def catalogue():
    call_command("load_catalog", "catalog.yaml", stdout=None, verbosity=0)


@pytest.fixture
def acme():
    workspace = create_workspace("acme", actor="test")
    transfer_credits(workspace, 10 * CREDIT, kind=Entry.Kind.TOP_UP, idempotency_key="first", actor="test", reason="paid")
    return workspace


@pytest.fixture
def generation(acme):
    """One request with all the rows it leaves."""
    key, _ = apikeys.mint(acme, "laptop", actor="test")
    record = UsageRecord.objects.create(
        generation="chatcmpl-one",
        request_id="my-label",
        workspace=acme,
        api_key=key,
        model_asked="gpt-4o",
        model_used="gpt-4o",
        charged_microcredits=1_500_000,
        lines=[
            {
                "kind": "input",
                "quantity": 1000,
                "unit": "million_tokens",
                "unit_price_microcredits": 250_000_000,
                "amount_microcredits": 250_000,
            },
            {"kind": "odd"},
        ],
        status=200,
        end_state="done",
    )
    RequestTrace.objects.create(
        generation="chatcmpl-one", attempts=[{"model": "gpt-4o", "result": "served"}], timings_ms={"all": 7}
    )
    Hold.objects.create(
        account=acme.account,
        api_key=key,
        generation="chatcmpl-one",
        sequence=1,
        amount_microcredits=2_500_000,
        price_version_id=1,
        lease_expires_at=record.created_at,
    )
    Budget.objects.create(scope="key", scope_id=key.pk, limit_microcredits=5 * CREDIT)
    return record


def url(row_or_model, page="changelist"):
    options = row_or_model._meta
    arguments = [] if isinstance(row_or_model, type) else [row_or_model.pk]
    return reverse(f"admin:{options.app_label}_{options.model_name}_{page}", args=arguments)


def text_of(response):
    return re.sub(r"\s+", " ", response.content.decode())


def form_of(response):
    """The values that a browser would send back for the forms of a page."""
    values = {}
    context = response.context
    forms = [context["adminform"].form] if "adminform" in context else [context["form"]]
    for inline in context.get("inline_admin_formsets") or []:
        forms += [inline.formset.management_form, *inline.formset.forms]
    for form in forms:
        for field in form:
            value = field.value()
            if value is None or value is False:
                continue
            values[field.html_name] = "on" if value is True else value
    return values


# Every page


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


def test_staff_without_permissions_can_do_nothing(client, acme):
    client.force_login(User.objects.create_user("intern", is_staff=True))
    for model in (Workspace, Provider, CatalogModel, User):
        assert client.get(url(model)).status_code == 403
    for page in ("move_credits", "mint_key", "suspend"):
        assert client.post(url(acme, page), {"reason": "r"}).status_code == 403
    assert Account.objects.get(workspace=acme).posted_microcredits == 10 * CREDIT


def test_one_who_may_edit_users_cannot_make_himself_a_superuser(client):
    intern = User.objects.create_user("intern", is_staff=True)
    intern.user_permissions.set(Permission.objects.filter(content_type__app_label="auth"))
    client.force_login(intern)
    assert client.get(url(intern, "change")).status_code == 403
    assert client.post(url(intern, "change"), {"username": "intern", "is_superuser": "on"}).status_code == 403
    assert not User.objects.get(username="intern").is_superuser


# Money and audit rows


@pytest.mark.parametrize("model", [Account, Hold, Entry, Budget, UsageRecord, AuditEvent, Price, Workspace, ApiKey])
def test_rows_of_money_and_audit_can_be_neither_made_nor_changed_nor_deleted(staff, catalogue, generation, model):
    row = model.objects.first()
    before = list(model.objects.values())
    assert staff.post(url(model, "add"), {"name": "x"}).status_code == 403
    assert staff.post(url(row, "change"), {"posted_microcredits": 1, "amount_microcredits": 1}).status_code == 403
    assert staff.post(url(row, "delete"), {"post": "yes"}).status_code == 403
    staff.post(url(model), {"action": "delete_selected", "_selected_action": [row.pk], "post": "yes"})
    assert list(model.objects.values()) == before


def test_amounts_are_shown_in_credits(staff, generation):
    assert "1.5" in text_of(staff.get(url(UsageRecord)))
    page = text_of(staff.get(url(generation, "change")))
    assert "input: 1000 x 250 a million_tokens = 0.25" in page
    assert "&quot;odd&quot;" in page
    assert "served" in page
    assert "250000000" not in page
    assert "2500000" not in text_of(staff.get(url(Hold)))


@pytest.mark.parametrize(("query", "is_found"), [("chatcmpl-one", True), ("my-label", True), ("chatcmpl-two", False)])
def test_usage_is_found_by_generation_and_by_request_id(staff, generation, query, is_found):
    assert ("chatcmpl-one" in text_of(staff.get(url(UsageRecord), {"q": query})).replace(f'value="{query}"', "")) is is_found


# Workspaces, credits, keys


def test_staff_make_a_workspace(staff):
    response = staff.post(reverse("admin:billing_workspace_new_workspace"), {"name": "acme"}, follow=True)
    assert "acme was created" in text_of(response)
    assert Account.objects.filter(workspace__name="acme").exists()
    assert AuditEvent.objects.get().actor == "staff:ada"


def move(staff, workspace, **values):
    page = staff.get(url(workspace, "move_credits"))
    return staff.post(url(workspace, "move_credits"), form_of(page) | {"kind": "top_up", "reason": "invoice 7"} | values)


def test_staff_move_credits_with_a_reason_and_an_audit_event(staff, acme):
    assert move(staff, acme, amount="2.5").status_code == 302
    assert move(staff, acme, amount="1", kind="grant").status_code == 302
    assert move(staff, acme, amount="-3", kind="adjustment").status_code == 302
    assert Account.objects.get(workspace=acme).posted_microcredits == 10_500_000
    event = AuditEvent.objects.filter(action="credits.top_up").latest("pk")
    assert (event.actor, event.reason, event.details["amount_microcredits"]) == ("staff:ada", "invoice 7", 2_500_000)


def test_a_form_sent_twice_books_once(staff, acme):
    values = form_of(staff.get(url(acme, "move_credits"))) | {"kind": "top_up", "amount": "1", "reason": "r"}
    for _ in range(2):
        assert staff.post(url(acme, "move_credits"), values).status_code == 302
    assert Account.objects.get(workspace=acme).posted_microcredits == 11 * CREDIT


ROW_153 = [
    {"amount": "-5"},
    {"amount": "0"},
    {"amount": "1000000000000000000"},
    {"amount": "0.0000001"},
    {"amount": "nan"},
    {"amount": ""},
    {"amount": "5", "reason": ""},
    {"amount": "5", "reason": "   "},
    {"amount": "5", "kind": "usage"},
    {"amount": "-11", "kind": "adjustment"},
    {"amount": "5", "token": "x"},
]


@pytest.mark.parametrize("values", ROW_153, ids=str)
def test_row_153_credits_that_cannot_be_moved(staff, acme, values):
    entries = Entry.objects.count()
    assert move(staff, acme, **values).status_code == 400
    assert Entry.objects.count() == entries
    assert Account.objects.get(workspace=acme).posted_microcredits == 10 * CREDIT


@pytest.mark.parametrize("page", ["move_credits", "mint_key", "suspend", "activate"])
def test_following_a_link_changes_nothing(staff, acme, page):
    before = [*Workspace.objects.values(), *ApiKey.objects.values(), *Entry.objects.values()]
    query = {"amount": "1", "reason": "r", "kind": "grant", "name": "key", "scopes": "chat"}
    assert staff.get(url(acme, page), query).status_code == 200
    assert [*Workspace.objects.values(), *ApiKey.objects.values(), *Entry.objects.values()] == before


def test_row_145_a_form_without_its_token_is_refused(ada, acme):
    client = Client(enforce_csrf_checks=True)
    client.force_login(ada)
    assert client.post(url(acme, "suspend"), {"reason": "r"}).status_code == 403
    assert Workspace.objects.get().state == "active"


def test_suspending_and_activating(staff, acme):
    assert staff.post(url(acme, "suspend"), {"reason": "unpaid"}).status_code == 302
    assert Workspace.objects.get().state == "suspended"
    assert staff.post(url(acme, "activate"), {"reason": "paid"}).status_code == 302
    assert Workspace.objects.get().state == "active"
    assert staff.post(url(acme, "suspend"), {"reason": ""}).status_code == 400


def test_a_minted_key_is_on_one_page_and_nowhere_else(staff, acme):
    values = {"name": "laptop", "scopes": ["chat"], "allowed_models": "gpt-4o\nsandbox-echo", "max_requests_per_minute": "30"}
    response = staff.post(url(acme, "mint_key"), values)
    key = ApiKey.objects.get()
    text = re.search(r"inf_[0-9A-Za-z]{38}", response.content.decode())[0]
    assert apikeys.digest_of(text) == key.digest
    assert (key.allowed_models, key.max_requests_per_minute, key.scopes) == (["gpt-4o", "sandbox-echo"], 30, ["chat"])
    assert response["cache-control"] == "no-store"
    assert text not in str(response.cookies)
    assert text not in str(dict(staff.session))
    assert text not in text_of(staff.get(url(key, "change"))) + text_of(staff.get(url(ApiKey))) + text_of(
        staff.get(url(AuditEvent))
    )
    assert text[8:-4] not in str([*ApiKey.objects.values(), *AuditEvent.objects.values()])


@pytest.mark.parametrize(
    "values",
    [{"name": ""}, {"scopes": ["chat", "keys:manage"]}, {"allowed_addresses": "nowhere"}, {"scopes": ["root"]}],
    ids=str,
)
def test_a_key_on_impossible_terms_is_not_minted(staff, acme, values):
    assert staff.post(url(acme, "mint_key"), {"name": "key", "scopes": ["chat"]} | values).status_code == 400
    assert not ApiKey.objects.exists()


def test_revoking_a_key(staff, acme):
    key, _ = apikeys.mint(acme, "laptop", actor="test")
    assert staff.post(url(key, "revoke"), {"reason": "leaked"}).status_code == 302
    assert apikeys.find(key.digest) is apikeys.InvalidApiKey
    assert AuditEvent.objects.get(action="api_key.revoked").actor == "staff:ada"


# Providers


PROVIDER = {"slug": "local", "dialect": "openai", "base_url": "https://llm.example.org/v1", "is_enabled": "on"}


def test_a_provider_with_a_key_that_can_be_written_and_not_read(staff):
    version = read_version()
    assert staff.post(url(Provider, "add"), PROVIDER | {"new_api_key": "sk-secret-of-upstream"}).status_code == 302
    provider = Provider.objects.get()
    assert provider_key(provider).text == "sk-secret-of-upstream"
    assert read_version() > version
    page = text_of(staff.get(url(provider, "change")))
    assert "ends in ream" in page
    assert "sk-secret" not in page + text_of(staff.get(url(Provider))) + text_of(staff.get(url(AuditEvent)))
    assert "sk-secret" not in str(list(AuditEvent.objects.values()))


def test_an_empty_key_field_keeps_the_key_and_a_switch_forgets_it(staff):
    staff.post(url(Provider, "add"), PROVIDER | {"new_api_key": "sk-secret-of-upstream"})
    provider = Provider.objects.get()
    staff.post(url(provider, "change"), PROVIDER | {"base_url": "https://other.example.org/v1"})
    provider.refresh_from_db()
    assert (provider.base_url, provider_key(provider).source) == ("https://other.example.org/v1", "staff")
    staff.post(url(provider, "change"), PROVIDER | {"forget_api_key": "on"})
    assert provider_key(Provider.objects.get()).source == "none needed"


BAD_PROVIDERS = [
    {"base_url": "http://169.254.169.254/latest", "allow_private_address": "on"},
    {"base_url": "http://127.0.0.1:9000"},
    {"base_url": "file:///etc/passwd"},
    {"dialect": "morse"},
    {"slug": "No Spaces"},
    {"api_key_env": "SECRET_KEY"},
    {"new_api_key": "two words"},
    {"new_api_key": "sk-secret-of-upstream", "forget_api_key": "on"},
]


@pytest.mark.parametrize("values", BAD_PROVIDERS, ids=str)
def test_row_154_a_provider_that_must_not_be_is_refused(staff, values):
    response = staff.post(url(Provider, "add"), PROVIDER | values)
    assert response.status_code == 200
    assert response.context["adminform"].form.errors
    assert not Provider.objects.exists()


def test_what_has_history_or_targets_is_not_deleted(staff, catalogue, generation):
    UsageRecord.objects.update(provider="google", price_version_id=Price.objects.get(model__slug="gpt-4o").pk)
    kept = [Provider.objects.get(slug="openai"), Provider.objects.get(slug="google"), CatalogModel.objects.get(slug="gpt-4o")]
    for row in kept:
        assert staff.post(url(row, "delete"), {"post": "yes"}).status_code == 403
    unused = CatalogModel.objects.get(slug="gpt-4.1")
    version = read_version()
    assert staff.post(url(unused, "delete"), {"post": "yes"}).status_code == 302
    assert not CatalogModel.objects.filter(slug="gpt-4.1").exists()
    assert read_version() > version


# Models and prices


@pytest.fixture
def sandbox():
    return Provider.objects.create(slug="sandbox", dialect="openai", base_url="sandbox:")


def new_model(staff, provider, **values):
    page = staff.get(url(CatalogModel, "add"))
    fields = {
        "slug": "new",
        "name": "New",
        "owned_by": "us",
        "context_window": "1000",
        "max_output_tokens": "100",
        "supports_vision": "on",
        "prices-0-input_microcredits": "2.5",
        "prices-0-output_microcredits": "10",
        "targets-TOTAL_FORMS": "1",
        "targets-0-provider": provider.pk,
        "targets-0-upstream_model": "echo",
        "targets-0-weight": "2",
        "targets-0-retries": "1",
        "targets-0-connect_s": "5",
        "targets-0-idle_s": "60",
        "targets-0-total_s": "600",
        "targets-0-quirks": ["top_k"],
    }
    return staff.post(url(CatalogModel, "add"), form_of(page) | fields | values)


def test_staff_add_a_model_with_flags_target_and_price_on_one_page(staff, sandbox):
    CatalogDefault.objects.update_or_create(singleton=True, defaults={"pdf_page_microcredits": 200_000})
    assert new_model(staff, sandbox).status_code == 302
    model = load_snapshot().models["new"]
    assert model.capabilities == {"streaming", "vision"}
    assert (model.prices.input, model.prices.output, model.prices.cached_input) == (2_500_000, 10_000_000, 2_500_000)
    assert model.prices.pdf_page == 200_000
    assert (model.targets[0].weight, model.targets[0].retries, model.targets[0].quirks) == (2, 1, {"top_k"})
    assert {"price.added", "model.created"} <= set(AuditEvent.objects.values_list("action", flat=True))


def test_an_enabled_model_without_a_price_is_refused_in_words(staff, sandbox):
    nothing = {"prices-0-input_microcredits": "", "prices-0-output_microcredits": "", "prices-0-pdf_page_microcredits": ""}
    response = new_model(staff, sandbox, **nothing)
    assert "A model without a price cannot be called" in text_of(response)
    assert not CatalogModel.objects.exists()
    page = form_of(staff.get(url(CatalogModel, "add")))
    assert "is_enabled" in page


@pytest.mark.parametrize("amount", ["-1", "0.0000001", "nan", "x", "9000000001"])
def test_a_price_that_cannot_be_is_refused(staff, sandbox, amount):
    response = new_model(staff, sandbox, **{"prices-0-input_microcredits": amount})
    assert response.status_code == 200
    assert not CatalogModel.objects.exists()


def test_a_new_price_is_a_new_version_and_the_old_one_stays(staff, sandbox):
    new_model(staff, sandbox)
    model = CatalogModel.objects.get()
    page = form_of(staff.get(url(model, "change")))
    assert page["prices-0-input_microcredits"] == 2_500_000 or Decimal(page["prices-0-input_microcredits"]) == Decimal("2.5")
    values = page | {
        "prices-0-input_microcredits": "3",
        "prices-0-output_microcredits": "10",
        "prices-0-pdf_page_microcredits": "0",
    }
    version = read_version()
    assert staff.post(url(model, "change"), values).status_code == 302
    assert list(Price.objects.order_by("pk").values_list("input_microcredits", flat=True)) == [2_500_000, 3_000_000]
    assert read_version() > version
    assert load_snapshot().models["new"].prices.input == 3_000_000


def shown_values(response):
    """As `form_of`, with amounts as the page shows them."""
    values = form_of(response)
    for inline in response.context["inline_admin_formsets"]:
        for form in inline.formset.forms:
            for field in form:
                if "microcredits" in field.name:
                    values[field.html_name] = field.field.prepare_value(field.value()) or ""
    return values


def test_saving_a_model_without_touching_the_price_makes_no_version(staff, sandbox):
    new_model(staff, sandbox)
    model = CatalogModel.objects.get()
    values = shown_values(staff.get(url(model, "change"))) | {"name": "Renamed", "supports_tools": "on"}
    assert staff.post(url(model, "change"), values).status_code == 302
    model.refresh_from_db()
    assert (model.name, model.supports_tools) == ("Renamed", True)
    assert Price.objects.count() == 1
    assert AuditEvent.objects.get(action="model.changed").details == {"fields": ["name", "supports_tools"]}


def test_a_price_that_was_cannot_be_forged(staff, sandbox):
    """Ids sent along with the form of the new version change no row that stands."""
    new_model(staff, sandbox)
    model, price = CatalogModel.objects.get(), Price.objects.get()
    values = shown_values(staff.get(url(model, "change"))) | {
        "prices-INITIAL_FORMS": "1",
        "prices-0-id": price.pk,
        "prices-0-input_microcredits": "0",
    }
    staff.post(url(model, "change"), values)
    assert Price.objects.get(pk=price.pk).input_microcredits == 2_500_000


def test_models_are_switched_and_given_the_default_pdf_fee_from_the_list(staff, catalogue):
    row = CatalogModel.objects.get(slug="sandbox-echo")
    for action, is_enabled in (("disable", False), ("enable", True)):
        staff.post(url(CatalogModel), {"action": action, "_selected_action": [row.pk]})
        assert CatalogModel.objects.get(pk=row.pk).is_enabled is is_enabled
    staff.post(url(CatalogModel), {"action": "use_default_pdf_fee", "_selected_action": [row.pk]})
    assert load_snapshot().models["sandbox-echo"].prices.pdf_page == 200_000
    bare = CatalogModel.objects.create(
        slug="bare", name="B", owned_by="x", context_window=1, max_output_tokens=1, is_enabled=False
    )
    response = staff.post(url(CatalogModel), {"action": "enable", "_selected_action": [bare.pk]}, follow=True)
    assert "bare has no price" in text_of(response)


def test_the_default_pdf_fee(staff):
    default, _ = CatalogDefault.objects.get_or_create(singleton=True)
    assert staff.post(url(default, "change"), {"pdf_page_microcredits": "0.35"}).status_code == 302
    assert CatalogDefault.objects.get().pdf_page_microcredits == 350_000
    assert staff.post(url(default, "change"), {"pdf_page_microcredits": "-1"}).status_code == 200
    assert CatalogDefault.objects.get().pdf_page_microcredits == 350_000


# Chains


def test_staff_set_a_chain_in_order_and_gaps_close(staff, catalogue):
    source = CatalogModel.objects.get(slug="sandbox-text")
    values = {"source": source.pk, "link_2": "sandbox-echo", "link_5": "gpt-4o"}
    response = staff.post(url(FallbackChain, "add"), values, follow=True)
    assert chains_in_force()["sandbox-text"] == ["sandbox-echo", "gpt-4o"]
    assert response.status_code == 200
    chain = FallbackChain.objects.get(source=source)
    page = staff.get(url(chain, "change"))
    assert page.context["adminform"].form["link_1"].value() == "sandbox-echo"
    staff.post(url(chain, "change"), {"link_1": "gpt-4o", "link_2": "sandbox-echo"})
    assert chains_in_force()["sandbox-text"] == ["gpt-4o", "sandbox-echo"]


def test_a_workspace_s_chain(staff, catalogue, acme):
    source = CatalogModel.objects.get(slug="sandbox-flaky")
    staff.post(url(FallbackChain, "add"), {"source": source.pk, "workspace": acme.pk, "link_1": "sandbox-text"})
    assert chains_in_force(acme)["sandbox-flaky"] == ["sandbox-text"]
    assert chains_in_force()["sandbox-flaky"] == ["sandbox-echo"]


BAD_CHAINS = {
    "itself": ({"link_1": "sandbox-echo"}, "link_1", "cannot fall back to itself"),
    "cycle": ({"link_1": "gpt-4o", "link_2": "sandbox-flaky"}, "link_2", "makes a cycle"),
    "twice": ({"link_1": "gpt-4o", "link_3": "gpt-4o"}, "link_3", "stands twice"),
    "unknown": ({"link_1": "nobody"}, "link_1", "not one of the available choices"),
}


@pytest.mark.parametrize(("links", "field", "message"), BAD_CHAINS.values(), ids=BAD_CHAINS)
def test_row_80_a_chain_that_breaks_a_rule_names_its_field(staff, catalogue, links, field, message):
    source = CatalogModel.objects.get(slug="sandbox-echo")
    response = staff.post(url(FallbackChain, "add"), {"source": source.pk} | links)
    assert message in str(response.context["adminform"].form.errors[field])
    assert "sandbox-echo" not in chains_in_force()


def test_a_second_default_chain_of_a_model_is_refused(staff, catalogue):
    source = CatalogModel.objects.get(slug="sandbox-flaky")
    response = staff.post(url(FallbackChain, "add"), {"source": source.pk, "link_1": "sandbox-text"})
    assert response.status_code == 200
    assert chains_in_force()["sandbox-flaky"] == ["sandbox-echo"]


def test_staff_are_warned_of_models_that_will_be_skipped(staff, catalogue):
    chain = FallbackChain.objects.get(source__slug="sandbox-flaky")
    response = staff.post(url(chain, "change"), {"link_1": "sandbox-text"}, follow=True)
    assert "sandbox-text will be skipped for requests that need vision, audio_input" in text_of(response)


def test_deleting_a_chain_moves_the_stamp(staff, catalogue):
    chain = FallbackChain.objects.get(source__slug="sandbox-flaky")
    version = read_version()
    assert staff.post(url(chain, "delete"), {"post": "yes"}).status_code == 302
    assert "sandbox-flaky" not in chains_in_force()
    assert read_version() > version


# What others wrote


def test_row_150_markup_in_names_is_shown_as_text(staff, catalogue, generation):
    workspace = create_workspace(XSS, actor="test")
    key, _ = apikeys.mint(workspace, XSS, actor=XSS)
    transfer_credits(workspace, 1, kind=Entry.Kind.GRANT, idempotency_key=XSS, actor=XSS, reason=XSS)
    model = CatalogModel.objects.get(slug="gpt-4o")
    CatalogModel.objects.filter(pk=model.pk).update(name=XSS, owned_by=XSS)
    Provider.objects.filter(slug="openai").update(base_url=f"https://{XSS}")
    Target.objects.filter(model=model).update(upstream_model=XSS)
    UsageRecord.objects.update(model_asked=XSS, model_used=XSS, request_id=XSS, lines=[XSS], workspace=workspace)
    RequestTrace.objects.update(attempts=[{"model": XSS}], adaptations=[XSS], timings_ms={XSS: 1})
    chain = FallbackChain.objects.get(source=model)
    rows = [
        workspace,
        key,
        Entry.objects.latest("pk"),
        UsageRecord.objects.get(),
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


def test_the_admin_counts_a_stored_key_it_cannot_read(staff, sandbox, settings):
    set_provider_key(sandbox, "sk-secret-of-upstream", actor="test")
    settings.FIELD_ENCRYPTION_KEYS = ["another ring"]
    assert "cannot be read" in text_of(staff.get(url(sandbox, "change")))

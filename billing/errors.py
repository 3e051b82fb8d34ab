"""Refusals of billing: keys, workspaces, credit, budgets, limits, the ledger itself.

    ApiError
      InvalidApiKey             401 invalid_api_key: malformed, unknown and revoked keys, by equal bytes
      MissingApiKey             401 missing_api_key
      ExpiredApiKey             401 expired_api_key
      WorkspaceSuspended        403 workspace_suspended
      InsufficientScope         403 insufficient_scope
      AddressNotAllowed         403 ip_not_allowed
      InsufficientCredits       402 insufficient_credits
      BudgetExceeded            402 key_budget_exceeded
      LedgerUnavailable         503 ledger_unavailable
      RateLimitExceeded         429 rate_limit_exceeded
      ConcurrencyLimitExceeded  429 concurrency_limit_exceeded
      TokensLimitExceeded       429 tokens_limit_exceeded
      InvitationLimitExceeded   429 invitation_limit_exceeded
      InvalidIdempotencyKey     400 invalid_idempotency_key
      IdempotencyInProgress     409 idempotency_in_progress
      IdempotencyResultLost     409 idempotency_result_lost
      IdempotencyMismatch       422 idempotency_mismatch
      InvalidValue              400 invalid_value
      NotPermitted              403 permission_denied: neither the role nor the key allows it
      KeyTooBroad               403 permission_denied: a key that would be broader than who makes it
      RoleTooBroad              403 permission_denied: a role that may do what who gives it may not
      RoleTooNarrow             403 permission_denied: a key whose owner's role may not read this
      LimitOfStaff              403 permission_denied: more than staff let a workspace spend
      CsrfFailed                403 csrf_failed
      KeyNotActive              400 key_not_active
      OwnerRequired             400 owner_required
      EventNotSigned            400 event_not_signed: of the provider of payments
      PaymentNotAsAsked         409 payment_not_as_asked
      PaymentServiceAway        503 payment_service_unavailable
      UnknownParameter          400 unknown_parameter
      GenerationNotFound        404 generation_not_found: unknown and foreign ones, by equal bytes

The envelope's `type` follows from the status (`infery_site.errors`).
"""

from __future__ import annotations

from collections.abc import Iterable

from billing.pricing import credits_text
from infery_site.errors import NO_RETRY, ApiError, Header, quoted

# On every 401, as RFC 9110 has it.
_CHALLENGE: Header = ("www-authenticate", "Bearer")


class InvalidApiKey(ApiError):
    def __init__(self) -> None:
        message = "The API key is not valid. Check the key, or create a new one in the console."
        super().__init__(401, "invalid_api_key", message, headers=[_CHALLENGE])


class MissingApiKey(ApiError):
    def __init__(self) -> None:
        message = "No API key was given. Send it as 'Authorization: Bearer inf_...'."
        super().__init__(401, "missing_api_key", message, headers=[_CHALLENGE])


class ExpiredApiKey(ApiError):
    def __init__(self) -> None:
        message = "The API key has expired. Create a new one in the console."
        super().__init__(401, "expired_api_key", message, headers=[_CHALLENGE])


class WorkspaceSuspended(ApiError):
    def __init__(self) -> None:
        super().__init__(
            403,
            "workspace_suspended",
            "The workspace of this API key is suspended, or its owner stopped it: see its settings in the console.",
        )


class InsufficientScope(ApiError):
    def __init__(self, scope: str) -> None:
        super().__init__(403, "insufficient_scope", f"The API key lacks the scope '{scope}'.")


class AddressNotAllowed(ApiError):
    def __init__(self) -> None:
        super().__init__(403, "ip_not_allowed", "The API key may not be used from this network address.")


class InsufficientCredits(ApiError):
    """The message names what is needed, held and available, in credits."""

    def __init__(self, needed_microcredits: int, held_microcredits: int, available_microcredits: int) -> None:
        message = (
            f"This request needs up to {credits_text(needed_microcredits)} credits; "
            f"{credits_text(available_microcredits)} are available and {credits_text(held_microcredits)} are held by requests in flight. "
            "Top up the workspace or lower max_tokens."
        )
        super().__init__(402, "insufficient_credits", message)
        self.available_microcredits = available_microcredits


class BudgetExceeded(ApiError):
    def __init__(self, scope: str, limit_microcredits: int, left_microcredits: int, needed_microcredits: int) -> None:
        message = (
            f"The budget of this {scope} is {credits_text(limit_microcredits)} credits, of which {credits_text(left_microcredits)} are left; "
            f"this request needs up to {credits_text(needed_microcredits)}."
        )
        super().__init__(402, "key_budget_exceeded", message)
        self.available_microcredits = left_microcredits


class LedgerUnavailable(ApiError):
    def __init__(self) -> None:
        message = "The ledger cannot be reached, so the request was not started. Try again shortly."
        super().__init__(503, "ledger_unavailable", message, headers=[("retry-after", "2")])


class RateLimitExceeded(ApiError):
    """`headers` are the `x-ratelimit-*` headers as they stand. `period`: minute, day."""

    def __init__(self, limit: int, *, period: str, retry_after_s: int, headers: Iterable[Header] = ()) -> None:
        message = f"Rate limit: {limit} req/{_unit(period)} on this API key"
        super().__init__(429, "rate_limit_exceeded", message, headers=[("retry-after", str(retry_after_s)), *headers])


class ConcurrencyLimitExceeded(ApiError):
    """Nobody knows when a running request ends, so the caller is asked to come back after a second."""

    def __init__(self, max_concurrent_requests: int, *, headers: Iterable[Header] = ()) -> None:
        message = f"Concurrency limit: {max_concurrent_requests} requests at once on this API key"
        super().__init__(429, "concurrency_limit_exceeded", message, headers=[("retry-after", "1"), *headers])


class TokensLimitExceeded(ApiError):
    """Tokens are counted when a request ends, so a limit is met by the requests before this one. `period`: minute, day."""

    def __init__(self, limit: int, *, period: str, retry_after_s: int, headers: Iterable[Header] = ()) -> None:
        message = f"Token limit: {limit} tokens/{_unit(period)} on this API key"
        super().__init__(429, "tokens_limit_exceeded", message, headers=[("retry-after", str(retry_after_s)), *headers])


class InvitationLimitExceeded(ApiError):
    """Of a workspace, of who invites in all of his, or to one address. `again_at` is when the next one may be sent."""

    def __init__(self, most_a_day: int, again_at: str, *, retry_after_s: int) -> None:
        message = (
            f"A workspace, and a person, may send {most_a_day} invitations a day, and a workspace one an hour to an address. "
            f"Try again at {again_at}."
        )
        super().__init__(429, "invitation_limit_exceeded", message, headers=[("retry-after", str(retry_after_s))])


def _unit(period: str) -> str:
    return "min" if period == "minute" else period


class InvalidIdempotencyKey(ApiError):
    def __init__(self) -> None:
        message = "The header Idempotency-Key must have 1 to 255 visible ASCII characters."
        super().__init__(400, "invalid_idempotency_key", message, param="Idempotency-Key")


class IdempotencyInProgress(ApiError):
    def __init__(self) -> None:
        message = "A request with this Idempotency-Key is still running. Repeat the request to get its answer."
        super().__init__(409, "idempotency_in_progress", message, headers=[("retry-after", "1")])


class IdempotencyResultLost(ApiError):
    """The first request was paid, and its answer is gone: it was not stored, or the process died before it could be."""

    def __init__(self, generation: str) -> None:
        message = (
            f"The first request with this Idempotency-Key was completed and charged as generation {generation}; "
            "its answer is not kept. Send a new key to run the request again."
        )
        super().__init__(409, "idempotency_result_lost", message, headers=[NO_RETRY])


class IdempotencyMismatch(ApiError):
    def __init__(self) -> None:
        message = (
            "This Idempotency-Key was used with another request body in the last 24 hours. Use a new key for a new request."
        )
        super().__init__(422, "idempotency_mismatch", message)


class InvalidValue(ApiError):
    """A value of a read or of the management API that cannot be used."""

    def __init__(self, message: str, param: str) -> None:
        super().__init__(400, "invalid_value", message, param=param)


class GenerationNotFound(ApiError):
    def __init__(self) -> None:
        message = "This workspace has no generation, and no request, of this id."
        super().__init__(404, "generation_not_found", message)


class UnknownParameter(ApiError):
    """A field that the management API does not know: nothing is changed by guesswork."""

    def __init__(self, param: str) -> None:
        super().__init__(400, "unknown_parameter", f"There is no field {quoted(param)} here.", param=param[:64])


class NotPermitted(ApiError):
    def __init__(self) -> None:
        super().__init__(403, "permission_denied", "You may not do that in this workspace.")


class KeyTooBroad(ApiError):
    """`param` names what is too broad: `scopes` or `allowed_models`."""

    def __init__(self, param: str) -> None:
        message = "An API key may not do more than who makes, changes or rolls it."
        super().__init__(403, "permission_denied", message, param=param)


class LimitOfAnother(KeyTooBroad):
    """`param` names the limit."""

    def __init__(self, param: str) -> None:
        super().__init__(param)
        self.message = "Somebody who may act on every key has set this limit: you may make it tighter, not looser."


class RoleTooBroad(ApiError):
    """`role` is its name for people."""

    def __init__(self, role: str) -> None:
        message = f"The role {role} may do what you may not, so the owner of the workspace has to give it."
        super().__init__(403, "permission_denied", message, param="role")


class RoleTooNarrow(ApiError):
    """`role` is that of the member whose key calls, `allowed` those that may, by their names for people."""

    def __init__(self, role: str, allowed: str) -> None:
        message = f"This API key is of a member whose role, {role}, may not read this. Roles that may: {allowed}."
        super().__init__(403, "permission_denied", message)


class LimitOfStaff(ApiError):
    """Staff set what a workspace may spend at most."""

    def __init__(self, limit_microcredits: int) -> None:
        message = (
            f"The staff of this gateway set this limit, to {credits_text(limit_microcredits)} credits: "
            "you may make it tighter, not looser."
        )
        super().__init__(403, "permission_denied", message, param="limit")


class CsrfFailed(ApiError):
    def __init__(self) -> None:
        message = "A change by a signed-in browser needs the CSRF token of its session, and must come from this site."
        super().__init__(403, "csrf_failed", message)


class KeyNotActive(ApiError):
    def __init__(self) -> None:
        super().__init__(400, "key_not_active", "The API key was revoked or has expired, so it cannot be changed or rolled.")


class OwnerRequired(ApiError):
    def __init__(self) -> None:
        message = "A workspace has exactly one owner. Transfer the ownership to another member first."
        super().__init__(400, "owner_required", message)


class EventNotSigned(ApiError):
    def __init__(self) -> None:
        super().__init__(400, "event_not_signed", "The event has no signature of the payment service that is valid now.")


class PaymentNotAsAsked(ApiError):
    def __init__(self) -> None:
        super().__init__(409, "payment_not_as_asked", "The amount that was paid is not the one that was asked for.")


class PaymentServiceAway(ApiError):
    def __init__(self) -> None:
        message = "The payment service does not answer. Send the event again later."
        super().__init__(503, "payment_service_unavailable", message, headers=[("retry-after", "60")])

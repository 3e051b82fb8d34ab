"""Refusals of the chat pipeline: what is wrong with a request, and what an upstream did with it.

    ApiError
      InvalidRequest              400  any fault of one field
        UnsupportedParameter      400  unsupported_parameter
          AudioNotSupported       400  audio_not_supported_by_model
        AboveModelMaximum         400  above_model_maximum
        ModelNotSupported         400  model_not_supported
        ContextLengthExceeded     400  context_length_exceeded
      ModelNotFound               404  model_not_found: unknown, disabled and forbidden models, by equal bytes
      ModelUnavailable            503  model_unavailable: no price, or no target that can be called
      ClientTooSlow               408  client_too_slow: a stream whose reader lags far behind its provider
      UpstreamFailure                  an attempt failed; `is_final` says whether the chain ends with it
        UpstreamRejected          400  upstream_rejected_request
        UpstreamTooLarge          413  request_too_large
        UpstreamAuthFailed        502  upstream_auth_failed: our account there; staff are alarmed
        UpstreamModelUnavailable  502  upstream_model_unavailable; staff are alarmed
        UpstreamRateLimited       429  upstream_rate_limited
        UpstreamOverloaded        503  model_overloaded
          UpstreamSpared          503  model_overloaded: nobody was asked, so nothing is known of what would have come
          UpstreamCrowded         503  model_overloaded: all places for calls of this process are taken
        UpstreamError             502  upstream_error
        UpstreamInvalidResponse   502  upstream_invalid_response
        UpstreamResponseTooLarge  502  upstream_response_too_large
        UpstreamTimeout           504  upstream_timeout

An upstream's own words never reach the caller. Pure.
"""

from __future__ import annotations

from infery_site.errors import NO_RETRY, ApiError, quoted

RETRY_AFTER_MOST_S = 60


class InvalidRequest(ApiError):
    """A 400 that names its field. `code` is one of the catalogue of bad input."""

    def __init__(self, code: str, message: str, param: str | None = None) -> None:
        super().__init__(400, code, message, param=param)


class UnsupportedParameter(InvalidRequest):
    def __init__(self, param: str, message: str) -> None:
        super().__init__("unsupported_parameter", message, param)


class AudioNotSupported(UnsupportedParameter):
    def __init__(self, model: str, param: str) -> None:
        super().__init__(param, f"The model {quoted(model)} does not take audio.")
        self.code = "audio_not_supported_by_model"


class AboveModelMaximum(InvalidRequest):
    def __init__(self, param: str, limit: int) -> None:
        super().__init__("above_model_maximum", f"{param} is above the limit of this model, {limit} tokens.", param)


class ModelNotSupported(InvalidRequest):
    def __init__(self, model: str) -> None:
        message = f"The model {quoted(model)} does not do chat completions."
        super().__init__("model_not_supported", message, "model")


class ContextLengthExceeded(InvalidRequest):
    def __init__(self, context_window: int | None = None) -> None:
        limit = f" of {context_window} tokens" if context_window else ""
        super().__init__(
            "context_length_exceeded", f"The messages are longer than the model's context window{limit}.", "messages"
        )


class ModelNotFound(ApiError):
    def __init__(self, model: str) -> None:
        message = f"The model {quoted(model)} does not exist, or this API key may not use it."
        super().__init__(404, "model_not_found", message, param="model")


class ModelUnavailable(ApiError):
    def __init__(self, model: str) -> None:
        message = f"The model {quoted(model)} cannot be called at the moment."
        wait = ("retry-after", str(RETRY_AFTER_MOST_S))  # staff must act first, so a client need not try again itself
        super().__init__(503, "model_unavailable", message, param="model", headers=[wait, NO_RETRY])


class ClientTooSlow(ApiError):
    def __init__(self) -> None:
        message = "The stream was read so slowly that the time of the whole answer is over."
        super().__init__(408, "client_too_slow", message, headers=[NO_RETRY])


class UpstreamFailure(ApiError):
    """One attempt failed. `upstream_status` is what the provider answered, if it answered.

    `wait_s` is how long the provider wants to be left alone, of any size; None where it did not say. `is_final` may also be
    set by who asked: nobody else is asked then.
    """

    status_code = 502
    error_code = "upstream_error"
    text = "The provider failed to answer."
    may_fall_back = True
    is_alarm = False
    is_retry_hopeless = False
    retry_after_else_s: int | None = None

    def __init__(self, *, upstream_status: int | None = None, retry_after_s: int | None = None) -> None:
        headers = [NO_RETRY] if self.is_retry_hopeless else []
        told_s = retry_after_s or self.retry_after_else_s
        if told_s is not None:
            headers.append(("retry-after", str(min(max(told_s, 1), RETRY_AFTER_MOST_S))))
        super().__init__(self.status_code, self.error_code, self.text, headers=headers)
        self.upstream_status = upstream_status
        self.wait_s = retry_after_s
        self.is_final = not self.may_fall_back


class UpstreamRejected(UpstreamFailure):
    status_code = 400
    error_code = "upstream_rejected_request"
    text = "The provider of this model refused the request as invalid. Check its parameters against the model's abilities."
    may_fall_back = False


class UpstreamContextLength(UpstreamRejected):
    """The provider's verdict that the prompt is too long; answered as `ContextLengthExceeded` is."""

    error_code = "context_length_exceeded"
    text = "The messages are longer than the model's context window."

    def __init__(self, *, upstream_status: int | None = None) -> None:
        super().__init__(upstream_status=upstream_status)
        self.param = "messages"


class UpstreamTooLarge(UpstreamFailure):
    status_code = 413
    error_code = "request_too_large"
    text = "The provider of this model refused the request as too large."
    may_fall_back = False


class UpstreamAuthFailed(UpstreamFailure):
    error_code = "upstream_auth_failed"
    text = "The gateway's own account at the provider was refused. The operator has been told."
    is_alarm = True
    is_retry_hopeless = True


class UpstreamModelUnavailable(UpstreamFailure):
    error_code = "upstream_model_unavailable"
    text = "The provider does not offer this model to the gateway. The operator has been told."
    is_alarm = True
    is_retry_hopeless = True


class UpstreamRateLimited(UpstreamFailure):
    status_code = 429
    error_code = "upstream_rate_limited"
    text = "The provider of this model limits the gateway's rate at the moment."
    retry_after_else_s = 1


class UpstreamOverloaded(UpstreamFailure):
    status_code = 503
    error_code = "model_overloaded"
    text = "The provider of this model is overloaded."
    retry_after_else_s = 1


class UpstreamSpared(UpstreamOverloaded):
    """Nobody was asked: the target is known to fail, or its provider is asked enough."""


class UpstreamCrowded(UpstreamOverloaded):
    """Nobody was asked, for want of a place; whoever else could be asked would want one, too."""

    may_fall_back = False
    text = "The gateway has too many calls to providers open at the moment."


class UpstreamError(UpstreamFailure):
    pass


class UpstreamInvalidResponse(UpstreamFailure):
    error_code = "upstream_invalid_response"
    text = "The provider sent an answer that cannot be read."


class UpstreamResponseTooLarge(UpstreamFailure):
    error_code = "upstream_response_too_large"
    text = "The provider's answer is larger than the gateway accepts."


class UpstreamTimeout(UpstreamFailure):
    status_code = 504
    error_code = "upstream_timeout"
    text = "The provider did not answer in time."

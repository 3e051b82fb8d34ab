"""An operation on its way through the writer, and the answer that somebody may wait for."""

from __future__ import annotations

import asyncio

from billing.ledger.operations import HoldOperation, NoteOperation, Operation, Result
from infery_site.errors import ApiError


class Asked:
    """See the module. `late_from` is set, on the loop's clock, when a settlement first failed."""

    __slots__ = ("answer", "late_from", "operation")

    def __init__(self, operation: Operation, answer: asyncio.Future[Result] | None) -> None:
        self.operation = operation
        self.answer = answer
        self.late_from: float | None = None

    @property
    def is_forsaken(self) -> bool:
        """True if who asked does not wait any more. A settlement follows such a hold, or else its lease ends it."""
        return self.answer is not None and self.answer.cancelled()

    def succeed(self, result: Result) -> None:
        if self.answer is not None and not self.answer.done():
            self.answer.set_result(result)

    def fail(self, error: ApiError) -> None:
        if self.answer is not None and not self.answer.done():
            self.answer.set_exception(error)


def generation_of(operation: Operation) -> str:
    return operation.generation if isinstance(operation, HoldOperation) else operation.record.generation


def account_of(operation: Operation) -> int | None:
    return None if isinstance(operation, NoteOperation) else operation.account_id

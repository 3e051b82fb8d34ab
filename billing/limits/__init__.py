"""Limits of an API key: requests per minute, per day and at once, tokens per minute and per day.

Requests and tokens of a minute are counted by a sliding window counter: those of the running clock minute, and those of
the minute before, which fade as the running one passes. A day is one in UTC. A request that is refused counts for nothing.

Every request of a key counts as one, whatever it asks for. Only chat uses tokens; chat and uploads take a place, and reads,
which are answered at once, do not.

What a request will use is not known when it comes: its tokens are counted when it has ended, and while a limit of tokens
is used up, new requests are refused.

Without Redis each process counts for itself and allows its share, `ceil(limit / workers)`. With Redis all processes
count together, by one script per request. Limits may fail open, money never: while Redis is away, or slower than its
deadline, the process counts for itself and says so by `x-ratelimit-degraded`.

    limiter    Limiter and Slot, all that others need, and whether a key has a limit of requests; views find the process's
               Limiter by `Limiter.serving`
    shared     the counters of all processes, in Redis
    scripts    what Redis runs for them
    process    the counters of one process
    window     what a count means: remaining, when to retry (pure)

Must not: touch the database, delay a key that has no limits, or raise anything but the three refusals.
"""

from __future__ import annotations

from billing.limits.limiter import Limiter, Slot, has_request_limit

__all__ = ["Limiter", "Slot", "has_request_limit"]

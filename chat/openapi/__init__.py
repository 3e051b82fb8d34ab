"""What programs can ask of the gateway, as OpenAPI 3.1: `GET /openapi.json`.

Bodies of requests are read off the types that decode them, routes of the management API off its patterns. What answers look
like is said here, and tests hold every answer of theirs against it: there no field of an object may be missing or unsaid.

    forms         JSON Schema in short, and what an operation is
    completions   chat completions and models
    records       usage, credits, the calling key, receipts
    stored        files
    management    workspaces, keys, members, budgets, presets
    document      all of it, and the view
"""

"""Webhooks: notices for programs, signed, to addresses that a workspace gives.

    signing      what a receiver verifies (pure)
    endpoints    addresses of a workspace: made, changed, tested, ended; whose secret is shown once
    deliveries   one message to one endpoint, tried again for most of a day; the log of them
    events       what each message tells, as the documentation shows it

The form is that of Standard Webhooks. An address is judged when it is set and each time it is dialled (`infery_site.fetch`).
"""

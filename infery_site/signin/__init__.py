"""How people sign in, to the staff admin and to whatever else has pages: by allauth, with a second factor for staff.

    adapters.py   what allauth asks: who may sign up, how a session is confirmed, how second factors are kept and named
    factors.py    which second factors a person has, and whether the session was opened by one
    passkeys.py   the forms of passkeys
    stages.py     the mail address that has to be verified, of those who have one
    steps.py      leading to the step that somebody lacks, from a page and from a part of one
    staff.py      the admin's site, which opens only to staff who gave their second factor in this session
    apps.py       makes it the site of `django.contrib.admin`
    views.py      pages of second factors
    urls.py       below /accounts/
    policy.py     the Content-Security-Policy of pages

A session says by which means it was opened (`allauth.account.authentication`). One that has no second factor is sent to set
one up or to give it, and sees nothing of the admin until then. Nothing here knows an app.
"""

"""Payments by Stripe, where its keys are set: top-ups through its checkout, and by themselves when the balance is low.

    provider    the calls to Stripe, and its signature; nobody else knows its library
    booking     what a payment does to credit: settled once, failed, taken back by refunds and disputes
    checkout    a payment that a person makes on Stripe's page
    events      what Stripe tells, in any order and any number of times
    auto        payments that housekeeping begins, within a ceiling

A payment is credited when Stripe says that it has the money, with the amount of our own row, under the id of Stripe's payment:
whoever tells it, and however often, makes one entry.
"""

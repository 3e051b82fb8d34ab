"""`manage.py create_plan NAME --monthly-credits N [--rolls-over [--max-rollover N]]`: a plan with credits, for any workspace."""

from __future__ import annotations

from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError, CommandParser

from billing.management.amounts import credits_argument
from billing.presets import PlanCredits, check_is_new, create_preset
from billing.quotas import Limits


class Command(BaseCommand):
    help = "Creates a plan that gives credits each month. Its limits, if it is to have any, are set in the admin."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name", metavar="NAME")
        parser.add_argument("--monthly-credits", metavar="N", required=True, help="more than 0, at most six decimals")
        parser.add_argument("--rolls-over", action="store_true", help="what is left of a month can be spent in the next one")
        parser.add_argument("--max-rollover", metavar="N", help="at most so many credits of it (default: all)")

    def handle(self, *, name: str, monthly_credits: str, rolls_over: bool, max_rollover: str | None, **options: Any) -> None:
        if max_rollover is not None and not rolls_over:
            raise CommandError("--max-rollover needs --rolls-over.")
        plan_credits = PlanCredits(
            monthly_microcredits=credits_argument(monthly_credits),
            has_rollover=rolls_over,
            max_rollover_microcredits=None if max_rollover is None else credits_argument(max_rollover, may_be_zero=True),
        )
        try:
            check_is_new(name)
            plan = create_preset(name, Limits(), actor="create_plan", plan_credits=plan_credits)
        except ValidationError as error:
            raise CommandError(" ".join(error.messages)) from error
        self.stdout.write(f"Plan {plan.name}: {plan.public_id}")

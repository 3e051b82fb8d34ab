"""The playground: a page that asks models through the second door of chat, `chat.consumers.PlaygroundChat`."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse

from billing.console.keys import base_url
from billing.console.shell import render
from billing.console.visits import Visit, visiting
from billing.permissions import Action
from billing.pricing import credits_text
from chat.console.models import abilities_of, models_for

AT = "console-playground"


@visiting(GET=Action.USE_PLAYGROUND)
def playground(request: HttpRequest, visit: Visit) -> HttpResponse:
    models = models_for(visit)
    facts = {
        model.slug: {
            "input": credits_text(model.prices.input),
            "output": credits_text(model.prices.output),
            "most": model.max_output_tokens,
            "takes": abilities_of(model),
        }
        for model in models
    }
    context = {"models": models, "facts": facts, "base_url": base_url(request)}
    return render(request, visit, "console/playground.html", context, at=AT)

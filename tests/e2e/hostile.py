"""Text that attacks the page it is shown on, and how a page tells that an attack went through (pure).

`xss()` is what every attack calls. Whatever a policy would stop is found too, by the element that the text became.
"""

from __future__ import annotations

from typing import Any, Final

# Ends a script's string, an attribute, an element and a script, whichever it stands in.
POLYGLOT: Final = "'-xss()-'\"></script><img src=x onerror=xss()>"
SHORT: Final = '"><b xss>'
LINK: Final = "javascript:xss()//"

ATTACKS: Final = (
    "<script>xss()</script>",
    "<svg/onload=xss()>",
    '" x-data x-init="xss()',
    "' onfocus=xss() autofocus x='",
    "{{ xss() }}{% debug %}${xss()}",
    "</textarea></title></style><iframe srcdoc='<script>parent.xss()</script>'>",
    "--><math><mtext></form><form><mglyph><style></math><img src onerror=xss()>",
    "&lt;img src=x onerror=xss()&gt;",
    "\u202e\u2066txet desrever\u200f\ufeff\u2028\u00ad e\u0301\u0489\u0489\u0489 \U0001f468\u200d\U0001f469\u200d\U0001f467",
)

WATCH: Final = "window.xss = () => { (window.xssRan ??= []).push(String(new Error().stack)); console.error('an attack ran'); };"
"""Runs before every script of a page."""

FOUND: Final = """(html, page = html ? new DOMParser().parseFromString(html, "text/html") : document) => [
    ...(window.xssRan ?? []),
    ...[...page.querySelectorAll('[xss], [onerror], [onload], [onfocus], [srcdoc], [x-init^=xss], img[src=x], mglyph')]
        .map(element => element.outerHTML.slice(0, 200)),
    ...[...page.scripts].filter(script => /^\\s*xss/.test(script.textContent)).map(script => script.outerHTML),
    ...[...page.querySelectorAll('[href], [action], [formaction], [src]')]
        .filter(element => /^\\s*javascript:/i.test(element.getAttribute('href') ?? element.getAttribute('src')
            ?? element.getAttribute('action') ?? element.getAttribute('formaction')))
        .map(element => element.outerHTML.slice(0, 200)),
]"""
"""What of the attacks is on a page, or in the text of one, as more than text."""


def attack(longest: int, turn: int) -> str:
    """At most so many characters; `turn` says which of the attacks come first behind the one that fits everywhere."""
    text = (LINK if turn % 2 else "") + POLYGLOT
    if longest < len(text):
        return SHORT[:longest]
    for number in range(len(ATTACKS)):
        following = ATTACKS[(turn + number) % len(ATTACKS)]
        if len(text) + len(following) <= longest:
            text += following
    return text


def attacked(value: Any, longest: int, turn: int) -> Any:
    """A JSON value with each of its texts replaced."""
    if isinstance(value, dict):
        return {key: attacked(one, longest, turn) for key, one in value.items()}
    if isinstance(value, list):
        return [attacked(one, longest, turn) for one in value]
    return attack(longest, turn) if isinstance(value, str) else value

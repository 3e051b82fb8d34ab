from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chat.sandbox.directives import Directives, ToolDirective, parse


@pytest.mark.parametrize(
    ("text", "directives", "said"),
    [
        ("Hello", Directives(), "Hello"),
        ("[[status 503]]", Directives(status=503), ""),
        ("Hi [[status 429]] there", Directives(status=429), "Hi  there"),
        ("[[status 200]]", Directives(status=200), ""),
        ("[[ delay 2.5 ]]", Directives(delay_s=2.5), ""),
        ("[[delay 1000]]", Directives(delay_s=30.0), ""),
        ("[[cut 0]]", Directives(cut_after=0), ""),
        ("[[tokens 500]]", Directives(tokens=500), ""),
        ("[[tokens 0]]", Directives(tokens=1), ""),
        ("[[cut 1]][[cut 2]]", Directives(cut_after=2), ""),
        ("[[delay 1]] a [[cut 3]] b", Directives(delay_s=1.0, cut_after=3), "a  b"),
        ("[[tool now]]", Directives(tools=(ToolDirective("now", None),)), ""),
        ("[[tool now {}]]", Directives(tools=(ToolDirective("now", "{}"),)), ""),
        (
            'Ask [[tool get_weather {"city": "Rome", "days": [[1, 2]]}]]!',
            Directives(tools=(ToolDirective("get_weather", '{"city": "Rome", "days": [[1, 2]]}'),)),
            "Ask !",
        ),
        ("[[tool a]][[tool b]]", Directives(tools=(ToolDirective("a", None), ToolDirective("b", None))), ""),
        ('[[tool a {"x": "[[status 503]]"}]]', Directives(tools=(ToolDirective("a", '{"x": "[[status 503]]"}'),)), ""),
    ],
)
def test_well_formed(text: str, directives: Directives, said: str) -> None:
    assert parse(text) == (directives, said)


@pytest.mark.parametrize(
    "text",
    [
        "[[status]]",
        "[[status 99]]",
        "[[status 600]]",
        "[[status abc]]",
        "[status 503]",
        "[[delay -1]]",
        "[[tokens 1e3]]",
        "[[wiki link]]",
        "[[tool]]",
        "[[tool a [1]]]",
        "[[tool a {]]",
        "[[tool a {} b]]",
        "[[tool a b]]",
    ],
)
def test_what_is_not_well_formed_stays_text(text: str) -> None:
    assert parse(text) == (Directives(), text)


@given(st.text(st.sampled_from('[]{}" tolsau503:'), max_size=60))
def test_any_text(text: str) -> None:
    directives, said = parse(text)
    assert directives != Directives() or said == text.strip()


def test_many_beginnings_do_not_take_long() -> None:
    text = '[[tool a {"a":' * 20_000
    assert parse(text) == (Directives(), text)

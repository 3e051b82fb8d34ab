"""Words that somebody chose, as they stand in a mail: one short line, in which nothing can be clicked."""

import pytest

from billing.mails import quoted_name, unlinked


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Acme Inc. 2.0", "Acme Inc. 2.0"),
        ("Research: EU, 10:30", "Research: EU, 10:30"),
        ("URGENT verify at https://evil.example/x", "URGENT verify at https[:]//evil[.]example/x"),
        ("www.evil.example", "www[.]evil[.]example"),
        ("http://1.2.3.4/x", "http[:]//1.2.3.4/x"),
        ("mailto:eve@evil.example", "mailto[:]eve@evil[.]example"),
        ("tel:0900123", "tel[:]0900123"),
        ("evil。example evil．example evil｡example", "evil[。]example evil[．]example evil[｡]example"),
        ("evil.\u200bexample", "evil. example"),
        ("two\r\nlines\t\u202eelpmaxe.live", "two lines elpmaxe[.]live"),
        ("ünï.çom", "ünï[.]çom"),
    ],
)
def test_nothing_of_a_text_can_be_clicked(text, shown):
    assert unlinked(text) == shown


def test_a_name_is_short_and_stays_within_its_quotes():
    assert quoted_name('Acme" <b>') == '"Acme\' <b>"'
    assert quoted_name("a" * 60) == f'"{"a" * 60}"'
    assert quoted_name("a" * 61) == f'"{"a" * 60}…"'

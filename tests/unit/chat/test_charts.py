"""Stacked bars: what stands in the picture is what stands in the table."""

import pytest

from chat.admin.charts import BOTTOM, HEIGHT, SERIES_MOST, TOP, stacked


def chart(labels, series):
    return stacked(labels, series, str, axis=str)


def test_bars_stand_on_the_line_and_are_as_high_as_their_share():
    made = chart(["a", "b"], {"x": [10, 0], "y": [30, 40]})
    assert made.names == [(1, "y"), (2, "x")]
    room = HEIGHT - TOP - BOTTOM
    lowest, above = made.bars[0].segments
    assert lowest.y == pytest.approx(HEIGHT - BOTTOM - room * 30 / 40)
    assert above.y == pytest.approx(TOP)
    assert [segment.series for segment in made.bars[1].segments] == [1]
    assert made.rows == [("a", ["30", "10"], "40"), ("b", ["40", "0"], "40")]
    assert [line.label for line in made.lines] == ["0", "10", "20", "30", "40"]


def test_beyond_seven_series_the_rest_is_one():
    made = chart(["a"], {f"s{number}": [100 - number] for number in range(10)})
    assert [name for _, name in made.names] == [*(f"s{number}" for number in range(SERIES_MOST)), "other"]
    assert made.rows[0][1][-1] == str(93 + 92 + 91)
    assert made.rows[0][2] == str(sum(100 - number for number in range(10)))


@pytest.mark.parametrize(
    ("value", "top"), [(0, 4), (3, 4), (5, 8), (9, 12), (41, 60), (110, 120), (121, 160), (3_000_001, 4_000_000)]
)
def test_axes_end_at_round_numbers(value, top):
    assert chart(["a"], {"x": [value]}).lines[-1].label == str(top)


def test_labels_thin_out_and_bars_stay_within_the_picture():
    made = chart([str(number) for number in range(30)], {"x": [1] * 30})
    assert sum(bar.is_labelled for bar in made.bars) <= 12
    assert made.bars[-1].x + made.bars[-1].width <= 100


def test_no_data_is_no_bar():
    assert not any(bar.segments for bar in chart(["a", "b"], {}).bars)

import os
import re
import warnings

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infery_site import ids


@given(number=st.integers(min_value=0, max_value=62**12 - 1))
def test_base62_keeps_the_order_of_numbers_of_equal_length(number):
    text = ids.base62(number, 12)
    assert len(text) == 12
    assert sum(ids.ALPHABET.index(digit) * 62**place for place, digit in enumerate(reversed(text))) == number


def test_public_ids_carry_their_prefix_and_never_repeat():
    made = {ids.public_id("ws") for _ in range(1000)}
    assert len(made) == 1000
    assert all(re.fullmatch(r"ws_[0-9A-Za-z]{22}", one) for one in made)


def test_generation_ids_grow_with_time():
    first = ids.generation_id()
    assert re.fullmatch(r"chatcmpl-[0-9A-Za-z]{29}", first)
    assert first[:13] <= ids.generation_id()[:13]


@pytest.mark.parametrize("label", ["a", "A.b_c:d-9", "x" * 128])
def test_a_well_formed_label_is_kept(label):
    assert ids.request_id(label) == label


@pytest.mark.parametrize("label", [None, "", "x" * 129, "a b", "a\r\nb", "a\0", "é", "a\n", "/"])
def test_any_other_label_is_replaced(label):
    assert re.fullmatch(r"req-[0-9A-Za-z]{29}", ids.request_id(label))


def test_ids_drawn_ahead_never_repeat_not_even_in_a_child():
    made = [ids.generation_id() for _ in range(300)]
    reading, writing = os.pipe()
    with warnings.catch_warnings(action="ignore"):  # of threads, which this child does not use
        child = os.fork()
    if child == 0:
        try:
            os.write(writing, " ".join([ids.generation_id() for _ in range(100)]).encode())
        finally:
            os._exit(0)
    os.close(writing)
    os.waitpid(child, 0)
    with os.fdopen(reading, "rb") as pipe:
        theirs = pipe.read().decode().split()
    made += [ids.generation_id() for _ in range(100)]
    tails = {one[-22:] for one in made + theirs}
    assert len(theirs) == 100
    assert len(tails) == 500

"""The list of mutations follows the code: what it would break is there, once, and so are the tests that would see it."""

import pytest

from tests.mutations import MUTATIONS, ROOT


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name.replace(" ", "-"))
def test_a_mutation_can_be_made(mutation):
    assert (ROOT / mutation.path).read_text(encoding="utf-8").count(mutation.old) == 1, "give tests/mutations.py the new line"
    assert mutation.new != mutation.old
    assert all((ROOT / path).is_file() for path in mutation.tests)


def test_mutations_are_told_apart_by_their_names():
    assert len({mutation.name for mutation in MUTATIONS}) == len(MUTATIONS)

import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixture_assets.core.errors import MixtureError
from mixture_assets.data.split import is_validation, validation_mask

hashes = st.integers(0, 2**64 - 1)
fractions = st.floats(1e-9, 1 - 1e-9)


@given(st.lists(hashes, min_size=1), fractions)
def test_one_document_and_many_agree(values, fraction):
    mask = validation_mask(np.array(values, np.uint64), fraction)
    assert mask.tolist() == [is_validation(f"{v:016x}", fraction) for v in values]


@given(hashes, fractions, fractions)
def test_a_larger_fraction_only_adds_documents(value, a, b):
    smaller, larger = sorted((a, b))
    doc_id = f"{value:016x}"
    assert is_validation(doc_id, larger) or not is_validation(doc_id, smaller)


def test_holds_out_the_fraction_that_was_asked_for():
    ids = [hashlib.sha256(b"%d" % i).hexdigest()[:16] for i in range(20_000)]
    held_out = sum(is_validation(doc_id, 0.05) for doc_id in ids)
    assert held_out == pytest.approx(1000, abs=4 * 31)  # four standard deviations


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.1, float("nan")])
def test_refuses_a_fraction_that_is_none(fraction):
    with pytest.raises(MixtureError, match="validation_fraction must be between 0 and 1"):
        is_validation("0" * 16, fraction)

"""Encoders that a method evaluates itself; specs of them are tested beside the candidates of encoder inference."""

import numpy as np
import pytest

from dosimeter.core.errors import InputError, TargetError
from dosimeter.core.target import CallableTarget
from dosimeter.targets.encoders import embed, encoder_from_spec

ROWS = np.arange(14.0).reshape(7, 2)


def encoder(function, **settings):
    return CallableTarget(function, modality="table", returns="embedding", name="e", batch_size=3, **settings)


def test_embeddings_come_in_the_order_of_the_inputs():
    class Late(CallableTarget):
        def stream(self, batch, *, before_send):
            yield from reversed(list(super().stream(batch, before_send=before_send)))

    late = Late(lambda batch: 2 * batch, modality="table", returns="embedding", batch_size=3)
    np.testing.assert_array_equal(embed(late, ROWS, what="student"), 2 * ROWS)


def test_unequal_widths_are_named():
    with pytest.raises(TargetError, match="the student returned embeddings of unequal shape"):
        embed(encoder(lambda batch: np.ones((len(batch), len(batch)))), ROWS, what="the student")


def test_problems_of_a_spec_are_placed(tmp_path):
    with pytest.raises(InputError, match=r"^student\.kind \(mine\): .torsh. is not known"):
        encoder_from_spec(("student",), {"kind": "torsh"}, tmp_path, trust=False, name="mine")


@pytest.mark.parametrize("kind", ["torch", "huggingface", "sentence-transformers", "http", "recorded"])
def test_every_kind_of_target_can_be_an_encoder(kind, tmp_path):
    with pytest.raises(InputError) as error:
        encoder_from_spec(("student",), {"kind": kind, "nonsense": 1}, tmp_path, trust=False)
    assert "student.nonsense: unknown key" in str(error.value)
    assert "student.returns" not in str(error.value)

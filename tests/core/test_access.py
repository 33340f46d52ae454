import pytest

from dosimeter.core.access import Needs, check_access, gives
from dosimeter.core.errors import CapabilityError, InputError

NEEDS = Needs(modalities=("image", "text"), returns=("label",))


def check(needs=NEEDS, modality="image", returns="label", grants="query"):
    check_access("an-attack", needs, target="svc", modality=modality, returns=returns, grants=grants)


@pytest.mark.parametrize(
    ("returns", "given"),
    [
        ("label", {"label"}),
        ("scores", {"scores", "label"}),
        ("tokens+logprobs", {"tokens+logprobs", "text"}),
        ("embedding", {"embedding"}),
    ],
)
def test_richer_answers_contain_the_poorer(returns, given):
    assert set(gives(returns)) == given


def test_scores_do_for_a_method_that_needs_labels_but_not_the_other_way_round():
    check(returns="scores")
    with pytest.raises(CapabilityError, match=r"it needs scores as answers \(the target returns label\)"):
        check(needs=Needs(modalities=("image",), returns=("scores",)))


@pytest.mark.parametrize("grants", ["activations", "weights"])
def test_deeper_access_than_needed_is_accepted(grants):
    check(grants=grants)


def test_everything_that_is_lacking_is_in_one_sentence():
    needs = Needs(modalities=("image", "text"), returns=("scores", "embedding"), grants="weights")
    with pytest.raises(CapabilityError) as caught:
        check(needs=needs, modality="table", returns="label")
    assert str(caught.value) == (
        "an-attack cannot run on target 'svc': it needs image or text inputs (the target takes table), and scores or "
        "embedding as answers (the target returns label), and access to weights (the target grants query)."
    )
    assert isinstance(caught.value, InputError)

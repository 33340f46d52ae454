import pytest

from dosimeter.core.result import VERDICT_EXIT
from dosimeter.report.summary import summarise


def test_realistic_outcome(outcome):
    summary = summarise(outcome)
    assert summary.headline == "The policy does not hold."
    assert summary.asked == "Encoder inference against digits service, as it is and behind jpeg."
    assert summary.found == outcome.summary
    assert summary.meaning.startswith("Of 4 lines of the policy, 2 do not hold, 1 is undecided and 1 holds.")
    assert summary.reasons == [
        "encoder-inference.top-score behind jpeg, seed 0: the interval reaches over the bound"
    ]
    assert summary.next_step == outcome.next_step


def test_several_attacks_are_counted_and_named(hostile):
    asked = summarise(hostile).asked
    assert asked.startswith("3 attacks against ")
    assert asked.endswith("<script>alert(1)</script>, Membership and Broken.")


def test_reasons_of_all_parts_that_did_not_decide(hostile):
    reasons = summarise(hostile).reasons
    assert any("12 members are too few" in reason for reason in reasons)
    assert any("502" in reason for reason in reasons)


@pytest.mark.parametrize("verdict", VERDICT_EXIT)
def test_every_verdict_has_words_with_and_without_policy(outcome, verdict):
    judged = outcome.model_copy(update={"verdict": verdict, "next_step": ""})
    for changed in (judged, judged.model_copy(update={"findings": []})):
        summary = summarise(changed)
        assert summary.headline
        assert summary.meaning
        assert summary.next_step


def test_nothing_run(empty):
    assert summarise(empty).asked == "Nothing was run against ."

"""The release check as a test. Run: pytest"""


def test_no_public_encoder_can_be_named(audit):
    outcome = audit("audit.yaml")
    audit.require(outcome, {"encoder-inference.identified": "== 0", "encoder-inference.base-rate": "<= 0.5"})

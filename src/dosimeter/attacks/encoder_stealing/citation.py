"""The publication that the attack of this package comes from."""

from dosimeter.core.card import Paper

STOLEN_ENCODER = Paper(
    title="StolenEncoder: Stealing Pre-trained Encoders in Self-supervised Learning",
    authors="Yupei Liu, Jinyuan Jia, Hongbin Liu, Neil Zhenqiang Gong",
    year=2022,
    url="https://arxiv.org/abs/2201.05889",
)

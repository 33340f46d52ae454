"""The publication that the attacks of this package come from."""

from dosimeter.core.card import Paper

PEI = Paper(
    title="Pre-trained Encoder Inference: Revealing Upstream Encoders In Downstream Machine Learning Services",
    authors="Shaopeng Fu, Xuexue Sun, Ke Qing, Tianhang Zheng, Di Wang",
    year=2024,
    url="https://arxiv.org/abs/2408.02814",
)

"""A digit classifier as one would build it: a frozen encoder, and a head trained on its features.

Used by digits_audit.py, digits_audit.yaml and http_service.py. Replace `service` and `encoder` by functions that return
your own modules; what they return is all that Dosimeter needs to know.
"""

import torch
from sklearn.linear_model import LogisticRegression
from torch import nn

import dosimeter
from dosimeter.models import example


def encoder(name: str) -> nn.Module:
    """An encoder that the classifier may be built on: (n, 3, 32, 32) in -1..1 -> (n, 64). Trained on first use."""
    return example.encoder(name)


def service(hidden: str = "depthwise") -> nn.Module:
    """The classifier under audit: (n, 3, 32, 32) in -1..1 -> (n, 10) logits."""
    digits = dosimeter.load("digits", size=32)
    images = torch.from_numpy(digits.inputs).permute(0, 3, 1, 2) / 127.5 - 1
    frozen = encoder(hidden)
    with torch.no_grad():
        features = frozen(images)
    fitted = LogisticRegression(max_iter=300).fit(features, digits.labels)
    head = nn.Linear(features.shape[1], len(digits.classes))
    head.load_state_dict(
        {"weight": torch.from_numpy(fitted.coef_), "bias": torch.from_numpy(fitted.intercept_)}
    )
    return nn.Sequential(frozen, head)

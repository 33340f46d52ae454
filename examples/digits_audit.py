"""The audit of digits_audit.yaml from Python: which of three encoders is the digit classifier built on?

Run:   python examples/digits_audit.py
Out:   the result as a table: 'depthwise' is named, with every candidate's score, the controls and the price in queries.
Needs: pip install 'dosimeter[torch]'
"""

from pathlib import Path

from digits_model import encoder, service

import dosimeter
from dosimeter.attacks.encoder_inference import Gradient

AS_TRAINED = dosimeter.Preprocessing(size=32, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
FAMILIES = {"conv-a": "conv", "conv-b": "conv", "depthwise": ""}


def main() -> None:
    Path(".dosimeter").mkdir(exist_ok=True)  # where the example's encoders and the attack samples are kept
    candidates = [
        dosimeter.Candidate(
            name,
            dosimeter.TorchTarget(encoder(name), name=name, returns="embedding", preprocessing=AS_TRAINED),
            family=family,
        )
        for name, family in FAMILIES.items()
    ]
    attack = dosimeter.EncoderInference(
        candidates=candidates,
        objective_count=8,
        copies=3,
        synthesis=Gradient(canvas=32, steps=100),
        decoys=2,  # random encoders; three candidates alone are too few
    )
    target = dosimeter.TorchTarget(
        service(), name="digit classifier", returns="label", preprocessing=AS_TRAINED, grants="query"
    )
    context = dosimeter.Context(seed=0, cache=Path(".dosimeter/cache"))
    print(attack.run(dosimeter.Oracle(target, max_queries=1000), context=context))


if __name__ == "__main__":
    main()

"""PEI, pre-trained encoder inference: which public encoder hides behind a service (Fu et al., arXiv 2408.02814).

Stage 1 makes attack samples for each candidate (``synthesis``, ``beam``, kept by ``attack_sets``); controls and
reference services say what they are worth (``controls``, ``reference``); stage 2 asks the service (``inference``,
``similarity``) and decides (``decision``). ``followups`` uses a revealed encoder. Does not own: training of encoders
(``models``), defences (``defenses``), how results look (``report``).
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "attack": ["EncoderInference"],
        "attack_sets": ["AttackSet", "make_attack_set"],
        "beam": ["CharacterBeam", "CLASSIFICATION", "TEXT_TO_IMAGE"],
        "candidates": ["Candidate"],
        "decision": ["Decision", "decide"],
        "followups": ["Mimicry", "Stealing", "mimic", "steal_from_scratch", "steal_with_encoder"],
        "synthesis": ["Gradient", "ZerothOrder"],
    },
)

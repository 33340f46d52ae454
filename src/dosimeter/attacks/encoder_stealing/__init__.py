"""StolenEncoder: a copy of an encoder from its embedding API, one call per input (Liu et al., arXiv 2201.05889).

``purchase`` asks, ``training`` makes copies (``views``, ``losses``, ``surrogates``), ``rivals`` and ``contrastive`` the baselines,
``scoring`` judges, ``adaptive`` sees through defences, ``attack`` and ``campaign`` do all of it for a study. Does not own:
defences (``defenses.features``), the service (``server``), how results look (``report``).
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "attack": ["EncoderStealing"],
        "purchase": ["Purchase", "buy", "probe"],
        "scoring": ["Task", "score_task", "similarity"],
        "surrogates": ["surrogate"],
        "training": ["Recipe", "StolenEncoder", "steal"],
        "views": ["ImageViews", "TextViews"],
    },
)

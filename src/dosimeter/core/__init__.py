"""The five nouns - Target, Oracle, Method, Result, Study's cells - and what they share.

Does not own: algorithms (``attacks``, ``defenses``), formats (``report``), scheduling (``study``), printing (``cli``).
Import from the modules directly; the names meant for users are re-exported by ``dosimeter`` itself.
"""

"""Studies: a grid of targets, defences, attacks and seeds under a policy, run so that it can be killed and resumed.

Does not own: algorithms (``attacks``, ``defenses``), formats (``report``), printing (``cli``).
"""

"""A target as a service for others: defences, keys, quotas, limits, metrics and a log without content.

Owns: what happens between a socket and a target. Does not own: the model, the defences, how a client pays or retries.
The maths is that of ``targets`` and ``defenses``; nothing here changes a number.
"""

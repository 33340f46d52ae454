"""Placeholder."""


def measure(seed, cache):
    raise NotImplementedError

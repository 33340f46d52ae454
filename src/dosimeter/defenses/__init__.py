"""Changes to what goes into a service or comes out of it, each measured by the same attacks as the service without it.

Does not own: wrapping a target and drawing randomness once per input (``core.method``), judging the effect (``study``).
"""

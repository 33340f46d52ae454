"""Reads files that others made - weights, arrays, images, text, tables, YAML - without trusting a byte of them.

Every refusal is one sentence of ``InputError``; no file runs code, fills the memory or hangs the reader
(``dosimeter selftest loaders`` tries). Does not own: public sets and their splits (``data``), building a target
(``targets``). Import from the modules directly; each is named after what it reads.
"""

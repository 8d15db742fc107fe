"""The catalogue of kinds: one folder a group, one module a kind (defaults, validation, columns, helpers).
Pure: no I/O. A rule that holds for every kind belongs in `peavine.machinery`.
"""

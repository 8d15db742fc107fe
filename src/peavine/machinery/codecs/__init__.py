"""Bytes to objects and back: JSON, YAML, protobuf, CBOR, and which of them a request means.
What belongs here reads or writes a whole document; what knows the document's type is `machinery.decode`.
"""

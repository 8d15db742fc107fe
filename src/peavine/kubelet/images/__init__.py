"""Container images on a node: names, archives made from static binaries, pull policies, garbage collection."""

"""The Gateway API on the same data plane: its kinds, and the reader that makes routes of them."""

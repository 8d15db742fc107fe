"""From a request to an answer: which kind and verb it means, how its body is read, how the answer looks.

What an operation does to objects belongs in `registry`; bytes and sockets belong in `http`.
"""

"""Sans-IO codecs: bytes to messages and back (HTTP pieces, WebSocket, SPDY, DNS, protobuf).
Nothing here opens a socket, knows a kind, or awaits.
"""

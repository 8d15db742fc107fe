"""gRPC without generated code: message tables as text, a codec that reads them, a channel that calls with dicts.

What belongs here knows gRPC and protobuf, and no service: the tables of CRI, CSI and the device plugins live beside
their users.
"""

from peavine.kubelet.rpc.channel import Channel
from peavine.kubelet.rpc.codec import Codec
from peavine.kubelet.rpc.errors import RpcError

__all__ = ["Channel", "Codec", "RpcError"]

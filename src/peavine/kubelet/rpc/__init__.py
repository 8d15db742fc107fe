"""gRPC without generated code: message tables as text, a codec that reads them, a channel that calls with dicts.

What belongs here knows gRPC and protobuf, and no service: the tables of CRI, CSI and the device plugins live beside
their users.
"""

from peavine.kubelet.rpc.channel import Channel, RpcError
from peavine.kubelet.rpc.codec import Codec

__all__ = ["Channel", "Codec", "RpcError"]

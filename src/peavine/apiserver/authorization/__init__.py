"""What a user may do: RBAC, the node authorizer, webhooks, and the reviews that ask them."""

from peavine.apiserver.authorization.attributes import Attributes, Authorizer, Decision, decide

__all__ = ["Attributes", "Authorizer", "Decision", "decide"]

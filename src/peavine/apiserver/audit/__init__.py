"""What is written down about each request: policy, stages, log and webhook."""

from peavine.apiserver.audit.auditor import Auditor, Record
from peavine.apiserver.audit.backends import LogFile, Webhook
from peavine.apiserver.audit.policy import Policy, load_policy

__all__ = ["Auditor", "LogFile", "Policy", "Record", "Webhook", "load_policy"]

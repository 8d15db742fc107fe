"""What a write must satisfy, and what is filled in on its way: the admission plugins, in upstream's order."""

from peavine.apiserver.admission.chain import Chain, build_chain
from peavine.apiserver.admission.request import AdmissionRequest, Plugin

__all__ = ["AdmissionRequest", "Chain", "Plugin", "build_chain"]

"""Certificate requests: who may approve and sign for which signer, and what no request may ask for."""

from __future__ import annotations

import base64

from peavine.apiserver.admission.chain import PluginContext
from peavine.apiserver.admission.refusals import forbidden
from peavine.apiserver.admission.request import CREATE, UPDATE, AdmissionRequest, Plugin
from peavine.apiserver.authentication.user import MASTERS, User
from peavine.apiserver.authorization.attributes import Attributes, Authorizer, decide
from peavine.machinery.x509 import ORGANIZATION, pem_blocks, read_request_subject

GROUP = "certificates.k8s.io"


async def may_sign_for(authorizer: Authorizer | None, user: User, verb: str, signer: str) -> bool:
    """Whether `user` has `verb` on the signer, or on all signers of its domain."""
    if authorizer is None:
        return True
    for name in (signer, signer.split("/", 1)[0] + "/*"):
        attributes = Attributes(user, verb, "", GROUP, "*", "signers", "", name)
        if (await decide(authorizer, attributes)).allowed:
            return True
    return False


class CertificateApproval(Plugin):
    name = "CertificateApproval"
    operations = frozenset((UPDATE,))
    resources = frozenset(((GROUP, "certificatesigningrequests"),))

    def __init__(self, context: PluginContext) -> None:
        self.authorizer = context.authorizer

    async def validate(self, req: AdmissionRequest) -> None:
        if req.subresource != "approval" or req.old is None:
            return
        signer = req.old["spec"].get("signerName", "")
        if not await may_sign_for(self.authorizer, req.user, "approve", signer):
            raise forbidden(req, f'user not permitted to approve requests with signerName "{signer}"')


class CertificateSigning(Plugin):
    name = "CertificateSigning"
    operations = frozenset((UPDATE,))
    resources = frozenset(((GROUP, "certificatesigningrequests"), (GROUP, "podcertificaterequests")))

    def __init__(self, context: PluginContext) -> None:
        self.authorizer = context.authorizer

    async def validate(self, req: AdmissionRequest) -> None:
        if req.subresource != "status" or req.obj is None or req.old is None:
            return
        new, old = req.obj.get("status") or {}, req.old.get("status") or {}
        if req.gvr.resource == "podcertificaterequests":
            same = new == old  # all of this status is the signer's
        else:
            same = new.get("certificate") == old.get("certificate") and new.get("conditions") == old.get("conditions")
        if same:
            return
        signer = req.old["spec"].get("signerName", "")
        if not await may_sign_for(self.authorizer, req.user, "sign", signer):
            raise forbidden(req, f'user not permitted to sign requests with signerName "{signer}"')


class CertificateSubjectRestriction(Plugin):
    name = "CertificateSubjectRestriction"
    operations = frozenset((CREATE,))
    resources = frozenset(((GROUP, "certificatesigningrequests"),))

    def __init__(self, context: PluginContext) -> None:
        del context

    async def validate(self, req: AdmissionRequest) -> None:
        spec = (req.obj or {}).get("spec") or {}
        if req.subresource or spec.get("signerName") != "kubernetes.io/kube-apiserver-client":
            return
        try:
            (request,) = pem_blocks(base64.b64decode(spec.get("request") or ""), "CERTIFICATE REQUEST")
            groups = [value for oid, value in read_request_subject(request) if oid == ORGANIZATION]
        except ValueError as error:
            raise forbidden(req, f"failed to parse CSR: {error}") from None
        if MASTERS in groups:
            why = f"use of kubernetes.io/kube-apiserver-client signer with {MASTERS} group is not allowed"
            raise forbidden(req, why)


class ClusterTrustBundleAttest(Plugin):
    name = "ClusterTrustBundleAttest"
    operations = frozenset((CREATE, UPDATE))
    resources = frozenset(((GROUP, "clustertrustbundles"),))

    def __init__(self, context: PluginContext) -> None:
        self.authorizer = context.authorizer

    async def validate(self, req: AdmissionRequest) -> None:
        signer = ((req.obj or {}).get("spec") or {}).get("signerName")
        if not signer or req.subresource:
            return
        if not await may_sign_for(self.authorizer, req.user, "attest", signer):
            raise forbidden(req, f'user not permitted to attest for signerName "{signer}"')

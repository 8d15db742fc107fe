"""Who a request is: certificates, tokens, proxies, impersonation, nobody."""

import asyncio
import base64

import pytest

from peavine.apiserver.authentication import User
from peavine.apiserver.authentication.build import AuthenticationConfig, build_authenticator
from peavine.apiserver.authentication.impersonation import impersonate
from peavine.apiserver.authentication.serviceaccount import KeyRing, TokenIssuer
from peavine.apiserver.authorization.attributes import ALLOWED, NO_OPINION
from peavine.base.clock import REAL, SimulatedClock
from peavine.cmd import pki as pki_module
from peavine.machinery.errors import ApiError
from peavine.machinery.x509 import pem_blocks, read_pem
from tests.apiserver.security.fakes import Objects, request


@pytest.fixture(scope="module")
def pki(tmp_path_factory):
    made = pki_module.ensure_pki(tmp_path_factory.mktemp("pki"))
    pki_module.ensure_kubeconfigs(made, "https://127.0.0.1:6443")
    return made


@pytest.fixture
def clock():
    return SimulatedClock(REAL.time())


@pytest.fixture
def objects():
    found = Objects()
    found.put("", "serviceaccounts", {"metadata": {"name": "default", "namespace": "team", "uid": "sa-uid"}})
    pod = {"metadata": {"name": "web", "namespace": "team", "uid": "pod-uid"}}
    found.put("", "pods", {**pod, "spec": {"serviceAccountName": "default", "nodeName": "one"}})
    found.put("", "nodes", {"metadata": {"name": "one", "uid": "node-uid"}})
    return found


@pytest.fixture
def keys(pki):
    return KeyRing(pki.service_account_key, [pki.service_account_public_key])


@pytest.fixture
def authenticator(pki, objects, keys, clock):
    config = AuthenticationConfig(
        client_ca_file=str(pki.cert("ca")),
        requestheader_client_ca_file=str(pki.cert("front-proxy-ca")),
        requestheader_allowed_names=["front-proxy-client"],
        service_account_keys=keys,
    )
    return build_authenticator(config, objects, clock=clock)


def ask(authenticator, **kwargs):
    return asyncio.run(authenticator.authenticate(request(**kwargs)))


def code(authenticator, **kwargs):
    with pytest.raises(ApiError) as caught:
        ask(authenticator, **kwargs)
    return caught.value.code


def der(path):
    return pem_blocks(path.read_bytes())[0]


def bearer(token):
    return [("Authorization", f"Bearer {token}")]


def test_a_client_certificate_names_user_and_groups(authenticator, pki):
    user = ask(authenticator, peer=der(pki.cert("apiserver-kubelet-client")))
    assert user.name == "kube-apiserver-kubelet-client"
    assert user.groups == ("system:masters", "system:authenticated")
    assert user.extra["authentication.kubernetes.io/credential-id"][0].startswith("X509SHA256=")


def test_a_certificate_past_its_end_is_refused_even_on_an_open_connection(authenticator, pki, clock):
    asyncio.run(clock.advance(366 * pki_module.DAY))
    assert code(authenticator, peer=der(pki.cert("apiserver-kubelet-client"))) == 401


def test_a_serving_certificate_and_another_clusters_certificate_are_nobody(authenticator, pki, tmp_path):
    assert code(authenticator, peer=der(pki.cert("apiserver"))) == 401
    other = pki_module.ensure_pki(tmp_path)
    assert code(authenticator, peer=der(other.cert("apiserver-kubelet-client"))) == 401


def test_anonymous_reaches_health_endpoints_only(authenticator):
    assert ask(authenticator, path="/livez").name == "system:anonymous"
    for path in ("/livez/ping", "/api/v1/pods", "/metrics", "/version", "/healthz/../api"):
        assert code(authenticator, path=path) == 401


def test_the_front_proxy_speaks_for_users_and_nobody_else_does(authenticator, pki):
    headers = [
        ("X-Remote-User", "jane"),
        ("X-Remote-Group", "a"),
        ("X-Remote-Group", "b"),
        ("X-Remote-Extra-Scopes%2Fx", "s"),
        ("X-Remote-Uid", "7"),
    ]
    user = ask(authenticator, peer=der(pki.cert("front-proxy-client")), headers=headers)
    assert user == User("jane", "7", ("a", "b", "system:authenticated"), {"scopes/x": ["s"]})
    assert code(authenticator, headers=headers) == 401
    user = ask(authenticator, peer=der(pki.cert("apiserver-kubelet-client")), headers=headers)
    assert user.name == "kube-apiserver-kubelet-client"


def test_credentials_do_not_go_past_authentication(authenticator, pki):
    info = request(peer=der(pki.cert("apiserver-kubelet-client")), headers=[*bearer("x"), ("X-Remote-User", "root")])
    asyncio.run(authenticator.authenticate(info))
    assert info.headers == {} and info.raw_headers == []


@pytest.fixture
def issuer(keys, objects, clock):
    return TokenIssuer(keys, objects, clock=clock)


def token_of(issuer, **spec):
    return issuer.token_request("team", "default", {"spec": spec})["status"]["token"]


POD = {"kind": "Pod", "apiVersion": "v1", "name": "web", "uid": "pod-uid"}


def test_a_service_account_token_names_the_account_and_what_it_is_bound_to(authenticator, issuer):
    user = ask(authenticator, headers=bearer(token_of(issuer, boundObjectRef=POD)))
    assert user.name == "system:serviceaccount:team:default" and user.uid == "sa-uid"
    assert user.groups == ("system:serviceaccounts", "system:serviceaccounts:team", "system:authenticated")
    assert user.extra["authentication.kubernetes.io/pod-name"] == ["web"]
    assert user.extra["authentication.kubernetes.io/node-name"] == ["one"]
    assert user.extra["authentication.kubernetes.io/credential-id"][0].startswith("JTI=")


def test_a_token_ends_with_its_pod_and_with_its_account(authenticator, issuer, objects):
    bound, free = token_of(issuer, boundObjectRef=POD), token_of(issuer)
    ask(authenticator, headers=bearer(bound))
    pod = objects.remove("", "pods", "team", "web")
    assert code(authenticator, headers=bearer(bound)) == 401
    pod["metadata"]["uid"] = "another"
    objects.put("", "pods", pod)
    assert code(authenticator, headers=bearer(bound)) == 401
    ask(authenticator, headers=bearer(free))
    objects.remove("", "serviceaccounts", "team", "default")
    assert code(authenticator, headers=bearer(free)) == 401


def test_a_token_ends_at_its_time_and_is_good_for_its_audience_only(authenticator, issuer, clock):
    token, elsewhere = token_of(issuer, expirationSeconds=600), token_of(issuer, audiences=["vault"])
    assert ask(authenticator, headers=bearer(token)).name.startswith("system:serviceaccount")
    assert code(authenticator, headers=bearer(elsewhere)) == 401
    user, audiences = asyncio.run(authenticator.review(elsewhere, ["vault", "other"]))
    assert (user.uid, audiences) == ("sa-uid", ["vault"])
    asyncio.run(clock.advance(601))
    assert code(authenticator, headers=bearer(token)) == 401


def test_forged_tokens_are_refused(authenticator, issuer, pki, tmp_path, objects, clock):
    import jwt
    import orjson

    good = token_of(issuer)
    header, claims, signature = good.split(".")
    none = base64.urlsafe_b64encode(b'{"alg":"none"}').rstrip(b"=").decode()
    public = pki.service_account_public_key.read_bytes()
    body = orjson.loads(base64.urlsafe_b64decode(claims + "==="))
    hmac_header = base64.urlsafe_b64encode(b'{"alg":"HS256"}').rstrip(b"=").decode()
    import hashlib
    import hmac as hmac_module

    mac = hmac_module.new(public, f"{hmac_header}.{claims}".encode(), hashlib.sha256).digest()
    confused = f"{hmac_header}.{claims}.{base64.urlsafe_b64encode(mac).rstrip(b'=').decode()}"
    other = pki_module.ensure_pki(tmp_path)
    foreign = TokenIssuer(KeyRing(other.service_account_key), objects, clock=clock)
    assert jwt and body
    for forged in (
        f"{none}.{claims}.",
        confused,
        f"{header}.{claims}.AAAA",
        f"{header}.{claims[:-2]}AA.{signature}",
        token_of(foreign),
        "a.b.c",
        "...",
        "é.é.é",
    ):
        assert code(authenticator, headers=bearer(forged)) == 401, forged


@pytest.mark.parametrize("kind", ["rsa", "P-256", "P-384", "P-521"])
def test_tokens_are_what_any_jwt_library_verifies(tmp_path, objects, clock, kind):
    import jwt
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec, rsa

    curves = {"P-256": ec.SECP256R1(), "P-384": ec.SECP384R1(), "P-521": ec.SECP521R1()}
    private = rsa.generate_private_key(65537, 2048) if kind == "rsa" else ec.generate_private_key(curves[kind])
    plain = serialization.NoEncryption()
    pem = private.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
    (tmp_path / "sa.key").write_bytes(pem)
    keys = KeyRing(tmp_path / "sa.key")
    token = token_of(TokenIssuer(keys, objects, clock=clock))
    jwk = TokenIssuer(keys, objects).jwks()["keys"][0]
    options = {"verify_aud": False, "verify_exp": False, "verify_iat": False, "verify_nbf": False}
    claims = jwt.decode(token, jwt.PyJWK(jwk).key, algorithms=[jwk["alg"]], options=options)
    assert claims["sub"] == "system:serviceaccount:team:default"
    assert jwt.get_unverified_header(token)["kid"] == jwk["kid"]
    made = build_authenticator(AuthenticationConfig(service_account_keys=keys), objects, clock=clock)
    ask(made, headers=bearer(token))
    assert code(made, headers=bearer(token[:-4] + "AAAA")) == 401


def test_a_rotated_key_still_verifies_what_it_signed(pki, objects, tmp_path, clock, issuer):
    old = token_of(issuer)
    new = pki_module.ensure_pki(tmp_path)
    keys = KeyRing(new.service_account_key, [new.service_account_public_key, pki.service_account_public_key])
    rotated = build_authenticator(AuthenticationConfig(service_account_keys=keys), objects, clock=clock)
    ask(rotated, headers=bearer(old))
    ask(rotated, headers=bearer(token_of(TokenIssuer(keys, objects, clock=clock))))
    assert len(TokenIssuer(keys, objects).jwks()["keys"]) == 2


def test_token_requests_are_checked(issuer):
    def refused(spec, name="default"):
        with pytest.raises(ApiError) as caught:
            issuer.token_request("team", name, {"spec": spec})
        return caught.value

    assert refused({}, "nobody").code == 404
    error = refused({"expirationSeconds": 10})
    assert error.code == 422 and "may not specify a duration less than 10 minutes" in error.message
    assert refused({"boundObjectRef": {**POD, "uid": "other"}}).code == 409
    assert refused({"boundObjectRef": {**POD, "name": "gone"}}).code == 404
    assert refused({"boundObjectRef": {**POD, "kind": "ConfigMap"}}).code == 400


def test_a_token_may_come_in_a_websocket_subprotocol(authenticator, issuer):
    encoded = base64.urlsafe_b64encode(token_of(issuer).encode()).rstrip(b"=").decode()
    protocol = f"base64url.bearer.authorization.k8s.io.{encoded}, v5.channel.k8s.io"
    info = request(headers=[("Upgrade", "websocket"), ("Sec-WebSocket-Protocol", protocol)])
    assert asyncio.run(authenticator.authenticate(info)).uid == "sa-uid"
    assert info.header_values("sec-websocket-protocol") == ["v5.channel.k8s.io"]


def test_a_bootstrap_token_is_good_until_it_expires_or_is_deleted(authenticator, objects, clock):
    def encoded(**data):
        return {key.replace("_", "-"): base64.b64encode(value.encode()).decode() for key, value in data.items()}

    data = encoded(
        token_id="abcdef",
        token_secret="0123456789abcdef",
        usage_bootstrap_authentication="true",
        auth_extra_groups="system:bootstrappers:workers",
    )
    secret = {"metadata": {"name": "bootstrap-token-abcdef", "namespace": "kube-system"}, "data": data}
    objects.put("", "secrets", {**secret, "type": "bootstrap.kubernetes.io/token"})
    user = ask(authenticator, headers=bearer("abcdef.0123456789abcdef"))
    assert user.name == "system:bootstrap:abcdef"
    assert user.groups == ("system:bootstrappers", "system:bootstrappers:workers", "system:authenticated")
    assert code(authenticator, headers=bearer("abcdef.0123456789abcdeX")) == 401
    data.update(encoded(expiration="2020-01-01T00:00:00Z"))
    objects.put("", "secrets", {**secret, "type": "bootstrap.kubernetes.io/token"})
    assert code(authenticator, headers=bearer("abcdef.0123456789abcdef")) == 401


class Allows:
    """An authorizer that allows what `rule` says."""

    def __init__(self, rule):
        self.rule, self.asked = rule, []

    def authorize(self, attributes):
        self.asked.append((attributes.resource, attributes.subresource, attributes.name))
        return ALLOWED if self.rule(attributes) else NO_OPINION


def test_impersonation_asks_for_every_part_and_takes_the_headers_away():
    info = request(
        headers=[
            ("Impersonate-User", "jane"),
            ("Impersonate-Group", "dev"),
            ("Impersonate-Extra-Scope", "x"),
            ("Impersonate-Uid", "9"),
        ]
    )
    info.user = User("admin")
    authorizer = Allows(lambda a: a.verb == "impersonate")
    asyncio.run(impersonate(info, authorizer))
    assert info.user == User("jane", "9", ("dev", "system:authenticated"), {"scope": ["x"]})
    assert authorizer.asked == [
        ("users", "", "jane"),
        ("groups", "", "dev"),
        ("userextras", "scope", "x"),
        ("uids", "", "9"),
    ]
    assert info.headers == {} and info.notes["impersonator"].name == "admin"


def test_impersonation_of_one_part_that_is_not_allowed_is_refused():
    info = request(headers=[("Impersonate-User", "jane"), ("Impersonate-Group", "system:masters")])
    info.user = User("helper")
    with pytest.raises(ApiError) as caught:
        asyncio.run(impersonate(info, Allows(lambda a: a.resource == "users")))
    assert caught.value.code == 403
    assert caught.value.message == (
        'groups "system:masters" is forbidden: User "helper" cannot impersonate resource "groups" in API group "" '
        "at the cluster scope"
    )


def test_an_impersonated_service_account_gets_its_groups():
    info = request(headers=[("Impersonate-User", "system:serviceaccount:team:default")])
    info.user = User("admin")
    asyncio.run(impersonate(info, Allows(lambda a: (a.resource, a.namespace) == ("serviceaccounts", "team"))))
    assert info.user.groups == ("system:serviceaccounts", "system:serviceaccounts:team", "system:authenticated")


def test_the_subject_reads_back_as_written(pki):
    assert read_pem(pki.cert("front-proxy-client").read_bytes()).common_name == "front-proxy-client"

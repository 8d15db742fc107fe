"""Users and decisions from outside the cluster: OpenID Connect, webhook tokens, webhook authorization."""

import asyncio
import json

import pytest

from peavine.apiserver.authentication import User
from peavine.apiserver.authentication.config import from_flags, parse
from peavine.apiserver.authentication.oidc import ConfigError, OidcTokens, parse_provider
from peavine.apiserver.authentication.remote import RemoteError
from peavine.apiserver.authentication.serviceaccount import TokenRefused
from peavine.apiserver.authentication.webhook import WebhookTokens
from peavine.apiserver.authorization.attributes import Attributes, decide
from peavine.apiserver.authorization.build import build_authorizer
from peavine.apiserver.authorization.webhook import ConfigError as AuthorizationConfigError
from peavine.apiserver.authorization.webhook import WebhookAuthorizer, parse_authorization
from peavine.base.clock import SimulatedClock
from tests.apiserver.security.fakes import Objects

ISSUER = "https://issuer.example.com"


class Issuer:
    """An identity provider in memory."""

    def __init__(self):
        import jwt
        from cryptography.hazmat.primitives.asymmetric import ec

        self.key = ec.generate_private_key(ec.SECP256R1())
        self.jwk = json.loads(jwt.algorithms.ECAlgorithm.to_jwk(self.key.public_key()))
        self.fetches = 0

    async def get(self, url):
        self.fetches += 1
        if url.endswith("openid-configuration"):
            return {"issuer": ISSUER, "jwks_uri": ISSUER + "/keys"}
        return {"keys": [{**self.jwk, "kid": "k1", "use": "sig", "alg": "ES256"}]}

    def token(self, key=None, headers=None, **claims):
        import jwt

        base = {"iss": ISSUER, "aud": "peavine", "exp": 1_700_000_600, "sub": "42", "email": "jane@example.com",
                "email_verified": True, "teams": ["dev", "ops"], "level": 3}  # fmt: skip
        body = {name: value for name, value in {**base, **claims}.items() if value is not None}
        return jwt.encode(body, key or self.key, algorithm="ES256", headers={"kid": "k1", **(headers or {})})


@pytest.fixture
def issuer():
    return Issuer()


def verifier(provider, clock=None, **entry):
    raw = {
        "issuer": {"url": ISSUER, "audiences": ["peavine"]},
        "claimMappings": {
            "username": {"claim": "email", "prefix": "oidc:"},
            "groups": {"claim": "teams", "prefix": ""},
        },
        **entry,
    }
    return OidcTokens(parse_provider(raw, "jwt[0]", provider), clock or SimulatedClock())


def ask(verifier, token):
    return asyncio.run(verifier.authenticate_token(token))


def refusal(verifier, token):
    with pytest.raises(TokenRefused) as caught:
        ask(verifier, token)
    return str(caught.value)


def test_a_token_of_the_issuer_names_a_user(issuer):
    checked = verifier(issuer)
    user, _ = ask(checked, issuer.token())
    assert user == User("oidc:jane@example.com", "", ("dev", "ops"))
    ask(checked, issuer.token())
    assert issuer.fetches == 2  # discovery and keys, once
    assert ask(checked, issuer.token(iss="https://other.example.com")) is None
    assert ask(checked, "no.jwt") is None


def test_tokens_that_are_late_for_others_or_forged_are_refused(issuer):
    checked = verifier(issuer)
    assert "expired" in refusal(checked, issuer.token(exp=1))
    assert "audience" in refusal(checked, issuer.token(aud="other"))
    assert "email not verified" in refusal(checked, issuer.token(email_verified=False))
    assert "names no user" in refusal(checked, issuer.token(email=None))
    assert "verify token" in refusal(checked, Issuer().token())
    import jwt

    confused = jwt.encode({"iss": ISSUER}, "x" * 32, algorithm="HS256", headers={"kid": "k1"})
    assert "unsupported signing algorithm" in refusal(checked, confused)


def test_claims_are_mapped_and_checked_by_expressions(issuer):
    checked = verifier(
        issuer,
        claimMappings={
            "username": {"expression": "'user-' + claims.sub"},
            "groups": {"expression": "claims.teams.map(t, 'team:' + t)"},
            "uid": {"claim": "sub"},
            "extra": [{"key": "example.com/level", "valueExpression": "string(claims.level)"}],
        },
        claimValidationRules=[
            {"expression": "claims.level > 2", "message": "level too low"},
            {"claim": "email", "requiredValue": "jane@example.com"},
        ],
        userValidationRules=[{"expression": "!user.username.startsWith('system:')", "message": "reserved"}],
    )
    user, _ = ask(checked, issuer.token())
    assert user == User("user-42", "42", ("team:dev", "team:ops"), {"example.com/level": ["3"]})
    assert refusal(checked, issuer.token(level=1)) == "level too low"
    assert "required value" in refusal(checked, issuer.token(email="eve@example.com"))


def test_configurations_that_cannot_be_used_are_refused(issuer):
    for entry in (
        {"issuer": {"url": "http://x", "audiences": ["a"]}},
        {"issuer": {"url": ISSUER, "audiences": []}},
        {"claimMappings": {"username": {"claim": "sub"}}},
        {"claimMappings": {"username": {"expression": "nonsense("}}},
        {"claimMappings": {}},
    ):
        with pytest.raises(ConfigError):
            verifier(issuer, **entry)
    document = {"apiVersion": "apiserver.config.k8s.io/v1", "kind": "AuthenticationConfiguration",
                "anonymous": {"enabled": True, "conditions": [{"path": "/livez"}]}}  # fmt: skip
    parsed = parse(document)
    assert (parsed.anonymous, parsed.anonymous_paths) == (True, ["/livez"])
    assert from_flags(ISSUER, "c").provider.username.prefix == ISSUER + "#"


def test_a_changed_file_of_issuers_is_taken_into_use_and_a_broken_one_is_not(tmp_path, issuer):
    import os

    from peavine.apiserver.authentication.config import RELOAD_SECONDS, Reloading

    path, clock = tmp_path / "authentication.yaml", SimulatedClock()
    stamps = iter(range(10**9, 10**10, 10**9))

    def write(text):
        path.write_text(text)
        os.utime(path, ns=(0, next(stamps)))
        asyncio.run(clock.advance(RELOAD_SECONDS + 1))

    def document(prefix):
        mappings = {"username": {"claim": "sub", "prefix": prefix}}
        entry = {"issuer": {"url": ISSUER, "audiences": ["peavine"]}, "claimMappings": mappings}
        return json.dumps({"apiVersion": "apiserver.config.k8s.io/v1", "kind": "AuthenticationConfiguration",
                           "jwt": [entry]})  # fmt: skip

    write(document("a:"))
    reloading = Reloading(path, clock)
    for text, name in ((document("a:"), "a:42"), (document("b:"), "b:42"), ("kind: Nonsense", "b:42")):
        write(text)
        asyncio.run(reloading.authenticate_token("x.y.z"))
        reloading.current.verifiers[0].provider.fetcher = issuer
        assert ask(reloading, issuer.token())[0].name == name


class Asker:
    def __init__(self, *answers):
        self.answers, self.asked = list(answers), []

    async def ask(self, document):
        self.asked.append(document)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return {"status": answer}


def test_a_webhook_knows_tokens_and_is_asked_once():
    asker = Asker({"authenticated": True, "user": {"username": "jane", "groups": ["dev"], "extra": {"K": ["v"]}}})
    checked = WebhookTokens(asker, clock=SimulatedClock())
    assert ask(checked, "opaque") == (User("jane", "", ("dev",), {"k": ["v"]}), [])
    ask(checked, "opaque")
    assert len(asker.asked) == 1 and asker.asked[0]["kind"] == "TokenReview"
    assert ask(WebhookTokens(Asker({"authenticated": False})), "x") is None
    assert "no answer" in refusal(WebhookTokens(Asker(RemoteError("no answer"))), "x")


JANE = User("jane", groups=("system:authenticated",))
QUESTION = Attributes(JANE, "get", "team", "", "v1", "pods", "", "web")


def answer(authorizer, question=QUESTION):
    return asyncio.run(decide(authorizer, question))


def test_a_webhook_decides_and_its_answer_is_remembered_for_a_while():
    clock = SimulatedClock()
    asker = Asker({"allowed": True, "reason": "yes"}, {"denied": True})
    authorizer = WebhookAuthorizer(asker, clock=clock)
    assert answer(authorizer).allowed and authorizer.authorize(QUESTION).allowed
    assert asker.asked[0]["spec"] == {
        "user": "jane", "groups": ["system:authenticated"],
        "resourceAttributes": {"namespace": "team", "verb": "get", "version": "v1", "resource": "pods", "name": "web"},
    }  # fmt: skip
    asyncio.run(clock.advance(301))
    assert answer(authorizer).denied


def test_a_webhook_that_does_not_answer_fails_as_it_is_configured():
    down = RemoteError("down")
    assert not answer(WebhookAuthorizer(Asker(down))).denied
    assert answer(WebhookAuthorizer(Asker(down), deny_on_failure=True)).denied


def test_webhooks_stand_in_line_with_the_other_authorizers():
    asker = Asker({"allowed": False}, {"allowed": False, "denied": True}, {"allowed": True})
    hook = WebhookAuthorizer(asker, refused_seconds=0)
    union = build_authorizer(Objects(), ["Webhook:x", "RBAC"], {"Webhook:x": hook})
    review = Attributes(JANE, "create", "", "authorization.k8s.io", "v1", "selfsubjectaccessreviews")
    assert not answer(union, review).allowed
    assert answer(union, review).denied
    assert answer(union, review).allowed
    admin = Attributes(User("admin", groups=("system:masters",)), "delete", resource="nodes")
    assert answer(union, admin).allowed and len(asker.asked) == 3


def test_the_authorization_configuration_names_modes_and_conditions(tmp_path):
    kubeconfig = tmp_path / "hook.kubeconfig"
    kubeconfig.write_text(json.dumps({
        "current-context": "c", "contexts": [{"name": "c", "context": {"cluster": "c"}}],
        "clusters": [{"name": "c", "cluster": {"server": "https://127.0.0.1:1/authorize"}}]}))  # fmt: skip

    def document(**webhook):
        hook = {"timeout": "3s", "failurePolicy": "Deny", **webhook, "connectionInfo": {
            "type": "KubeConfigFile", "kubeConfigFile": str(kubeconfig)}}  # fmt: skip
        return {"apiVersion": "apiserver.config.k8s.io/v1", "kind": "AuthorizationConfiguration", "authorizers": [
            {"type": "Node", "name": "node"}, {"type": "Webhook", "name": "hook", "webhook": hook},
            {"type": "RBAC", "name": "rbac"}]}  # fmt: skip

    expression = "has(request.resourceAttributes) && request.resourceAttributes.namespace == 'team'"
    modes, hooks = parse_authorization(document(matchConditions=[{"expression": expression}]))
    assert modes == ["Node", "Webhook:hook", "RBAC"]
    hook = hooks["Webhook:hook"]
    assert hook.authorize(QUESTION).ask is not None
    assert hook.authorize(Attributes(JANE, "get", "other", "", "v1", "pods")).ask is None
    for wrong in ({"failurePolicy": "Maybe"}, {"timeout": "1h"}, {"matchConditions": [{"expression": "("}]}):
        with pytest.raises(AuthorizationConfigError):
            parse_authorization(document(**wrong))


def test_what_is_outside_is_asked_over_tls_and_believed_only_under_its_certificate(tmp_path):
    import base64

    import orjson

    from peavine.apiserver.authentication.remote import HttpsFetcher, KubeconfigSender
    from peavine.apiserver.http import HttpServer, Response
    from peavine.apiserver.http.tls import server_context
    from peavine.base.lifetimes import scope
    from peavine.cmd.pki import ensure_pki

    pki, stranger = ensure_pki(tmp_path / "own"), ensure_pki(tmp_path / "stranger")
    seen = []

    async def handler(exchange):
        seen.append((exchange.info.method, exchange.info.path, exchange.info.headers.get("authorization")))
        body = await exchange.read_body(1 << 20)
        if exchange.info.path == "/big":
            return Response(200, b"x" * (5 << 20), "application/json")
        if exchange.info.path == "/broken":
            return Response(500, b"{}", "application/json")
        document = orjson.loads(body) if body else {"issuer": ISSUER}
        return Response(200, orjson.dumps({**document, "status": {"allowed": True}}), "application/json")

    def kubeconfig(port, path, ca):
        cluster = {
            "server": f"https://127.0.0.1:{port}{path}",
            "certificate-authority-data": base64.b64encode(ca.encode()).decode(),
        }
        document = {
            "current-context": "c",
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
            "clusters": [{"name": "c", "cluster": cluster}],
            "users": [{"name": "u", "user": {"token": "secret"}}],
        }
        file = tmp_path / f"{path[1:]}-{len(ca)}.kubeconfig"
        file.write_text(json.dumps(document))
        return file

    async def main():
        tls = server_context(str(pki.cert("apiserver")), str(pki.key("apiserver")))
        async with scope() as tasks:
            server = HttpServer(handler, tls=tls)
            port = await server.listen("127.0.0.1", 0, tasks)
            answer = await KubeconfigSender(kubeconfig(port, "/authorize", pki.ca_pem())).ask({"kind": "X"})
            assert answer == {"kind": "X", "status": {"allowed": True}}
            assert seen == [("POST", "/authorize", "Bearer secret")]
            assert await KubeconfigSender(kubeconfig(port, "/broken", pki.ca_pem())).post(b"{}") == 500
            for path, ca in (("/broken", pki.ca_pem()), ("/big", pki.ca_pem()), ("/authorize", stranger.ca_pem())):
                with pytest.raises(RemoteError):
                    await KubeconfigSender(kubeconfig(port, path, ca)).ask({})
            found = await HttpsFetcher(pki.ca_pem()).get(f"https://127.0.0.1:{port}/.well-known/openid-configuration")
            assert found["issuer"] == ISSUER
            for url in (f"http://127.0.0.1:{port}/", "https://127.0.0.1:1/"):
                with pytest.raises(RemoteError):
                    await HttpsFetcher(pki.ca_pem()).get(url)
            server.stop_listening()
            await server.drain(0.1)

    asyncio.run(main())


def test_a_changed_file_of_authorizers_is_taken_into_use_and_a_broken_one_is_not(tmp_path):
    import os

    from peavine.apiserver.authorization.webhook import RELOAD_SECONDS, follow, load_authorization

    path, clock = tmp_path / "authorization.yaml", SimulatedClock()
    stamps = iter(range(10**9, 10**10, 10**9))

    def write(*kinds):
        path.write_text(json.dumps({
            "apiVersion": "apiserver.config.k8s.io/v1", "kind": "AuthorizationConfiguration",
            "authorizers": [{"type": kind, "name": kind.lower()} for kind in kinds]}))  # fmt: skip
        os.utime(path, ns=(0, next(stamps)))

    async def main():
        write("Node", "RBAC")
        union = build_authorizer(Objects(), *load_authorization(path))
        rbac, following = union.rbac, asyncio.ensure_future(follow(union, path, clock))
        await asyncio.sleep(0)
        assert not union.authorize(QUESTION).allowed
        answers = []
        for kinds in (("RBAC", "AlwaysAllow"), ("Nonsense",), ("RBAC",)):
            write(*kinds)
            await clock.advance(RELOAD_SECONDS)
            answers.append(union.authorize(QUESTION).allowed)
        following.cancel()
        assert answers == [True, True, False] and union.rbac is rbac

    asyncio.run(main())

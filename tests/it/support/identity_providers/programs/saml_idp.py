"""A SAML identity provider of pysaml2. Its argument is a folder with

plan.json     entity_id, base (its URL; TLS ends before this program), sign (response, assertion, both), encrypt, cipher, key_type,
              name_id_format, signature, digest
people.json   from login name to attributes, read again at each log-in; every password is right
key.pem, cert.pem
other.xml     the metadata of the service provider, read when it is there
"""

import html
import time

import saml2.assertion
import saml2.entity
from saml2 import BINDING_HTTP_POST, BINDING_HTTP_REDIRECT, saml
from saml2.authn_context import PASSWORDPROTECTEDTRANSPORT
from saml2.config import IdPConfig
from saml2.metadata import entity_descriptor
from saml2.s_utils import sid
from saml2.server import Server

from serve import Exchange, path, read_json, serve, settings_of

PLAN = read_json("plan.json")
BASE = PLAN["base"]
BOTH = (BINDING_HTTP_REDIRECT, BINDING_HTTP_POST)

# The library does not tell which SessionIndex it wrote, and encrypts by triple DES only; both are needed here.
INDEXES = []


def noted_sid(*arguments):
    INDEXES.append(sid(*arguments))
    return INDEXES[-1]


saml2.assertion.sid = noted_sid
of_library = saml2.entity.pre_encryption_part
saml2.entity.pre_encryption_part = lambda **more: of_library(msg_enc=PLAN.get("cipher", "http://www.w3.org/2009/xmlenc11#aes256-gcm"), **more)


def configuration():
    settings = settings_of(
        PLAN,
        {
            "idp": {
                "endpoints": {
                    "single_sign_on_service": [(f"{BASE}/sso", binding) for binding in BOTH],
                    "single_logout_service": [(f"{BASE}/slo", binding) for binding in BOTH],
                },
                "name_id_format": [PLAN.get("name_id_format", saml.NAMEID_FORMAT_PERSISTENT)],
                "policy": {"default": {"lifetime": {"minutes": 5}, "name_form": saml.NAME_FORMAT_BASIC}},
                "want_authn_requests_signed": PLAN.get("want_requests_signed", False),
                "session_storage": "memory",
            }
        },
    )
    return IdPConfig().load(settings)


def provider():
    server = Server(config=configuration())
    encrypt = server.sec.encrypt_assertion

    def with_key_type(statement, certificate, template, key_type="", node_xpath=None):
        return encrypt(statement, certificate, template, key_type=PLAN.get("key_type", "aes-256"), node_xpath=node_xpath)

    server.sec.encrypt_assertion = with_key_type
    return server


# By cookie: who it is, and for which service provider.
SESSIONS = {}


class Provider(Exchange):
    def at_metadata(self):
        self.answer(200, str(entity_descriptor(configuration())), "application/samlmetadata+xml")

    def at_sso(self):
        text, binding, signed = self.message()
        request = provider().parse_authn_request(text, binding, **signed).message
        self.ask(request.issuer.text, request.id, (self.fields or self.query).get("RelayState"))

    def at_unsolicited(self):
        """Begins here and not at the service provider."""
        self.ask(self.query["sp"], None, self.query.get("RelayState"))

    def ask(self, sp, request, relay_state):
        hidden = {"sp": sp, "request": request, "relay_state": relay_state}
        fields = "".join(f'<input type="hidden" name="{name}" value="{html.escape(value)}">' for name, value in hidden.items() if value)
        self.answer(
            200,
            f'<!doctype html><title>Log in</title><form method="post" action="/login">{fields}<input name="login">'
            '<input name="password" type="password"><button>Log in</button></form>',
        )

    def at_login(self):
        login, sp = self.fields["login"], self.fields["sp"]
        attributes = read_json("people.json")[login]
        server = provider()
        (service, *_) = server.metadata.assertion_consumer_service(sp, BINDING_HTTP_POST)
        kind = PLAN.get("name_id_format", saml.NAMEID_FORMAT_PERSISTENT)
        mail = attributes.get("mail")
        text = mail if kind == saml.NAMEID_FORMAT_EMAILADDRESS else f"id-of-{login}"
        name_id = saml.NameID(format=kind, text=text, sp_name_qualifier=sp, name_qualifier=PLAN["entity_id"])
        INDEXES.clear()
        response = server.create_authn_response(
            {name: value if isinstance(value, list) else [value] for name, value in attributes.items()},
            self.fields.get("request"),
            service["location"],
            sp,
            name_id=name_id,
            authn={"class_ref": PASSWORDPROTECTEDTRANSPORT, "authn_auth": PLAN["entity_id"], "authn_instant": int(time.time())},
            sign_response=PLAN.get("sign", "assertion") in ("response", "both"),
            sign_assertion=PLAN.get("sign", "assertion") in ("assertion", "both"),
            encrypt_assertion=PLAN.get("encrypt", False),
            encrypt_cert_assertion=None,
            session_not_on_or_after=PLAN.get("session_not_on_or_after"),
        )
        cookie = sid()
        SESSIONS[cookie] = {"name_id": name_id, "sp": sp, "indexes": list(INDEXES)}
        self.send_message(
            server,
            BINDING_HTTP_POST,
            str(response),
            service["location"],
            self.fields.get("relay_state"),
            "SAMLResponse",
            [("Set-Cookie", f"idp_session={cookie}; Path=/; Secure; HttpOnly; SameSite=None")],
        )

    def session(self):
        cookies = dict(part.strip().partition("=")[::2] for part in (self.headers.get("Cookie") or "").split(";"))
        return SESSIONS.get(cookies.get("idp_session"))

    def at_log_out(self):
        """Ends the session here, and tells the service provider by the binding of the query."""
        session = self.session()
        server = provider()
        binding = BINDING_HTTP_POST if self.query.get("binding") == "post" else BINDING_HTTP_REDIRECT
        (service, *_) = server.metadata.single_logout_service(session["sp"], binding, "spsso")
        sign = binding == BINDING_HTTP_POST
        _, request = server.create_logout_request(
            service["location"],
            session["sp"],
            name_id=session["name_id"],
            session_indexes=session["indexes"] if self.query.get("index") != "none" else None,
            sign=sign,
        )
        self.send_message(server, binding, str(request), service["location"], "", "SAMLRequest")

    def at_session(self):
        """Who is logged in by this browser."""
        session = self.session()
        self.answer(200, session["name_id"].text if session else "nobody")

    def at_slo(self):
        text, binding, signed = self.message()
        server = provider()
        if "SAMLResponse" in {**self.query, **self.fields}:
            response = server.parse_logout_request_response(text, binding)
            return self.answer(200, f"<!doctype html><title>Logged out</title>the service provider says {response.status_ok()}")
        request = server.parse_logout_request(text, binding, **signed).message
        if binding == BINDING_HTTP_REDIRECT and not signed:
            raise ValueError("the LogoutRequest is not signed")
        named = {index.text for index in request.session_index}
        ended = [
            cookie
            for cookie, session in SESSIONS.items()
            if session["name_id"] == request.name_id and (not named or named & set(session["indexes"]))
        ]
        if not ended:
            raise ValueError(f"no session is {named} of {request.name_id}")
        for cookie in ended:
            del SESSIONS[cookie]
        response = server.create_logout_response(request, [binding], sign=binding == BINDING_HTTP_POST)
        relay_state = (self.fields or self.query).get("RelayState") or ""
        (service, *_) = server.metadata.single_logout_service(request.issuer.text, binding, "spsso")
        self.send_message(
            server, binding, str(response), service.get("response_location") or service["location"], relay_state, "SAMLResponse"
        )


serve(Provider)

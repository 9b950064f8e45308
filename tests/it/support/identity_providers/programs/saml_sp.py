"""A SAML service provider of pysaml2, to show that an identity provider works. Its argument is a folder with

plan.json           entity_id, base (its URL; TLS ends before this program), want (response, assertion), encrypted
key.pem, cert.pem
other.xml           the metadata of the identity provider, read when it is there
"""

import json

from saml2 import BINDING_HTTP_POST, BINDING_HTTP_REDIRECT
from saml2.client import Saml2Client
from saml2.config import SPConfig
from saml2.metadata import entity_descriptor

from serve import Exchange, path, read_json, serve, settings_of

PLAN = read_json("plan.json")
BASE = PLAN["base"]
BOTH = (BINDING_HTTP_REDIRECT, BINDING_HTTP_POST)

# The requests that wait for a response, and the messages that came.
WAITING = {}
CAME = []


def configuration():
    settings = settings_of(
        PLAN,
        {
            "sp": {
                "endpoints": {
                    "assertion_consumer_service": [(f"{BASE}/acs", BINDING_HTTP_POST)],
                    "single_logout_service": [(f"{BASE}/slo", binding) for binding in BOTH],
                },
                "authn_requests_signed": True,
                "logout_requests_signed": True,
                "want_response_signed": PLAN.get("want", "assertion") == "response",
                "want_assertions_signed": PLAN.get("want", "assertion") == "assertion",
                "allow_unsolicited": PLAN.get("unsolicited", False),
            }
        },
    )
    return SPConfig().load(settings)


CLIENT = None


def client():
    """One for all requests, since it knows the sessions; made when the metadata of the identity provider is there."""
    global CLIENT
    CLIENT = CLIENT or Saml2Client(config=configuration())
    return CLIENT


class ServiceProvider(Exchange):
    def at_metadata(self):
        self.answer(200, str(entity_descriptor(configuration())), "application/samlmetadata+xml")

    def at_log_in(self):
        """Sends a signed AuthnRequest by the binding of the query."""
        binding = BINDING_HTTP_POST if self.query.get("binding") == "post" else BINDING_HTTP_REDIRECT
        (idp, *_) = client().metadata.with_descriptor("idpsso")
        location = client().sso_location(idp, binding)
        identifier, request = client().create_authn_request(
            location, binding=BINDING_HTTP_POST, sign=binding == BINDING_HTTP_POST, sigalg=None
        )
        WAITING[identifier] = "/"
        self.send_message(client(), binding, str(request), location, self.query.get("RelayState", ""), "SAMLRequest")

    def at_acs(self):
        text, binding, _ = self.message()
        self.note()
        response = client().parse_authn_request_response(text, binding, WAITING)
        info = response.session_info()
        shown = {
            "request": response.in_response_to,
            "name_id": info["name_id"].text,
            "attributes": response.ava,
            "session_index": response.assertion.authn_statement[0].session_index,
            "issuer": info["issuer"],
            "relay_state": self.fields.get("RelayState"),
        }
        self.answer(200, json.dumps(shown), "application/json")

    def note(self):
        """Remembers a message as it came: the query with its signature, or the fields of the form."""
        CAME.append({"target": self.path, "fields": self.fields})

    def at_came(self):
        """The messages that came, as they were."""
        self.answer(200, json.dumps(CAME), "application/json")

    def at_log_out(self):
        """Begins the log-out here: a signed LogoutRequest to the identity provider."""
        name_id = list(client().users.subjects())[0]
        for _, (binding, made) in client().do_logout(
            name_id, client().users.issuers_of_info(name_id), "", None, sign=True, expected_binding=BINDING_HTTP_REDIRECT
        ).items():
            return self.go(dict(made["headers"])["Location"])

    def at_slo(self):
        text, binding, signed = self.message()
        came = {**self.query, **self.fields}
        if "SAMLResponse" in came:
            response = client().parse_logout_request_response(text, binding)
            return self.answer(200, f"<!doctype html><title>Logged out</title>{response.status_ok()}")
        request = client().parse_logout_request(text, binding, **signed)
        self.note()
        message = request.message
        if binding == BINDING_HTTP_REDIRECT and not signed:
            raise ValueError("the LogoutRequest is not signed")
        if binding == BINDING_HTTP_POST and not message.signature:
            raise ValueError("the LogoutRequest is not signed")
        known = [name.text for name in client().users.subjects()]
        if message.name_id.text not in known:
            raise ValueError(f"nobody is {message.name_id.text}; known: {known}")
        client().users.remove_person(message.name_id)
        response = client().create_logout_response(message, [binding], sign=binding == BINDING_HTTP_POST)
        (service, *_) = client().metadata.single_logout_service(message.issuer.text, binding, "idpsso")
        self.send_message(
            client(), binding, str(response), service.get("response_location") or service["location"], came.get("RelayState", ""), "SAMLResponse"
        )


serve(ServiceProvider)

"""What the two SAML programs share: a server of plain HTTP on a free port, forms that send themselves, settings."""

import base64
import html
import json
import os
import shutil
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from urllib.parse import parse_qs, urlsplit

from saml2 import BINDING_HTTP_POST, BINDING_HTTP_REDIRECT
from saml2.xmldsig import DIGEST_SHA256, SIG_RSA_SHA256

FOLDER = sys.argv[1] if len(sys.argv) > 1 else "."


def path(name):
    return os.path.join(FOLDER, name)


def read_json(name):
    with open(path(name), encoding="utf-8") as file:
        return json.load(file)


def settings_of(plan, services):
    """What both roles are configured with: the key, the other side's metadata, where they are."""
    # Beside the service and not only above it: without these it signs by SHA-1.
    algorithms = {
        "signing_algorithm": plan.get("signature", SIG_RSA_SHA256),
        "digest_algorithm": plan.get("digest", DIGEST_SHA256),
    }
    return {
        "entityid": plan["entity_id"],
        "service": {role: {**service, **algorithms} for role, service in services.items()},
        "key_file": path("key.pem"),
        "cert_file": path("cert.pem"),
        "encryption_keypairs": [{"key_file": path("key.pem"), "cert_file": path("cert.pem")}],
        "metadata": {"local": [path("other.xml")]} if os.path.exists(path("other.xml")) else {},
        "xmlsec_binary": shutil.which("xmlsec1"),
        "delete_tmpfiles": True,
        "allow_unknown_attributes": True,
    }


def form(action, fields):
    """A form of hidden fields that sends itself. Without a script there is a button."""
    hidden = "".join(
        f'<input type="hidden" name="{html.escape(name)}" value="{html.escape(value)}">' for name, value in fields.items() if value
    )
    return (
        f'<!doctype html><title>On your way</title><form method="post" action="{html.escape(action)}">{hidden}'
        "<button>Go on</button></form><script>document.forms[0].submit()</script>"
    )


class Exchange(BaseHTTPRequestHandler):
    """One request: `query` and `fields` as flat dictionaries, and the ways to answer. A role has methods named after its paths."""

    protocol_version = "HTTP/1.1"

    def log_message(self, format, *arguments):
        pass

    def do_GET(self):
        self.fields = {}
        self.run()

    def do_POST(self):
        length = int(self.headers.get("Content-Length") or 0)
        self.fields = {name: values[0] for name, values in parse_qs(self.rfile.read(length).decode()).items()}
        self.run()

    def run(self):
        target = urlsplit(self.path)
        self.query = {name: values[0] for name, values in parse_qs(target.query).items()}
        name = "at_" + target.path.strip("/").replace("/", "_").replace("-", "_")
        step = getattr(self, name, None)
        if step is None:
            return self.answer(404, "no such page")
        try:
            step()
        except Exception as error:  # What went wrong is the answer: a test reads it.
            self.answer(400, f"{type(error).__name__}: {error}")
            raise

    def answer(self, status, text, kind="text/html", fields=()):
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Connection", "close")
        for name, value in fields:
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def go(self, location, fields=()):
        self.answer(303, "", fields=[("Location", location), *fields])

    def send_message(self, entity, binding, text, destination, relay_state, kind, fields=()):
        """Sends a SAML message through the browser; `kind` is SAMLRequest or SAMLResponse."""
        if binding == BINDING_HTTP_POST:
            encoded = base64.b64encode(text.encode()).decode()
            return self.answer(200, form(destination, {kind: encoded, "RelayState": relay_state}), fields=fields)
        made = entity.apply_binding(
            BINDING_HTTP_REDIRECT, text, destination, relay_state, response=kind == "SAMLResponse", sign=True
        )
        return self.go(dict(made["headers"])["Location"], fields)

    def message(self):
        """The SAML message of this request, with its binding and its detached signature, as pysaml2 takes them."""
        if self.fields:
            text = self.fields.get("SAMLRequest") or self.fields["SAMLResponse"]
            return text, BINDING_HTTP_POST, {}
        text = self.query.get("SAMLRequest") or self.query["SAMLResponse"]
        signed = {"relay_state": self.query.get("RelayState"), "sigalg": self.query.get("SigAlg"), "signature": self.query.get("Signature")}
        return text, BINDING_HTTP_REDIRECT, signed if signed["signature"] else {}


def serve(role):
    """Writes `port N` when it listens, and ends when the standard input does."""
    server = HTTPServer(("127.0.0.1", 0), role)

    def watch():
        sys.stdin.read()
        os._exit(0)

    threading.Thread(target=watch, daemon=True).start()
    print(f"port {server.server_port}", flush=True)
    server.serve_forever()

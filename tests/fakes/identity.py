"""An identity provider that speaks OpenID Connect: discovery, a page that agrees at once, tokens, and who it is."""

from __future__ import annotations

import json
import secrets
import time
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.fakes.served import Quiet, Served

CLIENT_ID, CLIENT_SECRET = "gateway", "a-secret-of-the-client"


class IdentityProvider(Served):
    """`person` is who agrees; `asked` are the queries of the page that agrees."""

    def __init__(self) -> None:
        self.person: dict[str, Any] = {"sub": "1", "email": "ada@example.com", "email_verified": True}
        self.asked: list[dict[str, str]] = []
        self._codes: dict[str, dict[str, str]] = {}
        self._key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        provider = self

        class Handler(Quiet, BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                parts = urlsplit(self.path)
                query = {name: values[0] for name, values in parse_qs(parts.query).items()}
                if parts.path == "/authorize":
                    self.send_response(302)
                    self.send_header("location", provider.agree(query))
                    self.send_header("content-length", "0")
                    self.end_headers()
                elif parts.path == "/userinfo":
                    _send(self, provider.person)
                else:
                    _send(self, provider.discovery())

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"])).decode()
                _send(self, provider.tokens({name: values[0] for name, values in parse_qs(body).items()}))

        super().__init__(Handler)

    def discovery(self) -> dict[str, Any]:
        return {
            "issuer": self.url,
            "authorization_endpoint": f"{self.url}/authorize",
            "token_endpoint": f"{self.url}/token",
            "userinfo_endpoint": f"{self.url}/userinfo",
            "jwks_uri": f"{self.url}/keys",
            "token_endpoint_auth_methods_supported": ["client_secret_post"],
        }

    def agree(self, query: dict[str, str]) -> str:
        """Where the page leads."""
        self.asked.append(query)
        code = secrets.token_urlsafe()
        self._codes[code] = query
        return f"{query['redirect_uri']}?{urlencode({'code': code, 'state': query['state']})}"

    def tokens(self, form: dict[str, str]) -> dict[str, Any]:
        asked = self._codes.pop(form["code"])
        assert (form["client_id"], form["client_secret"]) == (CLIENT_ID, CLIENT_SECRET)
        assert asked["code_challenge_method"] == "S256"
        assert form["code_verifier"]
        now = int(time.time())
        claims = {**self.person, "iss": self.url, "aud": CLIENT_ID, "iat": now, "exp": now + 60}
        token = jwt.encode(claims, self._key, algorithm="RS256", headers={"kid": "1"})
        return {"access_token": "token", "token_type": "Bearer", "expires_in": 60, "id_token": token}


def _send(handler: BaseHTTPRequestHandler, told: dict[str, Any]) -> None:
    body = json.dumps(told).encode()
    handler.send_response(200)
    handler.send_header("content-type", "application/json")
    handler.send_header("content-length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)

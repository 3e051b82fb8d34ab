"""A device that keeps passkeys: makes them, and signs with them, as a browser passes it on (WebAuthn, in JSON)."""

from __future__ import annotations

import json
import re
import secrets
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from django.test import Client
from django.urls import reverse
from fido2.cose import ES256
from fido2.utils import sha256, websafe_decode, websafe_encode
from fido2.webauthn import AttestationObject, AttestedCredentialData, AuthenticatorData, CollectedClientData

FLAG = AuthenticatorData.FLAG


class Device:
    """`origin` is what its browser says where it is; `verifies` is whether it asks for finger, face or PIN.

    It has one passkey. Its methods return what a page sends as `credential`.
    """

    def __init__(self, origin: str = "http://localhost", *, verifies: bool = True) -> None:
        self.origin = origin
        self.verifies = verifies
        self.id = secrets.token_bytes(32)
        self.user_handle = ""
        self._key = ec.generate_private_key(ec.SECP256R1())

    def make(self, options: dict[str, Any], *, signs_in_alone: bool = True) -> dict[str, Any]:
        asked = options["publicKey"]
        self.user_handle = asked["user"]["id"]
        public = AttestedCredentialData.create(bytes(16), self.id, ES256.from_cryptography_key(self._key.public_key()))
        told = AuthenticatorData.create(sha256(asked["rp"]["id"].encode()), self._flags() | FLAG.AT, 0, public)
        return self._credential(
            clientDataJSON=self._client_data(CollectedClientData.TYPE.CREATE, asked["challenge"]),
            attestationObject=AttestationObject.create("none", told, {}),
        ) | {"clientExtensionResults": {"credProps": {"rk": signs_in_alone}}}

    def use(self, options: dict[str, Any]) -> dict[str, Any]:
        asked = options["publicKey"]
        client_data = self._client_data(CollectedClientData.TYPE.GET, asked["challenge"])
        told = AuthenticatorData.create(sha256(asked["rpId"].encode()), self._flags(), 1)
        credential = self._credential(
            clientDataJSON=client_data,
            authenticatorData=told,
            signature=self._key.sign(told + sha256(client_data), ec.ECDSA(hashes.SHA256())),
        )
        credential["response"]["userHandle"] = self.user_handle
        return credential

    def _flags(self) -> AuthenticatorData.FLAG:
        return FLAG.UP | (FLAG.UV if self.verifies else FLAG(0))

    def _client_data(self, kind: str, challenge: str) -> CollectedClientData:
        return CollectedClientData.create(kind, websafe_decode(challenge), self.origin)

    def _credential(self, **response: bytes) -> dict[str, Any]:
        name = websafe_encode(self.id)
        told = {field: websafe_encode(value) for field, value in response.items()}
        return {"id": name, "rawId": name, "type": "public-key", "response": told, "clientExtensionResults": {}}


def options_of(response: Any, name: str = "request_options") -> dict[str, Any]:
    """What a page asks of a passkey."""
    data = re.search(r'id="passkey_data" type="application/json">(.*?)</script>', response.content.decode())
    assert data, response.content.decode()
    options: dict[str, Any] = json.loads(data[1])[name]
    return options


def add_passkey(client: Client, device: Device, *, name: str = "Laptop", signs_in_alone: bool = True) -> Any:
    """By the page, as whoever is signed in; the answer of its form."""
    options = options_of(client.get(reverse("mfa_add_webauthn")), "creation_options")
    sent = {"name": name, "credential": json.dumps(device.make(options, signs_in_alone=signs_in_alone))}
    return client.post(reverse("mfa_add_webauthn"), sent | ({"passwordless": "on"} if signs_in_alone else {}))

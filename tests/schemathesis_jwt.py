"""Prints a JWT as the issuer signs them: schemathesis_jwt.py SECRET_KEY_FILE PURPOSE, for the mailbox of 32 bytes 7 at relay.test."""
import base64, hashlib, hmac, json, subprocess, sys, tempfile, time


def b64(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def derive(root, label):
    """HKDF-SHA-256 without salt, 32 bytes (credentials/src/secrets.rs)."""
    prk = hmac.new(bytes(32), root, hashlib.sha256).digest()
    return hmac.new(prk, b"postern/derive/v1/" + label + b"\x01", hashlib.sha256).digest()


secret, purpose = sys.argv[1:]
root = base64.urlsafe_b64decode(open(secret).read().strip() + "=")
now = int(time.time())
claims = {"iss": "issuer.test", "aud": "relay.test", "sub": b64(bytes([7] * 32)).decode(), "purpose": purpose, "iat": now, "exp": now + 3600,
          "jti": b64(bytes(16)).decode()}
signed = b64(b'{"typ":"JWT","alg":"EdDSA"}') + b"." + b64(json.dumps(claims).encode())
with tempfile.NamedTemporaryFile() as key, tempfile.NamedTemporaryFile() as message:
    key.write(bytes.fromhex("302e020100300506032b657004220420") + derive(root, b"issuer-identity"))
    message.write(signed)
    key.flush(), message.flush()
    sign = ["openssl", "pkeyutl", "-sign", "-rawin", "-keyform", "DER", "-inkey", key.name, "-in", message.name]
    signature = subprocess.run(sign, capture_output=True, check=True).stdout
print((signed + b"." + b64(signature)).decode())

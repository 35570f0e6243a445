"""What Schemathesis does not know by itself: the media types of Privacy Pass (RFC 9578, draft-ietf-privacypass-batched-tokens)."""
import json

import schemathesis

PREFIX = "application/private-token-"


@schemathesis.serializer(PREFIX + "request", PREFIX + "generic-batch-request", PREFIX + "amortized-batch-request")
def octets(ctx, value):
    value = getattr(value, "data", value)
    return value if isinstance(value, bytes) else str(value).encode("utf-8", "surrogatepass")


@schemathesis.deserializer(PREFIX + "issuer-directory")
def directory(ctx, response):
    return json.loads(response.content)

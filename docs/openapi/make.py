#!/usr/bin/env python3
"""Writes issuer.json and relay.json beside it: OpenAPI 3.1, from the tables below. `python3 docs/openapi/make.py [DIRECTORY]`; a test compares."""
import json, pathlib, sys

def bytes_(n):
    """Base64url without padding of exactly n bytes."""
    length = (n * 4 + 2) // 3
    return {"type": "string", "pattern": f"^[A-Za-z0-9_-]{{{length}}}$", "description": f"{n} bytes, base64url without padding"}

ANY = {"type": "string", "pattern": "^[A-Za-z0-9_-]*$", "description": "base64url without padding"}
B16, B32, B64, RSA = bytes_(16), bytes_(32), bytes_(64), bytes_(256)
U64 = {"type": "integer", "minimum": 0, "maximum": 2**64 - 1}
U32 = {"type": "integer", "minimum": 0, "maximum": 2**32 - 1}
U16 = {"type": "integer", "minimum": 0, "maximum": 2**16 - 1}
TEXT, BOOL = {"type": "string"}, {"type": "boolean"}
PHONE = {"type": "string", "pattern": r"^\+[1-9][0-9]{6,14}$"}

CHANNEL = {"enum": ["text", "voice"]}

def ref(name): return {"$ref": f"#/components/schemas/{name}"}
def many(of, most=None): return {"type": "array", "items": of} | ({"maxItems": most} if most is not None else {})
def obj(closed=False, optional=(), **members):
    out = {"type": "object", "properties": members, "required": [m for m in members if m not in optional]}
    return out | ({"additionalProperties": False} if closed else {})
def req(**members): return obj(closed=True, **members)

PROBLEM = obj(optional=("detail", "retry-after"), type={"type": "string", "pattern": "^urn:postern:problem:[a-z-]+$"}, title=TEXT,
              status={"type": "integer", "minimum": 400, "maximum": 599}, detail=TEXT, **{"retry-after": U64})
RELAY_ENTRY = obj(name=TEXT, url=TEXT)
KEY = obj(optional=("not-before", "not-after", "state"), **{"token-type": U16, "token-key": ANY, "not-before": U64, "not-after": U64,
          "state": {"enum": ["active", "retiring"]}})
OPRF_ELEMENT = B32

ISSUER_SCHEMAS = {
    "IssuerInfo": obj(name=TEXT, public_key=B32, ca_certificate=ANY, relays=many(ref("RelayEntry")), tokens_per_account=U32, setup_seconds=U64,
                      code_digits=U32, version=TEXT),
    "RelayEntry": RELAY_ENTRY,
    "Counters": obj(keys=many(obj(token_key_id=B32, issued=U64, exchanged=many(obj(relay=TEXT, count=U64))))),
    "Directory": obj(**{"issuer-request-uri": TEXT, "token-keys": many(ref("DirectoryKey"))}),
    "DirectoryKey": KEY,
    "CodeRequest": obj(closed=True, optional=("channel",), phone=PHONE, client_key=B32, channel=CHANNEL),
    "CodeResponse": obj(cookie=ANY, expires=U64, channel=CHANNEL),
    "TextReport": {"oneOf": [obj(MessageStatus={"enum": ["accepted", "scheduled", "queued", "sending", "sent", "delivered", "read", "undelivered", "failed", "canceled"]}),
                             obj(CallStatus={"enum": ["queued", "initiated", "ringing", "in-progress", "completed", "busy", "no-answer", "failed", "canceled"]})]},
    "RegistrationRequest": req(phone=PHONE, cookie=ANY, code=TEXT, certificate_request=ANY, login=req(salt=B16, verifier=B32), relay=TEXT,
                               tokens=req(token_key_id=B32, blinded=many(RSA, 5))),
    "RegistrationResponse": obj(certificate=ANY, mailbox=B32, relay=ref("RelayEntry"), mailbox_grant=TEXT, blind_signatures=many(RSA),
                                tokens_issued=U32, setup_until=U64),
    "ChallengeRequest": req(user=PHONE, client_ephemeral=B32),
    "ChallengeResponse": obj(salt=B16, m=U32, nonce=ANY, server_ephemeral=B32, expires=U64, signature=B64),
    "LoginRequest": req(user=PHONE, nonce=ANY, proof=B32, label=TEXT),
    "LoginResponse": obj(proof=B32, session=B16, expires=U64),
    "JwtRequest": req(audience={"enum": ["issuer", "relay"]}),
    "JwtResponse": obj(jwt=TEXT, expires=U64),
    "Sessions": obj(sessions=many(obj(session=B16, label=TEXT, created=U64, last_used=U64, expires=U64, current=BOOL))),
    "RevokeRequest": req(session=B16),
    "Account": obj(tokens_issued=U32, tokens_per_account=U32, setup_until=U64, certificate_expires=U64, listed=BOOL),
    "ListingRequest": req(listed=BOOL),
    "LookupAllowance": obj(window=U64, quota=U32, issued=U32),
    "LookupInfo": obj(policy=obj(window_seconds=U32, grace_seconds=U32, quota_first=U32, quota_window=U32),
                      keys=many(obj(window=U64, key=B32)), oprf_epoch=U32, oprf_key=B32),
    "LookupRequest": req(window=U64, tokens=many(bytes_(162), 128), blinded=many(OPRF_ELEMENT, 128)),
    "LookupResponse": obj(oprf_epoch=U32, evaluated=many(OPRF_ELEMENT), proof=B64),
    "LogHead": obj(size=U64, root=B32, time=U64, signature=B64),
    "ConsistencyProof": obj(hashes=many(B32)),
    "InclusionProof": obj(index=U64, hashes=many(B32)),
    "LogEntries": obj(**{"from": U64, "entries": many(ANY)}),
    "KeysRequest": req(),
    "Keys": obj(token_keys=many(ref("DirectoryKey"))),
    "SignRequest": req(token_key_id=B32, blinded=RSA),
    "SignResponse": obj(blind_signature=RSA),
    "Problem": PROBLEM,
}
RELAY_SCHEMAS = {
    "RelayInfo": obj(name=TEXT, issuer_name=TEXT, issuer_public_key=B32, challenge=ANY, envelope_sizes=many(U32), retention_seconds=U64,
                     quota_messages=U64, quota_bytes=U64, replies=obj(epoch_seconds=U32, period_seconds=U32, grace_seconds=U32),
                     prekeys_per_mailbox=U64, prekey_claim_seconds=U64,
                     token_keys=many(obj(token_key_id=B32, state={"enum": ["active", "retiring"]})), enforce=BOOL,
                     unenforced=obj(token_required=U64, token_invalid=U64, token_attached=U64), version=TEXT),
    "MailboxOpened": obj(mailbox=B32),
    "Accepted": obj(message=B32),
    "ReplyKeys": req(keys=many(req(key_version=U32, secret=bytes_(33)), 2)),
    "Strikes": obj(closed=True, optional=("strike", "lift"), strike=many(req(epoch=U32, nullifiers=ANY)), lift=many(req(epoch=U32, nullifiers=ANY))),
    "Reveal": req(key_version=U32, period=U32, last_period=U32, slots=U16, secret=bytes_(33)),
    "Messages": obj(messages=many(obj(message=B32, arrived=U64, envelope=ANY, admission={"oneOf": [{"const": "token"},
                    obj(reply=obj(key_version=U32, epoch=U32, presentation=ANY))]})), more=BOOL),
    "MessageList": req(messages=many(B32, 256)),
    "Outcome": obj(done=many(B32), refused=many(B32)),
    "PrekeySupply": obj(unclaimed=U64, limit=U64, batch=U64),
    "ExchangeRequest": req(token=bytes_(354), refund_secret=B32, token_key_id=B32, blinded=RSA),
    "ExchangeResponse": obj(blind_signature=RSA),
    "Problem": PROBLEM,
}
J, O = "application/json", "application/octet-stream"
REQUEST, BATCH, LOOKUPS = ("application/private-token-request", "application/private-token-generic-batch-request",
                           "application/private-token-amortized-batch-request")
def body(n): return {"type": "string", "format": "binary", "maxLength": n}
def json_(name): return {J: {"schema": ref(name)}}
def octets(n, kind=O): return {kind: {"schema": body(n)}}
def path(name, schema, **more): return {"name": name, "in": "path", "required": True, "schema": schema, **more}
def query(name, schema, required=True): return {"name": name, "in": "query", "required": required, "schema": schema}
def header(what): return {"description": what, "schema": TEXT}

# What every endpoint may answer.
ALWAYS = {400: "bad-request", 404: "not-found", 405: "method-not-allowed", 408: "timeout", 431: "head-too-large", 500: "internal", 503: "unavailable"}
WITH_BODY = {413: "too-large", 415: "unsupported-media-type"}

REFUSALS = {}
def refusal(status, slugs):
    """The name of the shared answer of this status with these types."""
    heads = {"WWW-Authenticate": header("The scheme, and of a token its challenge.")} if status == 401 else {}
    if status in (408, 429, 500, 503): heads["Retry-After"] = header("Seconds, where it makes sense to come again.")
    name = ".".join([str(status), *slugs])
    REFUSALS[name] = {"description": ", ".join(slugs), "content": {"application/problem+json": {"schema": ref("Problem")}}} | ({"headers": heads} if heads else {})
    return name

def op(summary, ok, take=None, size=None, auth=None, problems="", parameters=(), tag=None):
    """`ok`: status → content (None: no body). `problems`: the endpoint's own, `status slug …; …`."""
    found = {status: [slug] for status, slug in ALWAYS.items()}
    if take: [found.setdefault(s, []).append(k) for s, k in WITH_BODY.items()]
    if auth in ("bearer", "session", "internal"): found.setdefault(401, []).append("unauthorized")
    for part in filter(None, (part.strip() for part in problems.split(";"))):
        status, *slugs = part.split()
        found.setdefault(int(status), []).extend(slugs)
    responses = {str(s): {"description": "Done."} | ({"content": c} if c else {}) for s, c in ok.items()}
    for status, slugs in sorted(found.items()):
        responses[str(status)] = {"$ref": f"#/components/responses/{refusal(status, sorted(set(slugs)))}"}
    out = {"summary": summary, "responses": responses}
    if take: out["requestBody"] = {"required": True, "content": take} | ({"description": f"At most {size} bytes."} if size else {})
    if auth: out["security"] = [{a: []} for a in (["token", "reply"] if auth == "send" else [auth])]
    if parameters: out["parameters"] = list(parameters)
    return out

CACHED = {304: None}
BUILD, BUCKET = path("build", U32), path("bucket", U32)
REPORT, FORM = path("report", ANY), "application/x-www-form-urlencoded"
# What balancers ask.
HEALTH = {
    "/healthz": {"get": op("Whether the process is up.", {200: {"text/plain": {"schema": TEXT}}})},
    "/readyz": {"get": op("Whether it can do its work.", {200: {"text/plain": {"schema": TEXT}}})},
}
SELF = HEALTH | {"/openapi.json": {"get": op("This document.", {200: {J: {"schema": {"type": "object"}}}, 304: None})}}
ISSUER = SELF | {
    "/v1/issuer": {"get": op("Who this issuer is.", {200: json_("IssuerInfo")})},
    "/v1/issuer/counters": {"get": op("How many tokens were signed.", {200: json_("Counters")} | CACHED)},
    "/.well-known/private-token-issuer-directory": {"get": op("The token keys (RFC 9578 §4).",
        {200: {"application/private-token-issuer-directory": {"schema": ref("Directory")}}} | CACHED)},
    "/v1/registration/code": {"post": op("Sends a code by text.", {200: json_("CodeResponse")}, json_("CodeRequest"), 1024,
        problems="400 phone-invalid; 403 phone-refused text-undeliverable voice-unavailable; 429 text-limit; 503 text-failed text-budget")},
    "/v1/texts/{report}": {
        "get": op("What became of a text, as Kannel says it.", {204: None}, parameters=(REPORT, query("status", {"enum": ["1", "2", "4", "8", "16", "32"]}))),
        "post": op("What became of a text or a call, as Twilio says it.", {204: None}, {FORM: {"schema": ref("TextReport")}}, 8192, parameters=(REPORT,))},
    "/v1/registration": {"post": op("Makes an account.", {201: json_("RegistrationResponse")}, json_("RegistrationRequest"), 16384,
        problems="400 cookie-invalid certificate-request-invalid; 403 cookie-expired code-wrong phone-refused; 409 registration-conflict key-not-active; 429 rate-limited")},
    "/v1/token-request": {"post": op("Signs blinded tokens, one or several.", {200: octets(65536, "application/private-token-response")
        | octets(65536, "application/private-token-generic-batch-response") | octets(65536, "application/private-token-amortized-batch-response")},
        octets(259, REQUEST) | octets(32784, BATCH) | octets(32784, LOOKUPS), 32784, "bearer",
        "403 allowance-exhausted setup-over; 409 key-not-active; 429 lookup-quota")},
    "/v1/login/challenge": {"post": op("Begins a login.", {200: json_("ChallengeResponse")}, json_("ChallengeRequest"), 1024)},
    "/v1/login": {"post": op("Ends it.", {200: json_("LoginResponse")}, json_("LoginRequest"), 2048, problems="401 login-refused; 429 rate-limited")},
    "/v1/sessions/token": {"post": op("A JWT for the session.", {200: json_("JwtResponse")}, json_("JwtRequest"), 1024, "session", "409 call-replayed")},
    "/v1/sessions": {"get": op("The sessions of the account.", {200: json_("Sessions")}, auth="session", problems="409 call-replayed")},
    "/v1/sessions/revoke": {"post": op("Ends a session.", {204: None}, json_("RevokeRequest"), 1024, "session", "409 call-replayed")},
    "/v1/account": {"get": op("The account.", {200: json_("Account")}, auth="session", problems="409 call-replayed"),
                    "delete": op("Ends it.", {204: None}, auth="session", problems="409 call-replayed")},
    "/v1/account/listing": {"put": op("Whether it can be found.", {204: None}, json_("ListingRequest"), 1024, "session", "409 call-replayed")},
    "/v1/account/lookups": {"get": op("How many it may look up.", {200: json_("LookupAllowance")}, auth="session", problems="409 call-replayed")},
    "/v1/lookup": {"get": op("Keys and policy.", {200: json_("LookupInfo")} | CACHED),
                   "post": op("Evaluates blinded numbers, for a token each.", {200: json_("LookupResponse")}, json_("LookupRequest"), 36864,
                              problems="403 lookup-token-invalid lookup-window; 409 lookup-token-used")},
    "/v1/directory": {"get": op("The manifest of the latest build.", {200: octets(1 << 20, "application/vnd.postern.directory-manifest")} | CACHED)},
    "/v1/directory/{build}/fingerprints/{bucket}": {"get": op("A bucket's fingerprints.", {200: octets(1 << 24)} | CACHED, parameters=(BUILD, BUCKET))},
    "/v1/directory/{build}/records/{bucket}": {"get": op("A bucket's sealed records.", {200: octets(1 << 24)} | CACHED, parameters=(BUILD, BUCKET))},
    "/v1/directory/{build}/filter": {"get": op("The whole directory as a filter.", {200: octets(1 << 26)} | CACHED, parameters=(BUILD,))},
    "/v1/directory/{build}/delta": {"get": op("What is new in it.", {200: octets(1 << 26)} | CACHED, parameters=(BUILD,))},
    "/v1/log": {"get": op("The head of the log.", {200: json_("LogHead")} | CACHED)},
    "/v1/log/consistency": {"get": op("That it only grew.", {200: json_("ConsistencyProof")} | CACHED, parameters=(query("from", U64), query("to", U64)))},
    "/v1/log/inclusion": {"get": op("Where a leaf is in it.", {200: json_("InclusionProof")} | CACHED, parameters=(query("leaf", B32), query("size", U64)))},
    "/v1/log/entries": {"get": op("Some leaves.", {200: json_("LogEntries")} | CACHED, parameters=(query("from", U64), query("to", U64)))},
    "/internal/v1/keys": {"post": op("The live token keys, for a relay.", {200: json_("Keys")}, json_("KeysRequest"), 2048, "internal")},
    "/internal/v1/exchange": {"post": op("Signs for an exchange, for a relay.", {200: json_("SignResponse")}, json_("SignRequest"), 2048, "internal",
        "409 key-not-active; 503 exchange-budget")},
}
MAILBOX = path("mailbox", B32)
def verdict(what, problems=""): return {"post": op(what, {200: json_("Outcome")}, json_("MessageList"), 16384, "bearer", problems)}
RELAY = SELF | {
    "/v1/relay": {"get": op("Who this relay is.", {200: json_("RelayInfo")})},
    "/v1/mailboxes": {"post": op("Opens the mailbox of a grant.", {200: json_("MailboxOpened"), 201: json_("MailboxOpened")}, auth="bearer")},
    "/v1/mailboxes/{mailbox}/messages": {"post": op("Sends an envelope: for a token, or as a reply.", {201: json_("Accepted")}, octets(65536), 65536, "send",
        "400 envelope-size; 401 token-required token-invalid reply-invalid; 403 reply-epoch; 404 mailbox-unknown; 409 token-attached reply-used; 429 mailbox-full", (MAILBOX,))},
    "/v1/mailboxes/{mailbox}/card": {"get": op("The sealed card.", {200: octets(8192)}, problems="404 mailbox-unknown card-unknown", parameters=(MAILBOX,))},
    "/v1/mailbox/card": {"put": op("Replaces it.", {204: None}, octets(8192), 8192, "bearer")},
    "/v1/mailboxes/{mailbox}/prekey": {"post": op("Claims a one-time prekey.", {200: octets(138), 204: None}, octets(32), 32,
        problems="404 mailbox-unknown", parameters=(MAILBOX,))},
    "/v1/mailbox/prekeys": {"get": op("How the supply stands.", {200: json_("PrekeySupply")}, auth="bearer"),
                            "put": op("Adds to it.", {200: json_("PrekeySupply")}, octets(13808), 13808, "bearer", "409 prekey-batch")},
    "/v1/mailbox/reply-keys": {"put": op("The group secrets in force.", {204: None}, json_("ReplyKeys"), 16384, "bearer", "409 reply-key-conflict")},
    "/v1/mailbox/reply-strikes": {"post": op("Nullifiers to refuse, or not any more.", {204: None}, json_("Strikes"), 65536, "bearer", "403 strike-limit")},
    "/v1/mailbox/reply-reveals": {"post": op("A contact's seed, to refuse all that comes from it.", {204: None}, json_("Reveal"), 16384, "bearer", "403 strike-limit")},
    "/v1/mailbox/messages": {"get": op("The oldest messages; waits if there are none.", {200: json_("Messages")}, auth="bearer", problems="429 rate-limited",
        parameters=(query("wait", {"type": "integer", "minimum": 0, "maximum": 60}, False), query("limit", {"type": "integer", "minimum": 1, "maximum": 100}, False)))},
    "/v1/mailbox/events": {"get": op("Says when there is something to fetch.", {200: {"text/event-stream": {"schema": TEXT}}}, auth="bearer", problems="429 rate-limited")},
    "/v1/mailbox/ack": verdict("Messages that were read."),
    "/v1/mailbox/release": verdict("Their tokens go back.", "409 burnt"),
    "/v1/mailbox/decline": verdict("The same, for the relay.", "409 burnt"),
    "/v1/mailbox/spam": verdict("Their tokens are burnt."),
    "/v1/exchange": {"post": op("A released token for a fresh one.", {200: json_("ExchangeResponse")}, json_("ExchangeRequest"), 16384,
        problems="401 token-invalid; 403 refund-secret-wrong; 409 not-released already-exchanged key-not-active; 503 exchange-budget")},
}
SCHEMES = {
    "bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT", "description": "Of a session, or a grant; docs/protocol.md §4."},
    "session": {"type": "apiKey", "in": "header", "name": "Authorization", "description": "PosternSession id=…, seq=…, mac=…; docs/protocol.md §4."},
    "internal": {"type": "apiKey", "in": "header", "name": "Authorization", "description": "PosternRelay name=…, time=…, nonce=…, sig=…; docs/protocol.md §6."},
    "token": {"type": "apiKey", "in": "header", "name": "Authorization", "description": "PrivateToken token=… (RFC 9577 §2.2)."},
    "reply": {"type": "apiKey", "in": "header", "name": "Authorization", "description": "PosternReply key=…, epoch=…, presentation=…; docs/protocol.md §5."},
}

def document(title, paths, schemas, schemes):
    used = json.dumps(paths)
    refusals = {name: answer for name, answer in sorted(REFUSALS.items()) if f"responses/{name}\"" in used}
    return {"openapi": "3.1.0", "info": {"title": title, "version": "0.1.0", "license": {"name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0"},
            "description": "What is said here in words is in docs/protocol.md; what is refused, in problem documents (RFC 9457), whose types are listed by status."},
            "paths": paths, "components": {"schemas": schemas, "responses": refusals, "securitySchemes": {s: SCHEMES[s] for s in schemes}}}

def main():
    here = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else __file__ + "/..").resolve()
    for name, doc in [("issuer", document("Postern: the issuer", ISSUER, ISSUER_SCHEMAS, ["bearer", "session", "internal"])),
                      ("relay", document("Postern: the relay", RELAY, RELAY_SCHEMAS, ["bearer", "token", "reply"]))]:
        (here / f"{name}.json").write_text(json.dumps(doc, indent=1, ensure_ascii=False) + "\n")

if __name__ == "__main__":
    main()

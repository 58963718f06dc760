"""WebAuthn's ceremonies: right answers are accepted, and every lie is refused."""

import json
import secrets

import cbor2
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from hypothesis import given
from hypothesis import strategies as st
from software_authenticator import (
    COPIED,
    HONEST,
    MAY_BE_COPIED,
    PRESENT,
    VERIFIED,
    Authenticator,
    cose,
    decode,
    encode,
)

from medportal.core.ids import new_id
from medportal.core.reasons import Reason
from medportal.identity.ceremonies import (
    LONGEST_ANSWER,
    Known,
    Site,
    challenge_of,
    creation_options,
    handle_of,
    parse_new,
    parse_use,
    request_options,
    verify_new,
    verify_use,
)
from medportal.identity.errors import MalformedAnswer, PasskeyRefused

ORIGIN = "https://hospital.localhost:8443"
SITE = Site("hospital.localhost", ORIGIN, "Riverside Hospital")
PERSON = new_id()
CHALLENGE = secrets.token_bytes(32)


def made(authenticator, **lies):
    """Return the answer of a browser that was asked to make a passkey."""
    options = creation_options(SITE, PERSON, "Amanda Júlio", CHALLENGE, [])
    return authenticator.create(options, lies.pop("origin", ORIGIN), **lies)


def used(authenticator, **lies):
    """Return the answer of a browser that was asked to use a passkey."""
    options = request_options(SITE, CHALLENGE, [])
    return authenticator.get(options, lies.pop("origin", ORIGIN), **lies)


def check_made(answer):
    return verify_new(SITE, CHALLENGE, parse_new(json.dumps(answer)))


def check_used(answer, public_key):
    return verify_use(SITE, CHALLENGE, parse_use(json.dumps(answer)), public_key)


def test_what_a_browser_is_asked_to_make():
    known = Known(b"k" * 20, "internal usb")
    options = creation_options(SITE, PERSON, "Amanda Júlio", CHALLENGE, [known])
    assert options["rp"] == {"id": "hospital.localhost", "name": "Riverside Hospital"}
    assert options["user"]["name"] == options["user"]["displayName"] == "Amanda Júlio"
    assert decode(options["user"]["id"]) == handle_of(PERSON)
    assert options["attestation"] == "none"
    assert options["authenticatorSelection"] == {
        "residentKey": "required",
        "requireResidentKey": True,
        "userVerification": "required",
    }
    assert options["excludeCredentials"] == [
        {"id": encode(b"k" * 20), "type": "public-key", "transports": ["internal", "usb"]}
    ]
    assert [kind["alg"] for kind in options["pubKeyCredParams"]] == [-8, -7, -257]


def test_what_a_browser_is_asked_to_use():
    options = request_options(SITE, CHALLENGE, [])
    assert options["allowCredentials"] == []
    assert options["rpId"] == "hospital.localhost"
    assert options["userVerification"] == "required"
    assert options["timeout"] == 300_000


@pytest.mark.parametrize("algorithm", [-7, -8, -257])
def test_a_passkey_is_made_and_used(algorithm):
    device = Authenticator(algorithm)
    key = check_made(made(device))
    assert key.credential_id == device.kept[0].id
    assert key.transports == "hybrid internal"
    assert (key.sign_count, key.backed_up) == (0, False)
    use = check_used(used(device), key.public_key)
    assert use.sign_count == 1


def test_copies_are_noticed():
    device = Authenticator(flags=HONEST | MAY_BE_COPIED | COPIED)
    assert check_made(made(device)).backed_up
    device.flags = HONEST | MAY_BE_COPIED
    assert not check_used(used(device), cose(device.kept[0].private)).backed_up


def test_transports_are_hints_and_only_known_ones_are_kept():
    device = Authenticator(transports=["usb", "telepathy", 7, None, {"a": 1}, "nfc", "usb"])
    assert check_made(made(device)).transports == "nfc usb"
    device.transports = "usb"
    assert check_made(made(device)).transports == ""


def test_an_attestation_that_nobody_asked_for_is_not_read():
    garbage = {"fmt": "packed", "attStmt": {"alg": -7, "sig": b"\0", "x5c": [b"no certificate"]}}
    assert check_made(made(Authenticator(), attestation=garbage))
    assert check_made(made(Authenticator(), attestation={"fmt": 3}))


LIES = [
    {"origin": "https://hospital.localhost"},
    {"origin": "http://hospital.localhost:8443"},
    {"origin": "https://hospital.localhost:8444"},
    {"origin": "https://hospital.localhost:8443/"},
    {"origin": "https://HOSPITAL.localhost:8443"},
    {"origin": "https://hospital.localhost:8443.evil.example"},
    {"origin": "https://laboratory.localhost:8443"},
    {"origin": None},
    {"origin": [ORIGIN]},
    {"cross_origin": True},
    {"rp_id": "localhost"},
    {"rp_id": "laboratory.localhost"},
    {"rp_id": ""},
    {"flags": PRESENT},
    {"flags": VERIFIED},
    {"flags": 0},
    {"flags": HONEST | COPIED},
    {"flags": HONEST | 0x80},
    {"challenge": encode(secrets.token_bytes(32))},
    {"challenge": encode(CHALLENGE[:-1])},
    {"challenge": ""},
    {"challenge": None},
    {"challenge": 5},
    {"type": "webauthn.something"},
    {"type": None},
]

# Some lies are random bytes, and a test's name must be the same in every process.
LIE_NAMES = [f"{number}-{next(iter(lies))}" for number, lies in enumerate(LIES)]


@pytest.mark.parametrize("lies", LIES, ids=LIE_NAMES)
def test_lies_about_a_new_passkey_are_refused(lies):
    answer = made(Authenticator(), **dict(lies))
    with pytest.raises(PasskeyRefused):
        check_made(answer)


@pytest.mark.parametrize("lies", LIES, ids=LIE_NAMES)
def test_lies_about_a_use_are_refused(lies):
    device = Authenticator()
    key = check_made(made(device))
    answer = used(device, **dict(lies))
    with pytest.raises(PasskeyRefused):
        check_used(answer, key.public_key)


def test_the_wrong_site_has_a_reason_of_its_own():
    with pytest.raises(PasskeyRefused) as refused:
        check_made(made(Authenticator(), origin="https://hospital.localhost.evil.example"))
    assert refused.value.reason is Reason.WRONG_SITE


def test_one_ceremony_is_not_the_other():
    device = Authenticator()
    key = check_made(made(device))
    with pytest.raises(PasskeyRefused):
        check_made(made(device, type="webauthn.get"))
    with pytest.raises(PasskeyRefused):
        check_used(used(device, type="webauthn.create"), key.public_key)


def test_another_key_does_not_sign():
    device = Authenticator()
    key = check_made(made(device))
    with pytest.raises(PasskeyRefused):
        check_used(used(device, private=Authenticator()._new_key()), key.public_key)
    with pytest.raises(PasskeyRefused):
        check_used(used(device), cose(Authenticator(-8)._new_key()))


@pytest.mark.parametrize("part", ["clientDataJSON", "authenticatorData", "signature"])
def test_a_flipped_bit_is_noticed(part):
    device = Authenticator()
    key = check_made(made(device))
    answer = used(device)
    good = decode(answer["response"][part])
    for at in (0, len(good) // 2, len(good) - 1):
        bad = good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :]
        answer["response"][part] = encode(bad)
        with pytest.raises(PasskeyRefused):
            check_used(answer, key.public_key)


def test_the_credential_has_to_be_the_one_that_was_made():
    answer = made(Authenticator(), attested_id=secrets.token_bytes(32))
    with pytest.raises(PasskeyRefused):
        check_made(answer)


def ec_key(curve):
    return cose(ec.generate_private_key(curve))


WEAK_RSA = {1: 3, 3: -257, -1: b"\xff" * 128, -2: b"\x01\x00\x01"}


ODD_KEYS = [
    b"",
    b"\x04",
    b"\x04" + b"\1" * 64,
    b"\xff",
    b"\xa0",
    b"\xa1\x01\x02",
    b"\x9f" * 3000,
    cbor2.dumps([1, 2, 3]),
    cbor2.dumps("key"),
    cbor2.dumps({1: 2, 3: -7, -1: 1, -2: b"\1" * 32, -3: b"\1" * 32}),
    cbor2.dumps({1: 2, 3: -7, -1: 1, -2: "x", -3: "y"}),
    cbor2.dumps({1: 2, 3: -7, -1: 1, -2: b"\1" * 4000, -3: b"\1" * 32}),
    cbor2.dumps({1: 2, 3: -7, -1: 1, -2: b"\1" * 32}),
    cbor2.dumps({1: 2, 3: -7, -1: {}, -2: b"\1" * 32, -3: b"\1" * 32}),
    cbor2.dumps({1: 2, 3: [], -1: 1, -2: b"\1" * 32, -3: b"\1" * 32}),
    cbor2.dumps({1: [], 3: -7, -1: 1, -2: b"\1" * 32, -3: b"\1" * 32}),
    cbor2.dumps({1: 1, 3: -8, -1: 6, -2: b"\1" * 31}),
    cbor2.dumps({1: 1, 3: -7, -1: 6, -2: b"\1" * 32}),
    cbor2.dumps({1: 7, 3: -49, -1: b"\1" * 32}),
    cbor2.dumps(WEAK_RSA),
    cbor2.dumps({**WEAK_RSA, -1: b"\xff" * 4096}),
    cbor2.dumps({**WEAK_RSA, -1: b"\xff" * 256, -2: b"\0"}),
    cbor2.dumps({**WEAK_RSA, 3: -7, -1: b"\xff" * 256}),
    cbor2.dumps({**WEAK_RSA, 3: -65535, -1: b"\xff" * 256}),
    ec_key(ec.SECP384R1()),
    ec_key(ec.SECP256R1()) + b"left over",
]


@pytest.mark.parametrize("public_key", ODD_KEYS, ids=range(len(ODD_KEYS)))
def test_odd_keys_are_refused(public_key):
    answer = made(Authenticator(), public_key=public_key)
    with pytest.raises(PasskeyRefused):
        check_made(answer)


def test_a_strong_rsa_key_is_not_refused_by_its_size():
    private = rsa.generate_private_key(65537, 3072)
    assert check_made(made(Authenticator(), public_key=cose(private)))


def replaced(answer, **changes):
    return {**answer, "response": {**answer["response"], **changes}}


@pytest.mark.parametrize(
    "attestation",
    [
        b"",
        b"\xff",
        b"\xa1",
        cbor2.dumps({}),
        cbor2.dumps([]),
        cbor2.dumps(7),
        cbor2.dumps({"authData": "text"}),
        cbor2.dumps({"authData": b""}),
        cbor2.dumps({"authData": b"\0" * 36}),
        cbor2.dumps({"authData": b"\xff" * 37}),
        cbor2.dumps({"authData": b"\xff" * 60}),
        cbor2.dumps({"fmt": "none", "attStmt": {}, "authData": None}),
        b"\x81" * 5000,
    ],
)
def test_garbage_in_place_of_cbor_is_refused(attestation):
    answer = replaced(made(Authenticator()), attestationObject=encode(attestation))
    with pytest.raises(PasskeyRefused):
        check_made(answer)


@pytest.mark.parametrize(
    "client_data",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b"\xff\xfe",
        b'{"type": 1}',
        b"[" * 4000,
        b'{"type":"webauthn.create","challenge":"A","origin":""}',
        b'{"type":"webauthn.create","challenge":"\xc3\xa9","origin":""}',
    ],
)
def test_garbage_in_place_of_client_data_is_refused(client_data):
    answer = replaced(made(Authenticator()), clientDataJSON=encode(client_data))
    with pytest.raises(PasskeyRefused):
        check_made(answer)
    with pytest.raises(PasskeyRefused):
        challenge_of(client_data)


GOOD = {"id": "A" * 32, "rawId": "A" * 32, "type": "public-key", "response": {}}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "null",
        "[]",
        "7",
        '"text"',
        "{}",
        "{",
        "[" * 10_000,
        " " * (LONGEST_ANSWER + 1),
        json.dumps({**GOOD, "response": []}),
        json.dumps({**GOOD, "type": "password"}),
        json.dumps({**GOOD, "type": ["public-key"]}),
        json.dumps(GOOD),
        json.dumps({**GOOD, "id": "B" * 32}),
        json.dumps({**GOOD, "id": 5, "rawId": 5}),
        json.dumps({**GOOD, "id": "A" * 20, "rawId": "A" * 20}),
        json.dumps({**GOOD, "id": "A" * 1368, "rawId": "A" * 1368}),
        json.dumps({**GOOD, "id": "é" * 32, "rawId": "é" * 32}),
        json.dumps({**GOOD, "id": "A" * 33, "rawId": "A" * 33}),
        json.dumps({**GOOD, "id": "A" * 31 + "=", "rawId": "A" * 31 + "="}),
        json.dumps({**GOOD, "id": "A" * 32 + "AB", "rawId": "A" * 32 + "AB"}),
        json.dumps({**GOOD, "id": "A" * 31 + "\n", "rawId": "A" * 31 + "\n"}),
        '{"id": NaN}',
        "\ud800",
    ],
)
def test_what_no_browser_makes_is_malformed(text):
    with pytest.raises(MalformedAnswer):
        parse_new(text)
    with pytest.raises(MalformedAnswer):
        parse_use(text)


@pytest.mark.parametrize(
    ("part", "value"),
    [
        ("clientDataJSON", encode(b"x" * 4097)),
        ("authenticatorData", encode(b"x" * 8193)),
        ("signature", encode(b"x" * 8193)),
        ("signature", None),
        ("signature", {}),
        ("userHandle", encode(b"x" * 65)),
        ("userHandle", 7),
        ("userHandle", "no base64url!"),
    ],
)
def test_huge_or_odd_parts_are_malformed(part, value):
    device = Authenticator()
    made(device)
    with pytest.raises(MalformedAnswer):
        parse_use(json.dumps(replaced(used(device), **{part: value})))


def test_an_answer_may_come_without_a_user_handle():
    device = Authenticator()
    made(device)
    assert parse_use(json.dumps(used(device, user_handle=None))).user_handle is None
    assert parse_use(json.dumps(replaced(used(device), userHandle=None))).user_handle is None


@given(st.binary(max_size=200))
def test_any_bytes_in_place_of_an_attestation_are_refused(garbage):
    answer = replaced(made(Authenticator()), attestationObject=encode(garbage))
    with pytest.raises(PasskeyRefused):
        check_made(answer)


@given(st.binary(max_size=200))
def test_any_bytes_in_place_of_a_key_are_refused(garbage):
    answer = made(Authenticator(), public_key=garbage)
    with pytest.raises(PasskeyRefused):
        check_made(answer)


COSE_VALUES = st.one_of(
    st.integers(-300, 10), st.binary(max_size=40), st.text(max_size=4), st.none()
)


@given(st.dictionaries(st.sampled_from([1, 3, -1, -2, -3]), COSE_VALUES))
def test_any_map_in_place_of_a_key_is_refused(fields):
    answer = made(Authenticator(), public_key=cbor2.dumps(fields))
    with pytest.raises(PasskeyRefused):
        check_made(answer)


@given(st.binary(max_size=120), st.binary(max_size=80))
def test_any_bytes_in_place_of_a_use_are_refused(data, signature):
    device = Authenticator()
    key = check_made(made(device))
    garbage = replaced(used(device), authenticatorData=encode(data), signature=encode(signature))
    with pytest.raises(PasskeyRefused):
        check_used(garbage, key.public_key)

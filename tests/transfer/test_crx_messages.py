"""Frames and messages: one encoding, every field checked, room to grow."""

import pytest
from crx_simulator import ALL_MESSAGES, altered, field_names, sample
from hypothesis import given
from hypothesis import strategies as st

from medportal.core import canonical
from medportal.transfer import framing, messages, transcript
from medportal.transfer.errors import Code, FrameError, MessageError

SMALL = 12


@pytest.mark.parametrize("kind", ALL_MESSAGES)
def test_a_message_is_the_same_after_the_wire(kind):
    body = sample(kind)
    message = messages.decode(body)
    assert (type(message), messages.encode(message)) == (kind, body)


def test_nested_values_come_back_as_they_were():
    mark, held = messages.Mark("a" * 32, 7), messages.HeldHead(9, b"r" * 32)
    body = sample(messages.Hello, mark=mark, held=held, suites=("x", "y"))
    message = messages.decode(body)
    assert (message.mark, message.held, message.suites) == (mark, held, ("x", "y"))


@pytest.mark.parametrize("kind", ALL_MESSAGES)
def test_every_field_is_needed_and_checked(kind):
    body = sample(kind)
    for name in field_names(kind):
        fields = canonical.decode(body)
        for wrong in (-(2**63), 1.5, b"", "", ["", 1], {"a": 1}, None, True, "x" * 2_000_000):
            if messages.CHECKS[name](wrong):
                continue
            with pytest.raises(MessageError) as error:
                messages.decode(_raw({**fields, name: wrong}))
            assert error.value.code is Code.MALFORMED
        del fields[name]
        with pytest.raises(MessageError):
            messages.decode(canonical.encode(fields))


def _raw(fields):
    try:
        return canonical.encode(fields)
    except canonical.NotCanonical:
        return b"\xfb"  # A float, cut off.


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("mark", {"epoch": "a" * 32, "sequence": -1}),
        ("mark", {"epoch": "A" * 32, "sequence": 1}),
        ("mark", {"epoch": "a" * 32, "sequence": True}),
        ("mark", {"epoch": "a" * 32, "sequence": 1, "more": 1}),
        ("held", {"size": -1, "root": bytes(32)}),
        ("held", {"size": 1, "root": bytes(31)}),
        ("held", {"size": 1}),
        ("chain", [b"x"] * 5),
        ("sender", "Laboratory"),
        ("sender", "laboratory\n"),
    ],
)
def test_values_out_of_bounds_are_refused(name, wrong):
    with pytest.raises(MessageError):
        messages.decode(altered(sample(messages.Hello), **{name: wrong}))


def test_an_unknown_field_is_ignored_unless_it_is_critical():
    body = sample(messages.Query)
    assert messages.decode(altered(body, colour="red")) == messages.decode(body)
    with pytest.raises(MessageError) as error:
        messages.decode(altered(body, colour="red", critical=["colour"]))
    assert error.value.code is Code.UNKNOWN_CRITICAL
    assert messages.decode(altered(body, critical=["tid"])) == messages.decode(body)


@pytest.mark.parametrize("critical", [None, "tid", [1], ["absent"]])
def test_a_malformed_list_of_critical_fields_is_refused(critical):
    with pytest.raises(MessageError) as error:
        messages.decode(altered(sample(messages.Query), critical=critical))
    assert error.value.code is Code.MALFORMED


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", Code.MALFORMED),
        (canonical.encode([1]), Code.MALFORMED),
        (canonical.encode({"type": 1}), Code.MALFORMED),
        (canonical.encode({}), Code.UNKNOWN_MESSAGE),
        (canonical.encode({"type": "GRANT", "critical": []}), Code.UNKNOWN_MESSAGE),
        (sample(messages.Bye) + b"\0", Code.MALFORMED),
        (sample(messages.Bye)[:-1], Code.MALFORMED),
        # The same map with its keys in another order, and with a key twice.
        (b"\xa2\x68critical\x80\x64type\x63BYE", Code.MALFORMED),
        (b"\xa3\x64type\x63BYE\x64type\x63BYE\x68critical\x80", Code.MALFORMED),
    ],
)
def test_what_is_no_message_is_named(body, code):
    with pytest.raises(MessageError) as error:
        messages.decode(body)
    assert error.value.code is code


@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_a_message_or_a_named_error(data):
    try:
        message = messages.decode(data)
    except MessageError as error:
        assert error.code in Code
    else:
        assert messages.decode(messages.encode(message)) == message


def test_signed_bytes_leave_out_the_signature_and_nothing_else():
    body = altered(sample(messages.Proof), colour="red")
    unsigned = canonical.decode(messages.unsigned(body))
    assert unsigned == {
        key: value for key, value in canonical.decode(body).items() if key != "signature"
    }


def test_a_fingerprint_of_each_signed_input_separates_its_uses():
    binding = transcript.Binding("a", "b", b"c", b"d", b"e")
    inputs = {
        transcript.handshake_input(transcript.SENDER, binding, (b"x",)),
        transcript.handshake_input(transcript.RECEIVER, binding, (b"x",)),
        transcript.session_id(binding, b"x", b"y", b"z"),
        transcript.session_id(binding, b"x", b"y", b"w"),
        transcript.offers_input(b"s", binding, 1, b"x"),
        transcript.record_info(b"s", binding, "t", "o"),
        transcript.offer_leaf("t", "o", b"k", 1),
        transcript.offer_leaf("t", "o", b"k", 2),
    }
    assert len(inputs) == 8


# Frames.


@given(st.lists(st.binary(min_size=1, max_size=50), max_size=5), st.data())
def test_frames_survive_any_cutting(bodies, data):
    stream = b"".join(map(framing.encode_frame, bodies))
    buffer, found = framing.FrameBuffer(), []
    while stream:
        cut = data.draw(st.integers(1, len(stream)))
        found += buffer.feed(stream[:cut])
        stream = stream[cut:]
    buffer.finish()
    assert found == bodies


def test_a_frame_cut_off_is_told_at_the_end():
    buffer = framing.FrameBuffer()
    assert list(buffer.feed(framing.encode_frame(b"body")[:-1])) == []
    with pytest.raises(FrameError) as error:
        buffer.finish()
    assert error.value.code is Code.TRUNCATED


def test_a_length_is_refused_before_its_body_is_there():
    for header, code in (
        ((SMALL + 1).to_bytes(4, "big"), Code.FRAME_TOO_LONG),
        (bytes(4), Code.MALFORMED),
    ):
        with pytest.raises(FrameError) as error:
            list(framing.FrameBuffer(SMALL).feed(header))
        assert error.value.code is code


@pytest.mark.parametrize("body", [b"", bytes(framing.MAX_FRAME + 1)])
def test_no_frame_is_made_that_the_peer_would_refuse(body):
    with pytest.raises(FrameError):
        framing.encode_frame(body)

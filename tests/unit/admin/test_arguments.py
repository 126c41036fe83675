# SPDX-License-Identifier: Apache-2.0
"""An argument is what it should be, or the sentence says what it should have been."""

from __future__ import annotations

import pytest

from admin.arguments import Arguments


def of(value: object) -> Arguments:
    return Arguments({"it": value})


@pytest.mark.parametrize("arguments", [Arguments({}), of(None)])
def test_what_is_absent_or_null_is_none(arguments: Arguments) -> None:
    assert arguments.whole_number("it", 1) is None
    assert arguments.choice("it", {"tcp": 6}) is None
    assert arguments.endpoint("it") is None
    assert arguments.address_or_endpoint("it") is None
    with pytest.raises(ValueError, match="it is missing"):
        arguments.text("it")


@pytest.mark.parametrize(
    ("text", "endpoint"),
    [
        ("10.0.0.1:80", ("10.0.0.1", 80)),
        ("[fd00::1]:65535", ("fd00::1", 65535)),
        ("[FD00:0::1]:0", ("fd00::1", 0)),
    ],
)
def test_an_endpoint_has_one_spelling(text: str, endpoint: tuple[str, int]) -> None:
    assert of(text).endpoint("it") == endpoint
    assert of(text).address_or_endpoint("it") == endpoint


@pytest.mark.parametrize("text", ["10.0.0.1", "fd00::1", "[fd00::1]"])
def test_a_client_may_be_an_address_alone(text: str) -> None:
    assert of(text).address_or_endpoint("it") == (text.strip("[]"), None)


@pytest.mark.parametrize(
    "value",
    ["", "10.0.0.1", "10.0.0.1:", "10.0.0.1:65536", "10.0.0.1:-1", "10.0.0.1:٣", "fd00::1",
     "[10.0.0.1]:80", "name:80", ":80", 80, [], {}, True],
)  # fmt: skip
def test_what_is_no_endpoint_is_refused_with_an_example(value: object) -> None:
    with pytest.raises(ValueError, match=r"it: expected address:port, like 10\.0\.0\.1:80"):
        of(value).endpoint("it")


@pytest.mark.parametrize("value", ["", "name", "10.0.0.1:x", 5, [], "::1::2:80"])
def test_what_is_neither_address_nor_endpoint_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="it: expected an address or address:port"):
        of(value).address_or_endpoint("it")


@pytest.mark.parametrize("value", [0, 11, -1, 1.0, "1", True, [1]])
def test_a_number_out_of_its_bounds_or_of_another_type_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="it: expected a whole number from 1 to 10, not"):
        of(value).whole_number("it", 1, 10)


def test_bounds_are_within_and_may_be_open() -> None:
    assert [of(number).whole_number("it", 1, 10) for number in (1, 10)] == [1, 10]
    assert of(10**9).whole_number("it", 0) == 10**9
    with pytest.raises(ValueError, match="it: expected a whole number from 0 on, not -1"):
        of(-1).whole_number("it", 0)


@pytest.mark.parametrize("value", ["icmp", "TCP", 6, [], True])
def test_only_known_names_are_a_choice(value: object) -> None:
    with pytest.raises(ValueError, match="it: expected tcp, udp or sctp, not"):
        of(value).choice("it", {"tcp": 6, "udp": 17, "sctp": 132})
    assert of("udp").choice("it", {"tcp": 6, "udp": 17}) == 17


@pytest.mark.parametrize("value", ["", 5, ["web"], True])
def test_a_text_is_a_text(value: object) -> None:
    with pytest.raises(ValueError, match="it is missing"):
        of(value).text("it")
    assert of("web").text("it") == "web"

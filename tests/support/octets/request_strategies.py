# SPDX-License-Identifier: Apache-2.0
"""HTTP/1.x requests for property tests: right ones with what they mean, and damaged ones."""

from __future__ import annotations

from hypothesis import strategies as st

TOKEN = "abcXYZ09!#$%&'*+-.^_`|~"
tokens = st.text(TOKEN, min_size=1, max_size=12)
blanks = st.text(" \t", max_size=3)
values = st.text(
    st.characters(min_codepoint=0x20, max_codepoint=0xFF, blacklist_characters="\x7f"), max_size=20
).map(lambda text: text.strip(" \t"))
# what decides how bodies end has rules of its own
names = tokens.filter(
    lambda name: name.lower() not in ("host", "content-length", "transfer-encoding")
)
targets = st.builds(
    lambda path, query: "/" + path + query,
    st.text("abz09-._~!$&'()*+,;=:@/", max_size=20),
    st.one_of(st.just(""), st.text('ab=&%+;/?|"\\{}', max_size=12).map(lambda text: "?" + text)),
)


@st.composite
def requests(draw: st.DrawFn) -> tuple[bytes, tuple[str, str, str, list[tuple[str, str]]]]:
    """The octets of a request's head, and its method, target, version and headers."""
    method, target = draw(tokens), draw(targets)
    version = draw(st.sampled_from(("1.0", "1.1")))
    headers = [
        (name, value) for name, value in draw(st.lists(st.tuples(names, values), max_size=6))
    ]
    if version == "1.1" or draw(st.booleans()):
        name, port = draw(st.sampled_from(("Host", "hOsT"))), draw(st.sampled_from(("", ":80")))
        host = draw(st.text("aB1-.", min_size=1, max_size=9)) + port
        headers.insert(draw(st.integers(0, len(headers))), (name, host))
    lines = [f"{method} {target} HTTP/{version}"]
    lines += [f"{name}:{draw(blanks)}{value}{draw(blanks)}" for name, value in headers]
    octets = "\r\n".join([*lines, "", ""]).encode("latin-1")
    return octets, (method, target, version, [(name.lower(), value) for name, value in headers])


PIECES = (
    b"\r\n", b"\n", b"\r", b" ", b"\t", b":", b"\0", b"\x7f", b"\xff", b"\r\n ", b"\r\n\r\n",
    b"%", b"#", b"*", b"http://a/", b"Host: b\r\n", b"Content-Length: 1\r\n",
    b"Transfer-Encoding: chunked\r\n", b"Connection: upgrade\r\nUpgrade: h2c\r\n",
    b"GET / HTTP/1.1\r\n", b"PRI * HTTP/2.0\r\n", b"CONNECT a:1 ",
)  # fmt: skip


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A request with octets put in, or taken out."""
    octets, _ = draw(requests())
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(octets)))
        taken = draw(st.sampled_from((0, 0, 0, 1, 2, 9)))
        octets = octets[:at] + draw(st.sampled_from((b"", *PIECES))) + octets[at + taken :]
    return octets

# SPDX-License-Identifier: Apache-2.0
"""A switch that speaks TLS, and each way in which agent and switch may not agree about it."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final

import grpc
import pytest

from data_flow_segment.targets.contract import TargetError, Waiting
from data_flow_segment.targets.p4runtime.driver import Driver
from data_flow_segment.targets.p4runtime.operations import Connected
from data_flow_segment.targets.p4runtime.options import P4RuntimeOptions, TlsOptions
from data_flow_segment.targets.p4runtime.program import Program
from support.require import require
from support.targets.p4_switch import FakeSwitch

NEW_KEY: Final = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")


class Papers:
    """A certificate authority, and what it and another one signed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for authority in ("ca", "other-ca"):
            self._openssl("req", "-x509", *NEW_KEY, *self._out(authority), "-days", "2")
        for name, authority in (("switch", "ca"), ("agent", "ca"), ("stranger", "other-ca")):
            self._openssl("req", *NEW_KEY, "-keyout", f"{name}.key", "-out", f"{name}.csr",
                          "-subj", f"/CN={name}")  # fmt: skip
            (folder / "san").write_text(f"subjectAltName=DNS:{name}\n")
            self._openssl("x509", "-req", "-in", f"{name}.csr", "-CA", f"{authority}.pem",
                          "-CAkey", f"{authority}.key", "-CAcreateserial", "-days", "2",
                          "-extfile", "san", "-out", f"{name}.pem")  # fmt: skip

    def _out(self, name: str) -> tuple[str, ...]:
        return "-keyout", f"{name}.key", "-out", f"{name}.pem", "-subj", f"/CN={name}"

    def _openssl(self, *words: str) -> None:
        subprocess.run(["openssl", *words], cwd=self.folder, check=True, capture_output=True)

    def server(self, *, asks: bool) -> grpc.ServerCredentials:
        """The switch's; `asks`: it wants to know who the agent is."""
        pair = (
            (self.folder / "switch.key").read_bytes(),
            (self.folder / "switch.pem").read_bytes(),
        )
        root = (self.folder / "ca.pem").read_bytes() if asks else None
        return grpc.ssl_server_credentials([pair], root, require_client_auth=asks)

    def client(self, shown: str | None = None, trusted: str = "ca") -> TlsOptions:
        """The agent's."""
        tls = TlsOptions(self.folder / f"{trusted}.pem", server_name="switch")
        if shown is None:
            return tls
        certificate, key = (self.folder / f"{shown}.{kind}" for kind in ("pem", "key"))
        return replace(tls, certificate_file=certificate, key_file=key)


@pytest.fixture(scope="module")
def papers() -> Iterator[Papers]:
    require("tls", None if shutil.which("openssl") else "openssl is not on the PATH")
    with tempfile.TemporaryDirectory(prefix="p4-") as folder:
        yield Papers(Path(folder))


@contextlib.contextmanager
def switch(credentials: grpc.ServerCredentials | None) -> Iterator[P4RuntimeOptions]:
    model = FakeSwitch("127.0.0.1:0", credentials)
    try:
        yield P4RuntimeOptions(f"127.0.0.1:{model.port}", (), replace_program=True)
    finally:
        model.stop()


class Interrupted(Exception):
    """The agent has said for what it waits; that is enough."""


def waits_for(wanted: P4RuntimeOptions) -> str:
    told: list[str] = []

    def hear(waiting: Waiting) -> None:
        told.append(waiting.reason)
        raise Interrupted

    with pytest.raises(Interrupted):
        Driver.open(wanted, Program.load(), on_wait=hear)
    return told[0].partition("device 1: ")[2]


@pytest.mark.parametrize("asks", [False, True], ids=["server only", "mutual"])
def test_an_agent_works_over_tls(papers: Papers, asks: bool) -> None:
    with switch(papers.server(asks=asks)) as wanted:
        driver = Driver.open(
            replace(wanted, tls=papers.client("agent" if asks else None)), Program.load()
        )
        (connected,) = driver.take()
        assert isinstance(connected, Connected)
        driver.close()


@pytest.mark.parametrize("asks", [False, True], ids=["server only", "mutual"])
def test_a_switch_with_tls_is_not_taken_for_something_else(papers: Papers, asks: bool) -> None:
    with switch(papers.server(asks=asks)) as wanted:
        said = waits_for(wanted)
    assert said == "the switch expects TLS: set p4runtime.tls; waiting for it"


def test_a_switch_that_wants_a_certificate_is_told_so(papers: Papers) -> None:
    with switch(papers.server(asks=True)) as wanted:
        said = waits_for(replace(wanted, tls=papers.client()))
    assert said.startswith("the switch wants a certificate of the agent: set p4runtime.tls.cert")


def test_a_certificate_that_the_switch_does_not_accept_is_named(papers: Papers) -> None:
    with switch(papers.server(asks=True)) as wanted:
        said = waits_for(replace(wanted, tls=papers.client("stranger")))
    assert said.startswith("the switch does not accept the certificate in ")
    assert f"{papers.folder}/stranger.pem" in said


@pytest.mark.parametrize("wrong", ["authority", "name"])
def test_a_switch_that_is_not_trusted_gets_nothing(papers: Papers, wrong: str) -> None:
    tls = papers.client(trusted="other-ca" if wrong == "authority" else "ca")
    if wrong == "name":
        tls = replace(tls, server_name="switch2")
    with switch(papers.server(asks=False)) as wanted:
        said = waits_for(replace(wanted, tls=tls))
    assert said.startswith("the switch's certificate is not accepted (")
    assert "correct p4runtime.tls.ca_file or server_name, or the switch's certificate" in said


def test_a_switch_without_tls_is_told(papers: Papers) -> None:
    with switch(None) as wanted:
        said = waits_for(replace(wanted, tls=papers.client()))
    assert said.startswith("the server there speaks no TLS: remove p4runtime.tls")


def test_a_file_that_cannot_be_used_ends_it_by_name(papers: Papers) -> None:
    mixed = replace(papers.client("agent"), key_file=papers.folder / "stranger.key")
    missing = replace(papers.client("agent"), key_file=papers.folder / "nothing.key")
    no_authority = replace(papers.client(), ca_file=papers.folder / "san")
    for tls, said in (
        (mixed, f"p4runtime.tls.certificate_file: {papers.folder}/agent.pem cannot be used (KEY_"),
        (missing, f"p4runtime.tls.key_file: {papers.folder}/nothing.key cannot be used (No such"),
        (no_authority, f"p4runtime.tls.ca_file: {papers.folder}/san cannot be used (NO_CERT"),
    ):
        with switch(papers.server(asks=True)) as wanted, pytest.raises(TargetError) as told:
            Driver.open(replace(wanted, tls=tls), Program.load())
        assert str(told.value).startswith(said)

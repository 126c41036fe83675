# SPDX-License-Identifier: Apache-2.0
"""Where the program is attached: found again, followed, and left clean."""

from __future__ import annotations

import ctypes
import errno
import logging
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from data_flow_segment.targets.bpf import links, places
from data_flow_segment.targets.bpf.layout import LAYOUT_VERSION, META
from data_flow_segment.targets.bpf.libbpf import TcHook, TcOptions, library
from data_flow_segment.targets.contract import TargetError
from support.targets.wire import inside
from support.targets.xdp_pass import attach_pass

pytestmark = pytest.mark.dataplane

TCX, XDP, CLSACT = ["tcx"], ["xdp dfs_xdp"], ["clsact"]


def descriptors() -> list[str]:
    """What this process has open."""
    found = []
    for entry in Path("/proc/self/fd").iterdir():
        try:
            found.append(str(entry.readlink()).split(":")[0])
        except OSError:
            continue
    return sorted(found)


def settle(target: Any, counter: str, wanted: int) -> None:
    """Let the target look at its interfaces, which it does at most once a second."""
    deadline = time.monotonic() + 60
    while target.counters()[counter].value < wanted:
        assert time.monotonic() < deadline, f"{counter} stays below {wanted}"
        target.sweep(8, stats=False)
        time.sleep(0.05)


@pytest.fixture
def without_tcx(monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel that does not know the place answers as to any number that it does not know."""
    monkeypatch.setattr(links, "ATTACH_TCX_INGRESS", 4711)


def test_nothing_stays_open_or_behind(ground: Any) -> None:
    before = descriptors()
    for _ in range(3):
        target = ground.open()
        assert ground.programs_on("ext0") == ground.programs_on("int0")
        ground.close(target)
        assert descriptors() == before
        assert ground.programs_on("ext0") == []
        assert not ground.pin_path.exists()
        assert "spt" not in ground.ip("link")


def test_an_agent_that_lets_go_keeps_nothing_open(ground: Any) -> None:
    before = descriptors()
    ground.close(ground.open(), detach=False)
    assert descriptors() == before
    assert ground.programs_on("ext0") != []
    assert ground.open().adopted


def test_a_start_that_fails_leaves_nothing(ground: Any) -> None:
    before = descriptors()
    with pytest.raises(TargetError, match="nosuch"):
        ground.open(internal=("nosuch",))
    assert not ground.pin_path.exists()
    # the second interface refuses: somebody else's XDP program is there
    theirs = attach_pass(socket.if_nametoindex("int0"))
    assert theirs is not None
    held = descriptors()
    with pytest.raises(TargetError, match="another XDP program"):
        ground.open(attach="xdp")
    assert descriptors() == held
    assert ground.programs_on("ext0") == []
    assert not ground.pin_path.exists()
    os.close(theirs)
    assert descriptors() == before


@pytest.mark.parametrize("running", ["tc", "clsact", "xdp"])
@pytest.mark.parametrize("second", ["tc", "xdp"])
def test_a_second_data_path_on_an_interface_is_refused_and_the_first_one_named(
    ground: Any, running: str, second: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both would handle every packet.  The first one's agent need not live."""
    with monkeypatch.context() as patched:
        if running == "clsact":
            patched.setattr(links, "ATTACH_TCX_INGRESS", 4711)
        how = "xdp" if running == "xdp" else "tc"
        first = ground.open(external=("int0",), internal=("int0",), attach=how)
        other = ground.pin_path.with_name(ground.pin_path.name + "-other")
        wanted = ground.programs_on("int0")
        held = descriptors()
        for is_alive in (True, False):
            if not is_alive:
                ground.close(first, detach=False)
            with pytest.raises(TargetError) as caught:
                ground.open(attach=second, pin_path=other)
            assert "interface int0: the data path of another DFS" in str(caught.value)
            assert f"pin_path {ground.pin_path}." in str(caught.value)
            assert ground.programs_on("int0") == wanted
            assert ground.programs_on("ext0") == []
            assert not other.exists()
            if is_alive:
                assert descriptors() == held
        assert ground.open(attach=how, external=("int0",), internal=("int0",)).adopted


def test_an_interface_of_the_same_number_in_another_namespace_is_no_owner(
    ground: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a filter only a mark with the interface's number says whose it is."""
    number = socket.if_nametoindex("int0")
    elsewhere = [ground.pin_path.with_name(f"{ground.pin_path.name}-{n}") for n in range(2)]

    def mark(folder: Path) -> None:
        for name in (f"clsact-{number}", "netns-1"):
            (folder / name).mkdir(parents=True)

    try:
        mark(elsewhere[0])
        with monkeypatch.context() as patched:
            patched.setattr(links, "ATTACH_TCX_INGRESS", 4711)
            ground.open(external=("int0",), internal=("int0",), attach="tc")
            mark(elsewhere[1])  # whatever order they are listed in, one comes first
            other = ground.pin_path.with_name(ground.pin_path.name + "-other")
            with pytest.raises(TargetError) as caught:
                ground.open(attach="tc", pin_path=other)
        assert f"pin_path {ground.pin_path}." in str(caught.value)
    finally:
        for folder in elsewhere:
            shutil.rmtree(folder, ignore_errors=True)


def test_pins_that_go_away_meanwhile_are_passed_over(
    ground: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another agent may end while this one looks whose data path is in its way."""
    first = ground.open(external=("int0",), internal=("int0",))
    vanishing = ground.pin_path.with_name(ground.pin_path.name + "-vanishing")
    vanishing.mkdir()
    scandir = os.scandir

    def vanish(path: Any) -> Any:
        if os.fspath(path) == str(vanishing):
            vanishing.rmdir()
        return scandir(path)

    monkeypatch.setattr("os.scandir", vanish)
    other = ground.pin_path.with_name(ground.pin_path.name + "-other")
    with pytest.raises(TargetError, match=f"pin_path {ground.pin_path}\\."):
        ground.open(external=("int0",), internal=("int0",), pin_path=other)
    assert not vanishing.exists()
    ground.close(first)


def test_another_data_path_on_another_interface_is_none_of_ours(ground: Any) -> None:
    ground.open(external=("int0",), internal=("int0",))
    other = ground.pin_path.with_name(ground.pin_path.name + "-other")
    target = ground.open(external=("ext0",), internal=("ext0",), pin_path=other)
    assert ground.programs_on("ext0") == ground.programs_on("int0") == TCX
    ground.close(target)


def test_an_interface_that_comes_back_with_another_data_path_is_left_to_it(
    ground: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    target = ground.open()
    ground.ip("link", "delete", "ext0")
    settle(target, "interface_gone", 1)
    assert "interface ext0 is gone" in caplog.text
    ground.cable("ext0", "192.0.2.1/24")
    other = ground.pin_path.with_name(ground.pin_path.name + "-other")
    second = ground.open(external=("ext0",), internal=("ext0",), pin_path=other)
    for _ in range(2):
        target._places._behind, target._places._looked_ns = True, 0
        target._places.follow(time.monotonic_ns())
    assert ground.programs_on("ext0") == TCX
    assert caplog.text.count("interface ext0 cannot be used again yet") == 1
    assert "the data path of another DFS is attached there" in caplog.text
    ground.close(second)
    settle(target, "interface_came_back", 1)
    assert "interface ext0 is here again, and is used" in caplog.text
    assert ground.programs_on("ext0") == TCX


def test_a_table_of_another_layout_is_left_as_it_is(ground: Any) -> None:
    before = descriptors()
    target = ground.open()
    other = META.pack(7, LAYOUT_VERSION + 1, 0, 0, 0, bytes(16))
    target._program.meta.update(bytes(4), other)
    ground.opened.remove(target)
    target._write_meta = lambda **_: None
    target.close(detach=False)
    with pytest.raises(TargetError, match="layout"):
        ground.open()
    assert descriptors() == before
    shown = subprocess.run(
        ["bpftool", "map", "dump", "pinned", str(ground.pin_path / "meta")],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    assert f'"layout": {LAYOUT_VERSION + 1}' in shown


@pytest.mark.parametrize("modes", [("tc", "xdp"), ("xdp", "tc")], ids=lambda m: "-".join(m))
def test_another_way_to_attach_over_pinned_links(ground: Any, modes: tuple[str, str]) -> None:
    wanted = {"tc": TCX, "xdp": XDP}
    for mode in (*modes, *modes):
        target = ground.open(attach=mode)
        assert ground.programs_on("ext0") == wanted[mode]
        assert ground.programs_on("int0") == wanted[mode]
        ground.close(target, detach=False)


@pytest.mark.parametrize("mode", ["tc", "xdp"])
def test_an_interface_that_was_renamed_and_replaced(ground: Any, mode: str) -> None:
    """The pin of the name holds the link of an interface that is called otherwise now."""
    ground.close(ground.open(attach=mode), detach=False)
    ground.ip("link", "set", "ext0", "down")
    ground.ip("link", "set", "ext0", "name", "old0")
    ground.run("ip", "-n", ground.far, "link", "set", "ext0", "name", "old0")
    ground.cable("ext0", "192.0.2.2/24")
    target = ground.open(attach=mode)
    wanted = TCX if mode == "tc" else XDP
    assert ground.programs_on("ext0") == wanted
    assert ground.programs_on("old0") == []
    ground.close(target)


def test_a_new_name_in_the_configuration_for_the_same_interface(ground: Any) -> None:
    ground.close(ground.open(attach="xdp"), detach=False)
    ground.ip("link", "set", "ext0", "name", "wan0")
    ground.open(external=("wan0",), attach="xdp")
    assert ground.programs_on("wan0") == XDP


def test_an_interface_that_is_not_in_the_configuration_any_more_is_let_go_and_named(
    ground: Any, caplog: pytest.LogCaptureFixture
) -> None:
    ground.close(ground.open(), detach=False)
    assert "has it no more" not in caplog.text
    ground.open(external=("int0",), internal=("int0",))
    deadline = time.monotonic() + 60
    while ground.programs_on("ext0"):  # the kernel lets go of a link when it has time
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert "interface ext0 had this DFS's data path, and has it no more" in caplog.text


def test_interfaces_that_changed_their_names_with_each_other(ground: Any) -> None:
    ground.close(ground.open(), detach=False)
    for old, new in (("ext0", "tmp0"), ("int0", "ext0"), ("tmp0", "int0")):
        ground.ip("link", "set", old, "name", new)
    ground.open()
    assert ground.programs_on("ext0") == TCX
    assert ground.programs_on("int0") == TCX


@pytest.mark.parametrize("mode", ["tc", "xdp"])
def test_an_interface_that_is_made_anew_is_followed(ground: Any, mode: str) -> None:
    target = ground.open(attach=mode)
    ground.ip("link", "delete", "ext0")
    settle(target, "interface_gone", 1)
    assert ground.programs_on("int0") == (TCX if mode == "tc" else XDP)
    ground.cable("ext0", "192.0.2.1/24")
    settle(target, "interface_came_back", 1)
    assert ground.programs_on("ext0") == (TCX if mode == "tc" else XDP)
    ground.close(target, detach=False)
    assert ground.open(attach=mode).adopted


def test_a_mac_address_that_changes_is_followed(ground: Any) -> None:
    target = ground.open(attach="xdp")
    number = socket.if_nametoindex("ext0")
    ground.ip("link", "set", "ext0", "address", "02:00:00:00:00:77")
    deadline = time.monotonic() + 60
    while target._program.interfaces.table.lookup(number.to_bytes(4, sys.byteorder))[9] != 0x77:
        assert time.monotonic() < deadline
        target.sweep(8, stats=False)
        time.sleep(0.05)


def test_an_address_that_the_machine_gets_later_is_its_own(ground: Any) -> None:
    target = ground.open()
    ground.ip("address", "add", "192.0.2.9/24", "dev", "ext0")
    key = bytes(10) + b"\xff\xff" + socket.inet_aton("192.0.2.9")
    deadline = time.monotonic() + 60
    while target._program.local_addresses.table.lookup(key) is None:
        assert time.monotonic() < deadline
        target.sweep(8, stats=False)
        time.sleep(0.05)


def test_an_interface_that_is_named_as_vlans_are(ground: Any) -> None:
    """There is a dot in it, which no pin may have."""
    ground.ip("link", "set", "ext0", "name", "ext0.100")
    target = ground.open(external=("ext0.100",))
    assert ground.programs_on("ext0.100") == TCX
    ground.close(target, detach=False)
    target = ground.open(external=("ext0.100",))
    assert target.adopted
    ground.close(target)
    assert ground.programs_on("ext0.100") == []


def test_a_pin_path_with_a_dot_is_refused_in_words(ground: Any) -> None:
    with pytest.raises(TargetError, match="dot"):
        ground.open(pin_path=ground.pin_path.with_name("dfs.1"))


def test_a_pin_path_that_holds_what_others_pinned_is_refused_and_stays(ground: Any) -> None:
    """To detach removes the folder: the pins of another DFS, or of all programs, went with it."""
    inner = ground.pin_path / "dfs"
    target = ground.open(pin_path=inner)
    with pytest.raises(TargetError, match=r"has the folder dfs in it, .* a folder of its own"):
        ground.open(pin_path=ground.pin_path)
    with pytest.raises(TargetError, match=r"is a whole BPF file system: .*/splitplane/dfs"):
        ground.open(pin_path=Path("/sys/fs/bpf"))
    assert (inner / "meta").exists()
    ground.close(target)


def test_two_agents_with_one_pin_path_in_two_namespaces(ground: Any) -> None:
    target = ground.open()
    from support.targets.wire import inside

    with inside(ground.far), pytest.raises(TargetError, match="another agent"):
        ground.open()
    assert ground.programs_on("ext0") == TCX
    assert target.counters()["packets"].value >= 0


@pytest.mark.usefixtures("without_tcx")
def test_clsact_is_left_clean(ground: Any) -> None:
    target = ground.open()
    assert ground.programs_on("ext0") == CLSACT
    ground.close(target)
    assert ground.programs_on("ext0") == []
    assert "clsact" not in ground.run("tc", "-n", ground.name, "qdisc", "show")
    assert not ground.pin_path.exists()


@pytest.mark.usefixtures("without_tcx")
def test_clsact_survives_the_agent_and_is_taken_over(ground: Any) -> None:
    ground.close(ground.open(), detach=False)
    assert ground.programs_on("ext0") == CLSACT
    target = ground.open()
    assert ground.programs_on("ext0") == CLSACT  # once, not twice
    ground.close(target)
    assert "clsact" not in ground.run("tc", "-n", ground.name, "qdisc", "show")


@pytest.mark.usefixtures("without_tcx")
def test_clsact_of_somebody_else_stays(ground: Any) -> None:
    ground.run("tc", "-n", ground.name, "qdisc", "add", "dev", "ext0", "clsact")
    target = ground.open()
    hook = TcHook(ctypes.sizeof(TcHook), socket.if_nametoindex("int0"), 1, 0)
    program = target.program_fd("dfs_tc")
    theirs = TcOptions(ctypes.sizeof(TcOptions), program, 0, 0, 9, 9)
    assert library().bpf_tc_attach(ctypes.byref(hook), ctypes.byref(theirs)) == 0
    ground.close(target)
    said = ground.run("tc", "-n", ground.name, "qdisc", "show")
    assert "clsact ffff: dev ext0" in said  # it was there before
    assert "clsact ffff: dev int0" in said  # it is used by others now


@pytest.mark.parametrize("mode", ["tc", "xdp"])
def test_clsact_is_taken_off_what_is_not_in_use(
    ground: Any, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another interface in the configuration, or another way to attach."""
    with monkeypatch.context() as patched:
        patched.setattr(links, "ATTACH_TCX_INGRESS", 4711)
        ground.close(ground.open(), detach=False)
        assert ground.programs_on("ext0") == CLSACT
    ground.open(external=("int0",), internal=("int0",), attach=mode)
    assert ground.programs_on("ext0") == []
    assert ground.programs_on("int0") == (TCX if mode == "tc" else XDP)


def test_a_kernel_without_ipv6(ground: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    real = socket.socket

    def refuse(family: int = socket.AF_INET, *rest: Any) -> socket.socket:
        if family == socket.AF_INET6:
            raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")
        return real(family, *rest)

    monkeypatch.setattr("socket.socket", refuse)
    exists = Path.exists
    monkeypatch.setattr("pathlib.Path.exists", lambda p: "ipv6" not in p.parts and exists(p))
    target = ground.open()
    assert ground.programs_on("ext0") == TCX
    assert not target._transmitter.send(b"\x60" + bytes(39))
    assert target._transmitter.send(b"\x45" + bytes(15) + socket.inet_aton("192.0.2.1"))


@pytest.mark.parametrize(
    ("hardware", "wanted"),
    [
        ({"ext0", "int0"}, XDP),
        ({"ext0"}, TCX),  # what XDP redirects into the other one would be lost
        (set(), TCX),
    ],
    ids=["both", "one", "none"],
)
def test_auto_is_one_way_for_all_interfaces(
    ground: Any, monkeypatch: pytest.MonkeyPatch, hardware: set[str], wanted: list[str]
) -> None:
    monkeypatch.setattr(places, "_has_hardware", lambda device: device.name in hardware)
    ground.open(attach="auto")
    assert ground.programs_on("ext0") == wanted
    assert ground.programs_on("int0") == wanted


def test_auto_is_tc_where_a_driver_has_no_xdp(ground: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel would run the program itself, and give up segmentation offload for it."""
    ground.ip("link", "add", "plain0", "type", "bridge")
    ground.ip("link", "set", "plain0", "up")
    monkeypatch.setattr(places, "_has_hardware", lambda device: True)
    target = ground.open(attach="auto", internal=("plain0",))
    assert ground.programs_on("ext0") == TCX
    assert ground.programs_on("plain0") == TCX
    ground.close(target)
    assert ground.programs_on("ext0") == []


@pytest.mark.parametrize("how", ["tcx", "clsact", "xdp"])
def test_the_pins_of_another_network_namespace_are_not_taken_over(
    ground: Any, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its data path goes on without an agent; its links would be dropped, and its table adopted."""
    if how == "clsact":
        monkeypatch.setattr(links, "ATTACH_TCX_INGRESS", 4711)
    attach = "xdp" if how == "xdp" else "tc"
    first = ground.open(attach=attach)
    ground.close(first, detach=False)
    wanted = ground.programs_on("ext0")
    pins = sorted(ground.pin_path.iterdir())
    with inside(ground.far), pytest.raises(TargetError) as caught:
        ground.open(attach=attach)
    assert "in another network namespace" in str(caught.value)
    assert ground.programs_on("ext0") == wanted
    assert sorted(ground.pin_path.iterdir()) == pins
    assert ground.open(attach=attach).adopted


def test_the_pins_of_a_namespace_that_is_gone_are_adopted(ground: Any) -> None:
    """A container's agent comes back in another namespace than it had."""
    first = ground.open()
    boot_id = first.boot_id
    ground.close(first, detach=False)
    for name in ("ext0", "int0"):
        ground.ip("link", "delete", name)
    for name, address in (("ext0", "192.0.2.1/24"), ("int0", "10.1.0.1/24")):
        ground.cable(name, address)
    with inside(ground.far):
        again = ground.open()
        assert (again.adopted, again.boot_id) == (True, boot_id)
        ground.close(again)

# SPDX-License-Identifier: Apache-2.0
"""The pipeline: a frame comes in, frames go out, the agent gets what only it can place.

It outlives the `MemoryTarget` that commands it, as the BPF program outlives its loader; while
no agent runs, installed flows continue.  The order is: parse, ARP and neighbour discovery, flow
table, virtual servers, outbound query, ordinary routing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final

from data_flow_segment.targets.contract import (
    CloseCause,
    EarlyFragment,
    Event,
    FlowClosed,
    FlowEntry,
    FlowReopened,
    PacketIn,
    PacketReason,
    VirtualServerEntry,
    VirtualServerKey,
)
from data_flow_segment.targets.flow_table import INBOUND, FlowTable
from data_flow_segment.targets.interfaces import Interface, broadcasts, is_from_elsewhere
from data_flow_segment.targets.memory import admission, forward, syns
from data_flow_segment.targets.memory.answering import Answerer, Back
from data_flow_segment.targets.memory.asking import Asker, place_of
from data_flow_segment.targets.memory.asleep import Asleep
from data_flow_segment.targets.memory.controls import Controls
from data_flow_segment.targets.memory.counters import Counters
from data_flow_segment.targets.memory.ends import Ends
from data_flow_segment.targets.memory.flow import Flow
from data_flow_segment.targets.memory.fragments import FragmentTable
from data_flow_segment.targets.memory.granted import Grants, signature_of
from data_flow_segment.targets.memory.nodes import Nodes, Whose
from data_flow_segment.targets.memory.observe import count_packet, observe
from data_flow_segment.targets.memory.options import MemoryOptions
from data_flow_segment.targets.memory.outgoing import Outgoing
from data_flow_segment.targets.memory.short_way import Requests, spliced
from data_flow_segment.targets.memory.virtual_servers import VirtualServers
from data_flow_segment.targets.ownership import Ownership, Question
from data_flow_segment.targets.proxying import NOT_BEGUN, Proxy, Verdict
from data_flow_segment.targets.translation import (
    CannotInstall,
    Key,
    check_ends,
    inbound,
    reverse_key,
)
from packets import icmp, neighbours, tcp, tunnel
from packets.hygiene import has_mapped_address, is_from_group, is_source_routed
from packets.parse import ACK, ICMP, ICMPV6, Kind, MalformedPacket, Packet, is_of_vlan, parse
from packets.rewrite import decrement_ttl, translate, undo
from packets.split import may_be_split, split
from ssmb.addresses import MULTICAST_V6, is_martian
from ssmb.constants import TCP, Flag, ForwardMode
from ssmb.messages import FlowSignature

DELIVERED_MAX: Final = 256
_NO_PORTS: Final = (0, 0)  # of ICMP


class DataPath:
    """Tables, counters and what happens to a packet."""

    def __init__(self, options: MemoryOptions, clock: Callable[[], float]) -> None:
        self.options = options
        self.clock = clock
        self.table = FlowTable(options.flow_capacity, Flow)
        self.virtual_servers = VirtualServers()
        self.local_addresses: frozenset[bytes] = frozenset()
        self.outbound_query = False
        self.listening = True
        self.attached = True
        self.counters = Counters()
        self.events: deque[Event] = deque()
        self.asleep = Asleep()
        self.grants = Grants(self._report, clock)
        self.outgoing = Outgoing()
        self.nodes = Nodes()
        self.ownership = Ownership(clock)
        self.proxy = Proxy(clock)
        self._router = forward.Router(options)
        self._broadcasts = broadcasts(options.routes)
        self._fragments = FragmentTable(options.fragment_capacity, clock)
        self._out: list[tuple[int, bytes]] = []
        self._identification = 0  # of fragments of our own
        self.delivered: deque[bytes] = deque(maxlen=DELIVERED_MAX)
        """Frames for this machine itself, the last ones: its own stack would get them."""
        self.controls = Controls()
        count, report = self.counters.add, self._report
        timeout_s = options.half_open_timeout_s
        self.ends = Ends(self.table, self.controls, timeout_s, count, report, clock)
        self.asker = Asker(options.serial_key, self._router, self.controls, clock)
        self._requests = Requests()
        self._answerer = Answerer(
            self.table,
            self.controls,
            self.ends,
            self._requests,
            self.check_ends,
            self.asleep.forget,
            count,
            report,
            clock,
        )

    @property
    def own_addresses(self) -> frozenset[bytes]:
        return self._router.own_addresses

    # --- the ways in ----------------------------------------------------------------------

    def receive(self, number: int, frame: bytes) -> list[tuple[int, bytes]]:
        """A frame arrives on an interface; what leaves because of it."""
        if self.attached and (frame_back := self._answerer.reply_came(frame)) is not None:
            if frame_back.frame:
                self.counters.add("packets")
                self._came_back(frame_back)
            return self.take_transmitted()
        self.counters.add("packets")
        if is_of_vlan(frame):
            self.counters.add("tagged")  # there is no interface of that VLAN here
        else:
            self._process(self._router.interfaces[number], frame, injected=False)
        return self.take_transmitted()

    def inject(self, number: int, frame: bytes) -> None:
        """A frame that came up before is processed now; it does not come up again."""
        interface = self._router.interfaces.get(number)
        if interface is None:
            self.counters.add("drop_inject_unmatched")
            return
        self._process(interface, frame, injected=True)

    def _came_back(self, back: Back) -> None:
        number, frame = self.parked(back.frame)
        if not back.is_syn:
            self.inject(number, frame)
            return
        syn = parse(frame)
        found = self.table.find((syn.src, syn.dst, *syn.ports, syn.protocol))
        interface = self._router.interfaces.get(number)
        if found is None or interface is None:
            self.counters.add("drop_inject_unmatched")
        else:
            self._forward_flow(interface, syn, *found, is_own=True)

    def parked(self, frame: bytes) -> tuple[int, bytes]:
        """What a QUERY carried: the interface that it came in by, and the frame for `inject`.
        Whose it was on that link nobody knows any more."""
        number = place_of(frame)
        interface = self._router.interfaces.get(number)
        mac = bytes(6) if interface is None else interface.mac
        return number, mac + bytes(6) + frame[12:]

    def check_ends(self, entry: FlowEntry) -> None:
        """A flow's client, node and next hop are other machines, or CannotInstall."""
        check_ends(entry, self.virtual_servers.addresses.servers, self.own_addresses)

    def put_back(self, fragment: EarlyFragment) -> None:
        """A later fragment arrives again, after it was held for its first one."""
        interface = self._router.interfaces.get(fragment.interface)
        if interface is None:
            self.counters.add("drop_inject_unmatched")
            return
        self._process(interface, fragment.frame, injected=False, again=True)

    def transmit(self, octets: bytes) -> None:
        """Route a packet of the agent's own."""
        frame = bytes(12) + (b"\x08\x00" if octets[:1] and octets[0] >> 4 == 4 else b"\x86\xdd")
        try:
            packet = parse(frame + octets)
        except MalformedPacket:
            self.counters.add("drop_malformed")
            return
        route = self._route_to(packet.dst)
        if route is not None:
            self._emit(route, forward.with_link_header(packet, route))
            self.counters.add("transmitted")

    def announce(self, address: bytes) -> None:
        """Tell the external links that a virtual address is here."""
        for interface in self._router.interfaces.values():
            if interface.external:
                frame = neighbours.announcement(address, interface.mac)
                self._out.append((interface.number, frame))

    def take_transmitted(self) -> list[tuple[int, bytes]]:
        """The frames that left since the last call."""
        out, self._out = self._out, []
        return out

    # --- the pipeline ---------------------------------------------------------------------

    def _process(
        self, interface: Interface, frame: bytes, *, injected: bool, again: bool = False
    ) -> None:
        if not frame[:1] or not (frame[:6] == interface.mac or frame[0] & 1):
            self.counters.add("local")  # for another host, received because a switch floods
            return
        try:
            packet = parse(frame)
        except MalformedPacket:
            self.counters.add("drop_malformed")
            return
        if not self.attached:
            self._pass(interface, packet)
        elif has_mapped_address(packet):
            self.counters.add("drop_mapped")
        elif packet.kind == Kind.TRANSPORT:
            self._transport(interface, packet, injected=injected, again=again)
        elif injected:
            self.counters.add("drop_inject_unmatched")
        elif packet.kind == Kind.ARP:
            reply = neighbours.arp_reply(packet, interface.mac, self._answers_for)
            self._answer(packet, reply, interface)
        elif packet.kind == Kind.ICMP:
            self._icmp(interface, packet)
        else:
            self._other(interface, packet)

    def _other(self, interface: Interface, packet: Packet) -> None:
        """Another protocol, or a later fragment of ICMP."""
        if self._is_later_of_error(packet):
            self.counters.add("drop_fragment")
        elif packet.version and self._is_owned(packet):
            self.counters.add("drop_unserved")  # routed, it would come back from the router
        else:
            self._pass(interface, packet)

    def _transport(
        self, interface: Interface, packet: Packet, *, injected: bool, again: bool
    ) -> None:
        ports = self._fragments.ports_of(packet) if packet.later_fragment else packet.ports
        if ports is None:
            if injected or again:
                self.counters.add("drop_fragment")
            elif self._may_be_a_flows(interface, packet):
                self._hold_fragment(interface, packet)
            else:
                self._pass(interface, packet)
            return
        key = (packet.src, packet.dst, *ports, packet.protocol)
        found = self.table.find(key)
        to_us = found is not None or self.virtual_servers.is_address(packet.dst)
        if to_us and is_source_routed(packet):
            self.counters.add("drop_source_routed")
        elif found is not None and not self._is_new_connection(packet, key, *found):
            self._of_flow(interface, packet, key, *found, injected=injected)
        elif injected:
            self.counters.add("drop_inject_unmatched")
        else:
            self._wake_or_unmatched(interface, packet, key)

    def _is_new_connection(self, packet: Packet, key: Key, flow: Flow, direction: int) -> bool:
        """Whether it begins another connection where one lingers.  The SYN of a client whose
        handshake is completed for it meets no entry: what it says then does, with other numbers
        than before."""
        if syns.is_new_connection(packet, flow, direction):
            return True
        if not flow.closed or direction != INBOUND or not syns.may_follow_a_cookie(packet):
            return False
        server = self.virtual_servers.match(packet.dst, key[3], packet.protocol, frozenset())
        if server is None or not server.proxied:
            return False
        is_far = flow.tracker.is_far(direction, tcp.read(packet).seq)
        if flow.entry.flags & Flag.ADD_TCP_OFFSETS and is_far:
            return True
        return self.proxy.judge(packet, key, server.group_id) is Verdict.BEGINS

    def _wake_or_unmatched(self, interface: Interface, packet: Packet, key: Key) -> None:
        """A node may go on with a connection whose flow is gone, for it was idle for long."""
        session = self.asleep.find(packet, key) if interface.internal else None
        if session is not None:
            self._up_call(interface, packet, session, PacketReason.ASLEEP, None)
            return
        src, dst, sport, dport, protocol = key
        other = self.table.find((dst, src, dport, sport, protocol))
        if self._is_listened_to and other is not None and syns.collides(packet, key, *other):
            session = other[0].entry.signature.session
            self._up_call(interface, packet, session, PacketReason.COLLISION, None)
        else:
            self._unmatched(interface, packet, key)

    def _of_flow(
        self,
        interface: Interface,
        packet: Packet,
        key: Key,
        flow: Flow,
        direction: int,
        *,
        injected: bool,
    ) -> None:
        if direction != INBOUND and not self._is_from_inside(interface, flow):
            self.counters.add("drop_return_outside")
            return
        if flow.entry.held:
            self._hold(interface, packet, flow, direction, injected=injected)
            return
        if packet.first_fragment:
            self._fragments.note(packet)
        if injected or not self._asks_again(interface, packet, key, flow, direction):
            self._forward_flow(interface, packet, flow, direction)

    def _hold(
        self, interface: Interface, packet: Packet, flow: Flow, direction: int, *, injected: bool
    ) -> None:
        """A held flow's packet comes up, and counts as the flow's."""
        if injected:
            self.counters.add("drop_inject_unmatched")
        elif packet.first_fragment or packet.later_fragment:
            self.counters.add("drop_fragment")
        elif not flow.is_within(direction, self.clock()):
            self.counters.add("drop_held_rate")
        else:
            count_packet(flow, direction, packet, self.clock())
            if direction == INBOUND or not self._joins(packet, flow):
                self._hand_up(interface, packet, flow)

    def _joins(self, packet: Packet, flow: Flow) -> bool:
        """Whether a node's packet was the answer to the target's own SYN, and the client's request
        went there in return."""
        request = self._requests.get(flow.entry.signature.session)
        if request is None or not flow.entry.flags & Flag.PARKED:
            return False
        if not packet.checksums_are_right():
            return False
        entry = spliced(flow.entry, request, tcp.read(packet))
        if entry is None:
            return False
        self._requests.take(entry.signature.session)
        self.table.install(entry, self.clock())
        self.counters.add("short_spliced")
        self.inject(*self.parked(request.frame))
        return True

    def _hand_up(self, interface: Interface, packet: Packet, flow: Flow) -> None:
        """A held flow's packet comes up, or an error about one; of a flow that the target was to
        splice the agent gets first what the client said."""
        session = flow.entry.signature.session
        is_short = flow.entry.flags & Flag.PARKED and self.listening
        if is_short and packet.checksums_are_right():
            request = self._requests.take(session)
            if request is not None:
                number, frame = self.parked(request.frame)
                signature = flow.entry.signature
                kept = PacketIn(PacketReason.KEPT, signature, ACK, number, frame, None)
                self.events.append(kept)
                self.counters.add("short_left")
        self._up_call(interface, packet, session, PacketReason.HELD, None)

    def _is_from_inside(self, interface: Interface, flow: Flow) -> bool:
        """Whether a node's answer comes from the internal side, or from where the client's packets
        leave to the node.  What comes from elsewhere is made up."""
        if interface.internal or flow.entry.flags & Flag.OUTBOUND:
            return True
        try:
            return self._router.exit_towards(flow.entry.node_ipaddr).interface is interface
        except (forward.NoRoute, forward.NoNeighbour):
            return False

    def _may_be_a_flows(self, interface: Interface, packet: Packet) -> bool:
        """Whether a later fragment without its first one is not simply a stranger's."""
        if self.virtual_servers.is_address(packet.dst):
            return True
        local = self.local_addresses | self._router.own_addresses
        return interface.internal and packet.dst not in local and not packet.data[0] & 1

    def _hold_fragment(self, interface: Interface, packet: Packet) -> None:
        if not self.listening:
            self.counters.add("drop_detached")
        elif len(self.events) >= self.options.event_capacity:
            self.counters.add("drop_up_call_full")
        else:
            self.events.append(EarlyFragment(interface.number, bytes(packet.data)))
            self.counters.add("up_calls")

    def _asks_again(
        self, interface: Interface, packet: Packet, key: Key, flow: Flow, direction: int
    ) -> bool:
        """Whether the packet came up because its flow's node does not answer."""
        if not self._is_listened_to or not syns.is_unanswered(
            packet, flow, direction, self.clock()
        ):
            return False
        found = self.virtual_servers.match(packet.dst, key[3], packet.protocol, frozenset())
        if found is None or found.bridged:
            return False
        self._up_call(interface, packet, key, PacketReason.UNANSWERED, found.key)
        return True

    @property
    def _is_listened_to(self) -> bool:
        return self.listening

    def _unmatched(self, interface: Interface, packet: Packet, key: Key) -> None:
        """No flow: to a virtual server, from the internal side, or neither."""
        local = self.local_addresses | self._router.own_addresses | self._broadcasts
        found = self._match(interface, packet, key, local)
        if found is not None:
            reason = PacketReason.BRIDGED if found.bridged else PacketReason.NEW_FLOW
        else:
            reason = PacketReason.UNSERVED if self._is_owned(packet) else PacketReason.OUTBOUND
        if not self._is_admitted(interface, packet, for_us=reason != PacketReason.OUTBOUND):
            return
        if reason == PacketReason.OUTBOUND:
            if packet.dst not in local and self._is_a_nodes(interface, packet, key):
                return
            if packet.first_fragment and interface.internal:
                self._fragments.note(packet)  # the later ones are a stranger's, too
            if not (self.outbound_query and interface.internal) or packet.dst in local:
                if interface.internal:
                    self.outgoing.note(packet, key, self.clock())
                self._pass(interface, packet)
                return
        elif reason == PacketReason.UNSERVED and not self._may_answer(Question.UNSERVED):
            self.counters.add("drop_unserved")
            return
        if found is None:
            self._up_call(interface, packet, key, reason, None)
        else:
            self._served(interface, packet, key, reason, found)

    def _served(
        self,
        interface: Interface,
        packet: Packet,
        key: Key,
        reason: PacketReason,
        server: VirtualServerEntry,
    ) -> None:
        """No flow, to a virtual server."""
        if server.bridged and not self._may_answer(Question.BRIDGED):
            self.counters.add("drop_bridged")
        elif server.proxied and packet.protocol == TCP:
            self._proxied(interface, packet, key, server)
        elif not self._takes_grant(interface, packet, key, server):
            self._up_call(interface, packet, key, reason, server.key)

    def _proxied(
        self, interface: Interface, packet: Packet, key: Key, server: VirtualServerEntry
    ) -> None:
        """No flow, to a virtual server for which clients' handshakes are completed."""
        if packet.first_fragment or packet.later_fragment:
            self.counters.add("drop_fragment")
            return
        verdict = self.proxy.judge(packet, key, server.group_id)
        if verdict is Verdict.ANSWER and packet.checksums_are_right():
            answer = self.proxy.answer(packet, key, server.group_id)
            link = packet.source_mac + interface.mac + bytes(packet.data[12 : packet.l3])
            self._out.append((interface.number, link + answer))
            self.counters.add("cookies_made")
        elif verdict is Verdict.BEGINS:
            self._begins(interface, packet, key, server)
        elif verdict is Verdict.STRAY and self._may_answer(Question.STRAY):
            self._up_call(interface, packet, key, PacketReason.NEW_FLOW, server.key)
        else:
            self.counters.add(NOT_BEGUN[verdict])

    def _begins(
        self, interface: Interface, packet: Packet, key: Key, server: VirtualServerEntry
    ) -> None:
        """What a client says first, with a cookie: to the CS, or up."""
        app_type = server.app_type
        group_id, is_right = server.group_id, packet.checksums_are_right()
        if app_type and is_right and self._asked(interface, packet, key, group_id, app_type):
            self.counters.add("short_asked")
        else:
            self._up_call(interface, packet, key, PacketReason.PROXIED, server.key)

    def _is_a_nodes(self, interface: Interface, packet: Packet, key: Key) -> bool:
        """Whether nobody's packet is a node's in mid-session, and so dealt with."""
        if packet.data[0] & 1:
            return False
        whose = self.nodes.whose(packet, key, self.clock(), is_inside=interface.internal)
        if whose is Whose.A_NODES_TO_DROP:
            self.counters.add("drop_node_unknown")
        elif whose is Whose.A_NODES:
            self._up_call(interface, packet, key, PacketReason.OF_NODE, None)
        return whose is not Whose.NOBODYS

    def _takes_grant(
        self, interface: Interface, packet: Packet, key: Key, server: VirtualServerEntry
    ) -> bool:
        """Whether the first packet of a flow goes on by a decision that was made ahead."""
        if server.bridged or not self.listening or not syns.begins_a_flow(packet):
            return False
        if not packet.checksums_are_right():
            return False
        grant = self.grants.take(server.key, key, inside=interface.internal)
        if grant is None:
            return False
        entry = grant.entry(signature_of(key, packet.tos), self.clock())
        try:
            self.check_ends(entry)
            self._give_way_to(entry)
            is_tcp = packet.protocol == TCP
            flow = self.table.install(entry, self.clock(), half_open=is_tcp)
        except CannotInstall:
            self.counters.add("install_failed")
            self.grants.returned(server.key, grant, entry, packet.tcp_flags)
            return False
        self.asleep.forget(entry)
        self.ends.begun(entry)
        self.grants.taken(server.key, grant, entry, packet.tcp_flags)
        self._of_flow(interface, packet, key, flow, INBOUND, injected=True)
        return True

    def _give_way_to(self, entry: FlowEntry) -> None:
        """A flow that only lingers yields to one that gets its source port (9.2)."""
        back = reverse_key(entry.signature, inbound(entry))
        other = self.table.find(back)
        if other is not None and other[0].closed:
            signature = other[0].entry.signature
            if signature.session != entry.signature.session:
                self.table.remove(signature)

    def _match(
        self, interface: Interface, packet: Packet, key: Key, local: frozenset[bytes]
    ) -> VirtualServerEntry | None:
        """The virtual server that the packet is for."""
        if packet.data[0] & 1:
            return None  # to all stations (RFC 1122 3.3.6)
        spared = local  # by wildcards
        if not interface.external or is_martian(packet.dst) or self._is_answer(packet, key):
            spared = local | {packet.dst}
        return self.virtual_servers.match(packet.dst, key[3], packet.protocol, spared)

    def _is_answer(self, packet: Packet, key: Key) -> bool:
        return self.outgoing.is_answered_by(packet, key, self.clock())

    def _up_call(
        self,
        interface: Interface,
        packet: Packet,
        key: Key,
        reason: PacketReason,
        server: VirtualServerKey | None,
    ) -> None:
        if not packet.checksums_are_right():
            self.counters.add("drop_checksum")
            return
        if reason == PacketReason.NEW_FLOW and server is not None:
            entry = self.virtual_servers.get(server)
            if entry is not None and self._asked(interface, packet, key, entry.group_id):
                return
        if packet.first_fragment:
            self._fragments.note(packet)
        is_unserved = reason == PacketReason.UNSERVED
        if not self.listening:
            self.counters.add("drop_unserved" if is_unserved else "drop_detached")
        elif len(self.events) >= self.options.event_capacity:
            self.counters.add("drop_up_call_full")
        else:
            signature = FlowSignature(*key, packet.tos)
            frame = bytes(packet.data)
            flags = packet.tcp_flags
            up = PacketIn(reason, signature, flags, interface.number, frame, server)
            self.events.append(up)
            self.counters.add("drop_unserved" if is_unserved else "up_calls")

    def _asked(
        self, interface: Interface, packet: Packet, key: Key, group_id: int, app_type: int = 0
    ) -> bool:
        """Whether the packet left as a QUERY, or with `app_type` as an APP_QUERY."""
        question = self.asker.question(interface, packet, key, group_id, app_type)
        if question is None:
            return False
        way, frame = question
        self.counters.add("asked")
        return self._emit(way, frame)

    def _is_admitted(self, interface: Interface, packet: Packet, *, for_us: bool) -> bool:
        """Whether a packet of no flow may come from where it says; otherwise it is counted."""
        if packet.data[0] & 1:
            return True
        sender = admission.Sender(
            is_us=self._is_ours(packet.src),
            is_group=self._is_from_group(packet),
            is_nobody=packet.src in self._broadcasts or is_martian(packet.src),
        )
        refusal = admission.refused_at_the_door(packet, interface, sender, for_us=for_us)
        if refusal is None and for_us and self._is_from_elsewhere(interface, packet):
            refusal = "drop_reverse_path"
        if refusal is not None:
            self.counters.add(refusal)
        return refusal is None

    def _is_from_elsewhere(self, interface: Interface, packet: Packet) -> bool:
        if not interface.external:
            return False
        route = self._router.route_to(packet.src)
        return is_from_elsewhere(interface, route, self._router.interfaces)

    def _is_from_group(self, packet: Packet) -> bool:
        return is_from_group(packet.data)

    def _may_answer(self, question: Question) -> bool:
        return self.ownership.may_answer(question)

    def _forward_flow(
        self,
        interface: Interface,
        packet: Packet,
        flow: Flow,
        direction: int,
        *,
        is_own: bool = False,
    ) -> None:
        """Send a flow's packet on; the target's own (`is_own`) says nothing of the flow."""
        if packet.ttl <= 1:
            self._drop_ttl(interface, packet)
            return
        before = packet.copy()
        translate(packet, flow.there if direction == INBOUND else flow.back)
        route = self._exit(packet, flow, direction)
        if route is not None and not self._fits(interface, before, packet, route, flow, direction):
            return
        if not is_own:
            self._observe(before, packet, flow, direction)
        decrement_ttl(packet)
        if route is not None and self._leave(route, packet, flow, direction):
            self.counters.add("flow_packets")

    def _observe(self, before: Packet, packet: Packet, flow: Flow, direction: int) -> None:
        was_closed = flow.closed
        goes_on = observe(flow, direction, before, packet, self.clock())
        if goes_on:
            flow.close_reported = False
            self._report(FlowReopened(flow.state(self.clock())))
        if flow.cause is not None and (goes_on or not was_closed):
            if self.ends.closed(flow):
                flow.close_reported = True
            elif self.listening:
                flow.close_reported = True
                self._report(FlowClosed(flow.state(self.clock()), CloseCause(flow.cause)))

    def _report(self, event: Event) -> None:
        if self.listening:
            self.events.append(event)

    def _exit(self, packet: Packet, flow: Flow, direction: int) -> forward.Exit | None:
        """Where a flow's packet leaves, None if nothing leads there."""
        towards = packet.dst
        if direction == INBOUND:
            towards = forward.inbound_next_hop(flow.entry, packet)
        return self._route_to(towards)

    def _fits(
        self,
        interface: Interface,
        before: Packet,
        packet: Packet,
        route: forward.Exit,
        flow: Flow,
        direction: int,
    ) -> bool:
        """Whether a flow's packet can leave in one piece; `before` is what its sender sent."""
        entry, mtu = flow.entry, route.interface.mtu
        if _is_tunnelled(flow, direction):
            mtu = tunnel.told_mtu(
                mtu - tunnel.tunnel_overhead(entry.node_ipaddr), entry.node_ipaddr
            )
        if packet.ip_length > mtu:
            self._too_long(interface, before, mtu)
            return False
        return True

    def _leave(self, route: forward.Exit, packet: Packet, flow: Flow, direction: int) -> bool:
        """Send a flow's packet on."""
        entry = flow.entry
        if not _is_tunnelled(flow, direction):
            return self._emit(route, forward.with_link_header(packet, route))
        src = self._router.source_address(route.interface, ipv4=packet.version == 4)
        if src is None:
            self.counters.add("drop_no_route")
            return False
        outer = tunnel.tunnelled(packet, src, entry.node_ipaddr)
        if packet.version == 4:
            return self._emit(route, forward.framed(outer, packet, route))
        self._identification = self._identification + 1 & 0xFFFFFFFF
        for piece in tunnel.in_fragments(outer, route.interface.mtu, self._identification):
            self._emit(route, forward.framed(piece, packet, route))
        return True

    def _icmp(self, interface: Interface, packet: Packet) -> None:
        if neighbours.is_solicitation(packet):
            reply = neighbours.advertisement(packet, interface.mac, self._answers_for)
            self._answer(packet, reply, interface)
            return
        try:
            inner = icmp.quoted_packet(packet) if icmp.is_error(packet) else None
        except icmp.CannotRead:
            self._unreadable_error(interface, packet)
        else:
            self._about(interface, packet, inner)

    def _about(self, interface: Interface, packet: Packet, inner: Packet | None) -> None:
        """ICMP that quotes that packet of TCP or UDP, or none."""
        found = None
        if inner is not None:
            there, back = inner.ports
            found = self.table.find((inner.dst, inner.src, back, there, inner.protocol))
        if inner is None or found is None:
            if inner is not None and interface.internal and self._is_asleep(inner):
                self.counters.add("drop_asleep")  # it has a node's address
            elif self._is_owned(packet):
                self._answer_echo(interface, packet)
            else:
                self._pass(interface, packet)
        elif is_martian(packet.src):
            self.counters.add("drop_martian")
        elif found[0].entry.held:
            self._hand_up(interface, packet, found[0])
        elif packet.first_fragment:  # nobody needs to fragment it, and its checksum covers all
            self._fragments.note(packet, _NO_PORTS)  # the later ones follow it
            self.counters.add("drop_fragment")
        elif packet.ttl <= 1:
            self.counters.add("drop_ttl")
        else:
            self._forward_error(interface, packet, inner, *found)

    def _unreadable_error(self, interface: Interface, packet: Packet) -> None:
        """An error that does not say which flow it is about.  It has a node's address, or quotes
        one, so that nobody outside gets it."""
        if self._is_owned(packet):
            self._answer_echo(interface, packet)
        elif interface.internal and not self._is_for_us_all(packet):
            if packet.first_fragment:
                self._fragments.note(packet, _NO_PORTS)
            self.counters.add("drop_icmp_unreadable")
        else:
            self._pass(interface, packet)

    def _is_asleep(self, quoted: Packet) -> bool:
        """Whether the flow of a quoted packet of the client's is."""
        there, back = quoted.ports
        return self.asleep.has((quoted.dst, quoted.src, back, there, quoted.protocol))

    def _is_for_us_all(self, packet: Packet) -> bool:
        """Whether it stays here."""
        local = self.local_addresses | self._router.own_addresses | self._broadcasts
        return bool(packet.data[0] & 1) or packet.dst in local

    def _is_later_of_error(self, packet: Packet) -> bool:
        """Whether the first fragment was an error that was dropped: this one has its addresses."""
        is_later = packet.later_fragment and packet.protocol in (ICMP, ICMPV6)
        return is_later and self._fragments.ports_of(packet) is not None

    def _answer_echo(self, interface: Interface, packet: Packet) -> None:
        """ICMP to an address that we own, and about no flow."""
        if not self._is_admitted(interface, packet, for_us=True):
            return
        if icmp.is_plain_echo_request(packet) and self._may_answer(Question.ECHO):
            icmp.turn_echo_around(packet)
            link = packet.source_mac + interface.mac + bytes(packet.data[12:])
            self._out.append((interface.number, link))
            self.counters.add("echo_answered")
        else:
            self.counters.add("drop_unserved")

    def _forward_error(
        self, interface: Interface, packet: Packet, inner: Packet, flow: Flow, direction: int
    ) -> None:
        """The error goes in the direction that the packets go which answer the quoted one."""
        before = packet.copy()
        there, back = flow.there, flow.back
        if direction == INBOUND:
            keeps = packet.src != flow.entry.signature.src_ipaddr  # a router on the client's side
            src = None if keeps else there.src
            icmp.translate_error(packet, inner, undo(back, there), src, there.dst)
        else:  # whatever sent it, the client gets it from the virtual server
            icmp.translate_error(packet, inner, undo(there, back), back.src, back.dst)
        decrement_ttl(packet)
        route = self._exit(packet, flow, direction)
        if (
            route is not None
            and self._fits(interface, before, packet, route, flow, direction)
            and self._leave(route, packet, flow, direction)
        ):
            self.counters.add("icmp_translated")

    # --- ordinary routing and errors of our own -------------------------------------------

    def _pass(self, interface: Interface, packet: Packet) -> None:
        """What any router would do with it."""
        if packet.version == 0 or packet.dst in self._router.own_addresses or packet.data[0] & 1:
            self.counters.add("local")
            self.delivered.append(bytes(packet.data))
            return
        from_us = packet.src in self._router.own_addresses
        refusal = admission.refused_by_a_router(packet, from_us=from_us)
        if refusal is not None:
            self.counters.add(refusal)
        elif packet.ttl <= 1:
            self._drop_ttl(interface, packet)
        else:
            route = self._route_to(packet.dst)
            if route is not None:
                if packet.ip_length > route.interface.mtu:
                    self._too_long(interface, packet, route.interface.mtu)
                    return
                decrement_ttl(packet)
                self._emit(route, forward.with_link_header(packet, route))
                self.counters.add("passed")

    def _is_ours(self, address: bytes) -> bool:
        own = address in self._router.own_addresses
        return own or self.virtual_servers.is_address(address)

    def _is_owned(self, packet: Packet) -> bool:
        """Whether it is sent to a virtual address that we answer for, and the kernel would not."""
        if packet.data[0] & 1 or not self.virtual_servers.answers_for(packet.dst):
            return False
        return packet.dst not in self.local_addresses | self._router.own_addresses

    def _answers_for(self, address: bytes) -> bool:
        own = address in self._router.own_addresses
        return own or (self.attached and self.virtual_servers.answers_for(address))

    def _answer(self, packet: Packet, reply: bytes | None, interface: Interface) -> None:
        if reply is None:
            self.counters.add("local")
        elif self._is_from_group(packet) or (packet.kind == Kind.ARP and reply[0] & 1):
            self.counters.add("drop_group_source")
        elif packet.kind == Kind.ICMP and packet.src[0] == MULTICAST_V6:
            self.counters.add("drop_martian")
        else:
            self._out.append((interface.number, reply))
            self.counters.add("arp_answered")

    def _drop_ttl(self, interface: Interface, packet: Packet) -> None:
        self.counters.add("drop_ttl")
        src = self._router.source_address(interface, ipv4=packet.version == 4)
        if src is not None and icmp.may_be_answered(packet):
            self._send_error(interface, packet, icmp.time_exceeded(packet, src))

    def _too_long(self, interface: Interface, packet: Packet, mtu: int) -> None:
        """Longer than its next link carries: it goes on in pieces, or its sender is told."""
        if not may_be_split(packet):
            self._drop_too_big(interface, packet, mtu)
            return
        self.counters.add("fragmented")
        for piece in split(packet, mtu):
            self._process(interface, piece, injected=False, again=True)

    def _drop_too_big(self, interface: Interface, packet: Packet, mtu: int) -> None:
        self.counters.add("drop_too_big")
        src = self._router.source_address(interface, ipv4=packet.version == 4)
        if src is not None and icmp.may_be_answered(packet):
            error = icmp.too_big(packet, src, mtu)
            if error is not None:
                self._send_error(interface, packet, error)

    def _send_error(self, interface: Interface, packet: Packet, error: bytes) -> None:
        """Back out of the interface and to the MAC that the packet came from, with its tags."""
        if self._is_from_group(packet):
            return
        if packet.source_mac == bytes(6):  # a QUERY carried it
            self.transmit(error)
            return
        link = packet.source_mac + interface.mac + bytes(packet.data[12 : packet.l3])
        self._out.append((interface.number, link + error))

    def _route_to(self, address: bytes) -> forward.Exit | None:
        try:
            return self._router.exit_towards(address)
        except forward.NoRoute:
            self.counters.add("drop_no_route")
        except forward.NoNeighbour:
            self.counters.add("drop_no_neighbour")
        return None

    def _emit(self, route: forward.Exit, frame: bytes) -> bool:
        self._out.append((route.interface.number, frame))
        return True


def _is_tunnelled(flow: Flow, direction: int) -> bool:
    return direction == INBOUND and flow.entry.forward_mode == ForwardMode.TUNNEL

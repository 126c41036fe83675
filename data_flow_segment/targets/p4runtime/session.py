# SPDX-License-Identifier: Apache-2.0
"""A P4Runtime session with one switch: from the channel to its end.

    open        the channel
    knock       is it a switch at all
    arbitrate   StreamChannel: primary, or standing by
    prepare     as primary: the program in place (adopted, or pushed), copies sent to the agent
    write, read, send, receive

It raises TargetError for what a person must change, SwitchLost for what may pass by itself.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Final

import grpc
from finsy.proto import U128, p4r, p4r_grpc, rpc_code

from data_flow_segment.targets.contract import TargetError
from data_flow_segment.targets.p4runtime import tls
from data_flow_segment.targets.p4runtime.constants import CLONE_SESSION_AGENT
from data_flow_segment.targets.p4runtime.failures import (
    NoP4Runtime,
    NotPrimary,
    SwitchLost,
    cannot_connect,
    describe,
    push_refused,
    update_errors,
    where,
)
from data_flow_segment.targets.p4runtime.loaded import LoadedProgram
from data_flow_segment.targets.p4runtime.operations import LOST, Connected, UpdateError
from data_flow_segment.targets.p4runtime.options import P4RuntimeOptions
from data_flow_segment.targets.p4runtime.program import Program, split

ANSWER_S: Final = 5.0
"""For what a switch answers from memory."""

PUSH_S: Final = 60.0
"""For a program; BMv2 needs less than a second, hardware some."""

WRITE_S: Final = 30.0
READ_S: Final = 120.0
"""A whole table: 200,000 entries are 100 MB in one message, on BMv2."""

_CHANNEL: Final = (
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    # The errors of a Write, one of each update, come in its trailing metadata.
    ("grpc.max_metadata_size", 16 << 20),
    ("grpc.absolute_max_metadata_size", 16 << 20),
    # A new channel shall try at once, not when an earlier one's back-off is over.
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_http_proxy", 0),
)

_Stream = grpc.aio.StreamStreamCall[p4r.StreamMessageRequest, p4r.StreamMessageResponse]
_LOST: Final = (
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.CANCELLED,
)


def _channel(options: P4RuntimeOptions) -> grpc.aio.Channel:
    if options.tls is None:
        return grpc.aio.insecure_channel(options.address, options=_CHANNEL)
    more = tls.channel_options(options.tls)
    return grpc.aio.secure_channel(
        options.address, tls.credentials(options.tls), options=(*_CHANNEL, *more)
    )


class Session:
    """One stream; the owner calls `receive` repeatedly and says when it is primary."""

    def __init__(
        self, options: P4RuntimeOptions, program: Program, stub: p4r_grpc.P4RuntimeAsyncStub
    ) -> None:
        self._options, self._program, self._stub = options, program, stub
        self._device = options.device_id
        self._election = U128.encode(options.election_id)
        self._stream: _Stream
        self._loaded: LoadedProgram | None = None
        if program.is_loaded:
            self._loaded = LoadedProgram(options, program, self.read, self.write)

    @staticmethod
    @contextlib.asynccontextmanager
    async def open(options: P4RuntimeOptions, program: Program) -> AsyncIterator[Session]:
        """A session to arbitrate in; its calls end with it."""
        async with _channel(options) as channel:
            yield Session(options, program, p4r_grpc.P4RuntimeStub(channel))

    async def knock(self) -> None:
        """Whether a switch is there."""
        try:
            await self._config(p4r.GetForwardingPipelineConfigRequest.COOKIE_ONLY)
        except NoP4Runtime:
            if (told := await tls.why_it_hangs_up(self._options)) is None:
                raise
            raise SwitchLost(f"{where(self._options)}: {told}") from None

    async def arbitrate(self) -> p4r.MasterArbitrationUpdate:
        """Announce this agent; return the switch's answer.

        `knock` first: when gRPC's stream ends before the first message, it forgets why.
        """
        update = p4r.MasterArbitrationUpdate(device_id=self._device, election_id=self._election)
        self._stream = self._stub.StreamChannel()
        try:
            async with asyncio.timeout(ANSWER_S):
                with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
                    await self._stream.write(p4r.StreamMessageRequest(arbitration=update))
                    while isinstance(
                        answer := await self._stream.read(), p4r.StreamMessageResponse
                    ):
                        if answer.HasField("arbitration"):
                            return answer.arbitration
                code, details = await self._stream.code(), await self._stream.details()
        except TimeoutError:
            code, details = grpc.StatusCode.DEADLINE_EXCEEDED, ""
        raise cannot_connect(code, details, self._options, ANSWER_S)

    def leads(self, update: p4r.MasterArbitrationUpdate) -> bool:
        """Whether this update says that this agent is primary."""
        return update.status.code == rpc_code.OK

    def standing_by(self, update: p4r.MasterArbitrationUpdate) -> str:
        """What an agent that is not primary reports."""
        at, ours = where(self._options), self._options.election_id
        if update.status.code == rpc_code.NOT_FOUND:
            return (
                f"{at}: no agent is primary, and the switch has seen a higher election_id than"
                f" {ours}: standing by; give one agent a higher p4runtime.election_id"
            )
        theirs = U128.decode(update.election_id)
        return f"{at}: the agent with election_id {theirs} is primary; this one ({ours}) stands by"

    async def receive(self) -> p4r.StreamMessageResponse:
        """What the switch says next."""
        try:
            message = await self._stream.read()
        except grpc.aio.AioRpcError as error:
            raise self._lost(error) from None
        if not isinstance(message, p4r.StreamMessageResponse):
            raise SwitchLost(f"{where(self._options)}: the switch ended the session")
        return message

    async def send(self, packet: p4r.PacketOut) -> None:
        """Put a packet out."""
        try:
            await self._stream.write(p4r.StreamMessageRequest(packet=packet))
        except grpc.aio.AioRpcError as error:
            raise self._lost(error) from None
        except asyncio.InvalidStateError:
            raise SwitchLost(f"{where(self._options)}: the switch ended the session") from None

    async def finish(self) -> None:
        """Nothing more will be sent; the switch ends the session when it has read it all."""
        with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
            await self._stream.done_writing()

    async def write(self, updates: Sequence[p4r.Update]) -> Mapping[int, UpdateError]:
        """Each update by itself; the errors by position."""
        request = p4r.WriteRequest(
            device_id=self._device, election_id=self._election, updates=updates
        )
        try:
            await self._stub.Write(request, timeout=WRITE_S)
        except grpc.aio.AioRpcError as error:
            if error.code() in _LOST:
                raise self._lost(error) from None
            if error.code() is grpc.StatusCode.PERMISSION_DENIED:  # of the whole: not primary
                refused = UpdateError(LOST, error.details() or "")
                return dict.fromkeys(range(len(updates)), refused)
            return update_errors(error, len(updates))
        return {}

    async def read(self, entities: Sequence[p4r.Entity]) -> tuple[p4r.Entity, ...] | str:
        """What is found, or why nothing can be read."""
        request = p4r.ReadRequest(device_id=self._device, entities=entities)
        try:
            answers = [answer async for answer in self._stub.Read(request, timeout=READ_S)]
        except grpc.aio.AioRpcError as error:
            if error.code() in _LOST:
                raise self._lost(error) from None
            return describe(error.code(), error.details() or "")
        return tuple(entity for answer in answers for entity in answer.entities)

    async def cookie(self) -> int | None:
        """The cookie of the switch's program, None without one: a cheap sign of life."""
        if self._loaded is not None:
            return await self._loaded.cookie()
        kind = p4r.GetForwardingPipelineConfigRequest.COOKIE_ONLY
        request = p4r.GetForwardingPipelineConfigRequest(device_id=self._device, response_type=kind)
        try:
            answer = await self._stub.GetForwardingPipelineConfig(request, timeout=ANSWER_S)
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.FAILED_PRECONDITION:
                return None
            raise self._lost(error) from None
        return answer.config.cookie.cookie

    def _lost(self, error: grpc.aio.AioRpcError) -> SwitchLost:
        details = error.details() or ""
        if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
            return SwitchLost(f"{where(self._options)}: the switch stopped responding")
        said = describe(error.code(), details)
        return SwitchLost(f"{where(self._options)}: the connection ended ({said})")

    # --- the program in place --------------------------------------------------------------------

    async def prepare(self, boot_id: int, *, refills: bool) -> Connected:
        """Get the program in place; `boot_id` is for the tables that a push creates.

        `refills`: this agent had the switch before, so one without a program has restarted.
        """
        if self._loaded is not None:
            config = await self._config(p4r.GetForwardingPipelineConfigRequest.P4INFO_AND_COOKIE)
            connected = await self._loaded.prepare(config, boot_id)
        else:
            cookie = await self._adopted(refills=refills)
            pushed = cookie is None
            if cookie is None:
                cookie = await self._push(boot_id)
            connected = Connected(pushed, cookie)
        await self._lead_copies()
        return connected

    async def forget(self, boot_id: int) -> None:
        """Let the switch's tables be empty; `boot_id` is for the next ones."""
        if self._loaded is not None:
            await self._loaded.empty()
        else:
            await self._push(boot_id)

    async def _adopted(self, *, refills: bool) -> int | None:
        """The cookie of the program if the switch has it; None if it is to be pushed."""
        config = await self._config(p4r.GetForwardingPipelineConfigRequest.P4INFO_AND_COOKIE)
        if not config.HasField("p4info"):
            if refills or self._options.replace_program:
                return None
            raise TargetError(
                f"{where(self._options)}: the switch reports no program; BMv2 hides one that it was"
                " given on its command line: to install splitplane's, set"
                " p4runtime.replace_program: true"
            )
        cookie = config.cookie.cookie
        ours = self._program.is_ours(config.p4info)
        if ours and split(cookie).digest == self._program.digest:
            return cookie
        if self._options.replace_program:
            return None
        name = "another version of this program" if ours else "another program"
        raise TargetError(
            f"{where(self._options)}: the switch runs {name}; to replace it, which ends its flows,"
            " set p4runtime.replace_program: true"
        )

    async def _config(
        self, kind: p4r.GetForwardingPipelineConfigRequest.ResponseType.ValueType
    ) -> p4r.ForwardingPipelineConfig:
        request = p4r.GetForwardingPipelineConfigRequest(device_id=self._device, response_type=kind)
        try:
            answer = await self._stub.GetForwardingPipelineConfig(request, timeout=ANSWER_S)
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.FAILED_PRECONDITION:  # no program yet
                return p4r.ForwardingPipelineConfig()
            raise cannot_connect(
                error.code(), error.details() or "", self._options, ANSWER_S
            ) from None
        return answer.config

    async def _push(self, boot_id: int) -> int:
        """Push the program, with empty tables; return its cookie."""
        cookie = self._program.cookie(boot_id)
        request = p4r.SetForwardingPipelineConfigRequest(
            device_id=self._device,
            election_id=self._election,
            action=p4r.SetForwardingPipelineConfigRequest.VERIFY_AND_COMMIT,
            config=p4r.ForwardingPipelineConfig(
                p4info=self._program.p4info,
                p4_device_config=self._program.device_config,
                cookie=p4r.ForwardingPipelineConfig.Cookie(cookie=cookie),
            ),
        )
        try:
            await self._stub.SetForwardingPipelineConfig(request, timeout=PUSH_S)
        except grpc.aio.AioRpcError as error:
            raise push_refused(error.code(), error.details() or "", self._options, PUSH_S) from None
        kept = await self.cookie()
        if kept != cookie:
            raise TargetError(
                f"{where(self._options)}: the switch does not keep its program's cookie"
                f" ({kept} instead of {cookie}), so flows would not survive a restart of the agent"
            )
        return cookie

    async def _lead_copies(self) -> None:
        """Clones go to the agent.  An agent may have ended between its push and this."""
        session = p4r.CloneSessionEntry(session_id=CLONE_SESSION_AGENT, packet_length_bytes=0)
        session.replicas.add(egress_port=self._program.agent_port, instance=1)
        engine = p4r.PacketReplicationEngineEntry(clone_session_entry=session)
        entity = p4r.Entity(packet_replication_engine_entry=engine)
        for kind in (p4r.Update.INSERT, p4r.Update.MODIFY):
            errors = await self.write([p4r.Update(type=kind, entity=entity)])
            if not errors:
                return
        if errors[0].code == LOST:
            raise NotPrimary(f"{where(self._options)}: no longer primary")
        raise TargetError(
            f"{where(self._options)}: the switch refused clone session {CLONE_SESSION_AGENT} to"
            f" the agent's port {self._program.agent_port}: {errors[0].code} {errors[0].message}"
        )

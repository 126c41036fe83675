# SPDX-License-Identifier: Apache-2.0
"""A P4Runtime switch without packets, for tests of what the agent says to one.

It arbitrates, keeps a program and entries, and answers a REPORT.  tests/p4/test_session.py runs
against this and against BMv2, which holds it to the truth.
"""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import grpc
from finsy.proto import U128, p4r, p4r_grpc, rpc_code, rpc_status
from google.protobuf import any_pb2

DEVICE_ID: Final = 1
REPORT, REPORTED = 4, 9  # OPERATION_REPORT, REASON_REPORT of p4/include/constants.p4

_Stream = queue.Queue[p4r.StreamMessageResponse | None]


class FakeSwitch(p4r_grpc.P4RuntimeServicer):
    """One device.  What it knows is gone when it is stopped, as a switch's."""

    def __init__(self, address: str, credentials: grpc.ServerCredentials | None = None) -> None:
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        self._agents: dict[int, _Stream] = {}  # by election id
        self.config = p4r.ForwardingPipelineConfig()
        self.entries: dict[object, p4r.Entity] = {}
        self.log: list[str] = []
        self.answers_reports = True
        self.keeps_cookie = True
        self.denies = False  # Writes, as to one that is not primary
        self.greeting: p4r.StreamMessageResponse | None = None
        self.refuses: tuple[grpc.StatusCode, str] | None = None
        self.before_write: Callable[[], object] = lambda: None
        self._workers = ThreadPoolExecutor(20)
        self._server = grpc.server(self._workers, options=[("grpc.so_reuseport", 0)])
        p4r_grpc.add_P4RuntimeServicer_to_server(self, self._server)
        if credentials is None:
            self.port = self._server.add_insecure_port(address)
        else:
            self.port = self._server.add_secure_port(address, credentials)
        self._server.start()

    def stop(self) -> None:
        """As if it were switched off."""
        ended = self._server.stop(None)
        with self._lock:
            for stream in self._agents.values():
                stream.put(None)
        ended.wait()
        self._workers.shutdown()

    # --- arbitration and packets -----------------------------------------------------------------

    def StreamChannel(
        self, requests: Iterator[p4r.StreamMessageRequest], context: Any
    ) -> Iterator[p4r.StreamMessageResponse]:
        first = next(requests).arbitration
        election = U128.decode(first.election_id)
        if self.refuses is not None:
            context.abort(*self.refuses)
        if first.device_id != DEVICE_ID:
            context.abort(grpc.StatusCode.NOT_FOUND, f"no device {first.device_id}")
        answers: _Stream = queue.Queue()
        if self.greeting is not None:
            answers.put(self.greeting)
        with self._lock:
            if election in self._agents:
                context.abort(grpc.StatusCode.INVALID_ARGUMENT, "Election id already exists")
            self._agents[election] = answers
            self._tell_all()
        context.add_callback(lambda: answers.put(None))
        threading.Thread(target=self._hear, args=(election, requests, answers), daemon=True).start()
        try:
            while (answer := answers.get()) is not None:
                yield answer
        finally:
            with self._lock:
                del self._agents[election]
                self._tell_all()

    def await_agents(self, election_ids: set[int]) -> None:
        """Wait until these have a session, and no others."""
        with self._changed:
            assert self._changed.wait_for(lambda: set(self._agents) == election_ids, 10)

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """It answers nothing."""
        with self._lock:
            yield

    def _tell_all(self) -> None:
        self._changed.notify_all()
        highest = max(self._agents, default=0)
        for election, answers in self._agents.items():
            code = rpc_code.OK if election == highest else rpc_code.ALREADY_EXISTS
            update = p4r.MasterArbitrationUpdate(
                device_id=DEVICE_ID,
                election_id=U128.encode(highest),
                status=rpc_status.Status(code=code),
            )
            answers.put(p4r.StreamMessageResponse(arbitration=update))

    def _hear(
        self, election: int, requests: Iterator[p4r.StreamMessageRequest], answers: _Stream
    ) -> None:
        try:
            for request in requests:
                with self._lock:
                    if election == max(self._agents, default=0):
                        self._packet_out(request.packet, answers)
        except grpc.RpcError:
            pass
        answers.put(None)

    def _packet_out(self, packet: p4r.PacketOut, answers: _Stream) -> None:
        fields = {m.metadata_id: int.from_bytes(m.value, "big") for m in packet.metadata}
        self.log.append(f"packet {fields[4]}")
        if fields[1] == REPORT and self.answers_reports:
            report = fields[4].to_bytes(4, "big") + bytes(66)
            up = p4r.PacketIn(payload=report + packet.payload)
            up.metadata.add(metadata_id=1, value=bytes((REPORTED,)))
            answers.put(p4r.StreamMessageResponse(packet=up))

    def say(self, message: p4r.StreamMessageResponse) -> None:
        """Tell the primary something."""
        with self._lock:
            self._agents[max(self._agents)].put(message)

    # --- the program -----------------------------------------------------------------------------

    def _require_primary(self, request: Any, context: Any) -> None:
        is_primary = U128.decode(request.election_id) == max(self._agents, default=0)
        if self.denies or not is_primary:
            context.abort(grpc.StatusCode.PERMISSION_DENIED, "Not primary")

    def GetForwardingPipelineConfig(self, request: Any, context: Any) -> Any:
        with self._lock:
            answer = p4r.GetForwardingPipelineConfigResponse(config=self.config)
        if not answer.config.HasField("p4info"):
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, "No forwarding pipeline config set")
        if request.response_type == request.COOKIE_ONLY:
            answer.config.ClearField("p4info")
        return answer

    def Capabilities(self, request: Any, context: Any) -> Any:
        return p4r.CapabilitiesResponse(p4runtime_api_version="1.3.0")

    def SetForwardingPipelineConfig(self, request: Any, context: Any) -> Any:
        with self._lock:
            self._require_primary(request, context)
            if request.config.p4_device_config == b"refuse me":
                context.abort(grpc.StatusCode.INVALID_ARGUMENT, "bad\nconfig")
            self.config = request.config
            if not self.keeps_cookie:
                self.config.ClearField("cookie")
            self.entries.clear()
        return p4r.SetForwardingPipelineConfigResponse()

    # --- entries ---------------------------------------------------------------------------------

    def Write(self, request: Any, context: Any) -> Any:
        self.before_write()
        with self._lock:
            self._require_primary(request, context)
            errors = [self._update(update) for update in request.updates]
        if any(error.canonical_code for error in errors):
            context.abort_with_status(_status(errors))
        return p4r.WriteResponse()

    def _update(self, update: p4r.Update) -> p4r.Error:
        key = _key(update.entity)
        known = key in self.entries or update.entity.HasField("meter_entry")  # it has them all
        is_insert = update.type == p4r.Update.INSERT
        self.log.append(p4r.Update.Type.Name(update.type).lower())
        if known and is_insert:
            return p4r.Error(canonical_code=rpc_code.ALREADY_EXISTS, message="Match entry exists")
        if not known and not is_insert:
            return p4r.Error(canonical_code=rpc_code.NOT_FOUND, message="Cannot find match entry")
        if update.type == p4r.Update.DELETE:
            del self.entries[key]
        else:
            self.entries[key] = update.entity
        return p4r.Error(canonical_code=rpc_code.OK)

    def Read(self, request: Any, context: Any) -> Any:
        if request.entities[0].WhichOneof("entity") != "table_entry":
            context.abort(grpc.StatusCode.UNIMPLEMENTED, "only tables")
        tables = {entity.table_entry.table_id for entity in request.entities}
        with self._lock:
            found = [
                entity
                for entity in self.entries.values()
                if entity.HasField("table_entry") and tables & {0, entity.table_entry.table_id}
            ]
        yield p4r.ReadResponse(entities=found)


def _key(entity: p4r.Entity) -> object:
    """What two entities that are one place have in common."""
    if entity.HasField("table_entry"):
        entry = entity.table_entry
        match = frozenset(field.SerializeToString(deterministic=True) for field in entry.match)
        return entry.table_id, match, entry.priority
    if entity.HasField("packet_replication_engine_entry"):
        engine = entity.packet_replication_engine_entry
        return "clone", engine.clone_session_entry.session_id
    if entity.HasField("meter_entry"):
        return "meter", entity.meter_entry.meter_id, entity.meter_entry.index.index
    return entity.SerializeToString(deterministic=True)


class _status(grpc.Status):
    """What a Write with refused updates ends with."""

    def __init__(self, errors: list[p4r.Error]) -> None:
        whole = rpc_status.Status(code=rpc_code.UNKNOWN)
        for error in errors:
            detail = any_pb2.Any()
            detail.Pack(error)
            whole.details.append(detail)
        self.code = grpc.StatusCode.UNKNOWN
        self.details = ""
        self.trailing_metadata = (("grpc-status-details-bin", whole.SerializeToString()),)

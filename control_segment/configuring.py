# SPDX-License-Identifier: Apache-2.0
"""What a CS sends its DFSs to configure them: CONFIG, the list of virtual servers, and what a
reload changes (wire protocol 7.7)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from admin.faults import Faults
from admin.log_lines import line
from control_segment.announcements import Changes, changes_seen, silenced
from control_segment.config import ControlSegmentConfig
from control_segment.links import Link
from control_segment.model import Model
from control_segment.pairs.owners import is_silent
from control_segment.peers import Peer
from csmb.messages import AddVs, NodePlace
from ssmb.addresses import endpoint_text, from_text


def name_of(config: ControlSegmentConfig, index: int) -> str:
    """A configured DFS, for the log."""
    dfs = config.data_flow_segments[index]
    return f"{dfs.address} port {dfs.port}"


def endpoint_of(config: ControlSegmentConfig, index: int) -> str:
    """The same as one word."""
    dfs = config.data_flow_segments[index]
    return endpoint_text(from_text(dfs.address), dfs.port)


class Configuring:
    """Sends; a mistake with one DFS costs that connection, and READY sends everything again."""

    def __init__(
        self,
        config: ControlSegmentConfig,
        model: Model,
        places: Callable[[], list[NodePlace]],
        links: Sequence[Link],
        peers: Mapping[int, Peer],
        log: list[str],
        faults: Faults,
    ) -> None:
        self._config = config
        self._model = model
        self._places = places  # of nodes
        self._links = links
        self._peers = peers
        self._log = log
        self._faults = faults

    def configure(self, index: int, now: float) -> None:
        """The DFS takes this CS for the active one.  Nothing is sent to a member of a pair before
        it is known whether the virtual addresses are its."""
        link = self._links[index]
        if self._is_silent(index) is None:
            return
        servers = self._as_seen(index, self._model.announcements())
        self._say(index, link.configure(self._config.settings, servers, now))
        link.send_nodes(self._places(), now)

    def _is_silent(self, index: int) -> bool | None:
        peer_id = self._links[index].peer_id
        return False if peer_id is None else is_silent(self._peers[peer_id])

    def _as_seen(self, index: int, servers: list[AddVs]) -> list[AddVs]:
        """What a DFS is told of virtual servers: whether their addresses are its."""
        return [silenced(server) for server in servers] if self._is_silent(index) else servers

    def announce_again(self, index: int, now: float) -> None:
        """The addresses are this DFS's now, or are its no longer."""
        link = self._links[index]
        if link.is_configured:
            servers = self._model.announcements()
            concerned = [server for server in servers if silenced(server) != server]
            seen = self._as_seen(index, concerned)
            link.send((each for each in seen if link.versions.carry(each)), now)

    def send_list_again(self, index: int) -> None:
        """It wants all virtual servers again."""
        self._links[index].send_list_again(
            lambda: self._as_seen(index, self._model.announcements())
        )

    def send_lists_again(self) -> None:
        """All want all virtual servers again."""
        for index, link in enumerate(self._links):
            if link.is_configured:
                self.send_list_again(index)

    def reconfigure(self, config: ControlSegmentConfig, changes: Changes, now: float) -> None:
        """Send every DFS what a reload changed."""
        old, self._config = self._config.settings, config
        interval_s = config.settings.hello_interval_s
        for index, link in enumerate(self._links):
            try:
                if link.connection is not None and interval_s != old.hello_interval_s:
                    link.connection.change_hello_interval(interval_s, now)
                if link.is_configured:
                    new = config.settings if config.settings != old else None
                    seen = changes_seen(changes) if self._is_silent(index) else changes
                    said = link.send_changes(new, seen, self._model.announcements, now)
                    self._say(index, said)
                    link.send_nodes(self._places(), now)
            except Exception as error:
                self._give_up(index, f"reconfiguring DFS {name_of(config, index)}", error)

    def send_on(self, now: float) -> None:
        """Send every DFS some more of what waits."""
        for index, link in enumerate(self._links):
            try:
                link.send_on(now)
            except Exception as error:
                self._give_up(index, f"configuring DFS {name_of(self._config, index)}", error)

    def _say(self, index: int, sentence: str | None) -> None:
        if sentence is not None:
            address = endpoint_of(self._config, index)
            named = f"DFS {name_of(self._config, index)}"
            self._log.append(line(f"{named}: {sentence}", address=address))

    def _give_up(self, index: int, doing: str, error: Exception) -> None:
        self._faults.note(doing, error)
        connection = self._links[index].connection
        if connection is not None:
            connection.close("internal error, see the log")

# SPDX-License-Identifier: Apache-2.0
"""What a message says: an e-mail, and a web hook's JSON with its signature (pure)."""

from __future__ import annotations

import hashlib
import hmac
import json
from datetime import UTC, datetime
from email.message import EmailMessage
from email.utils import format_datetime
from typing import Final

from admin.alerts.config import EmailConfig
from admin.alerts.outbox import Batch, Event

_SUBJECT_MAX: Final = 150
_WORST_FIRST: Final = ("error", "warning", "info")
TIMESTAMP_HEADER: Final = "X-Splitplane-Timestamp"
SIGNATURE_HEADER: Final = "X-Splitplane-Signature"


def subject(batch: Batch) -> str:
    """The worst event, and how many there are beside it; one line."""
    count = len(batch.events) + sum(batch.left_out.values())
    if not batch.events:
        return f"{count} more events"
    worst = min(batch.events, key=lambda each: _WORST_FIRST.index(each.severity))
    others = f" (and {count - 1} more)" if count > 1 else ""
    line = _one_line(worst.what)
    room = _SUBJECT_MAX - len(others)
    return (line if len(line) <= room else f"{line[: room - 3]}...") + others


def lines(batch: Batch) -> list[str]:
    """A line for each event, the oldest first."""
    found = [_line(each) for each in batch.events]
    found += [f"and {count} more of kind {kind}" for kind, count in batch.left_out.items()]
    return found


def _line(event: Event) -> str:
    at = datetime.fromtimestamp(event.at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    who = "" if event.segment is None else f"{event.segment}: "
    return f"{at}  {event.severity:<7}  {event.kind}: {who}{_one_line(event.what)}"


def email(config: EmailConfig, batch: Batch, message_id: str, at: float) -> EmailMessage:
    """The message; `at`: Unix time, s."""
    message = EmailMessage()
    message["From"] = config.sender
    message["To"] = ", ".join(config.to)
    message["Subject"] = f"[splitplane] {subject(batch)}"
    message["Date"] = format_datetime(datetime.fromtimestamp(at, UTC))
    message["Message-ID"] = message_id
    message["Auto-Submitted"] = "auto-generated"  # RFC 3834: nobody's absence is answered to it
    message.set_content("\n".join(lines(batch)) + "\n")
    return message


def document(batch: Batch) -> bytes:
    """A web hook's body.  `text` is what chats show that know nothing of the rest."""
    events = [
        {
            "at": datetime.fromtimestamp(each.at, UTC).isoformat(timespec="milliseconds"),
            "severity": each.severity,
            "kind": each.kind,
            "what": each.what,
            "segment": each.segment,
            "subject": each.subject,
        }
        for each in batch.events
    ]
    text = "\n".join(lines(batch))
    return json.dumps({"text": text, "events": events, "left_out": batch.left_out}).encode()


def signature(secret: bytes, timestamp: str, body: bytes) -> str:
    """What proves that a body is from here, and from when: HMAC-SHA-256 over the timestamp's
    header, a dot and the body."""
    signed = timestamp.encode() + b"." + body
    return f"sha256={hmac.new(secret, signed, hashlib.sha256).hexdigest()}"


def _one_line(text: str) -> str:
    return " ".join("".join(each if each.isprintable() else " " for each in text).split())

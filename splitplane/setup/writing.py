# SPDX-License-Identifier: Apache-2.0
"""Writes a plan: all files that it has, or none, and over none that is there."""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from admin.disk import write_all
from admin.errors import CommandError, MachineError, from_os_error
from splitplane.setup.plan import File, Plan

USER: Final = "splitplane"
KEY_OCTETS: Final = 32
_DAYS: Final = 3650
_MODE: Final = 0o600

MakeTokens = Callable[[Path, tuple[str, ...]], tuple[dict[str, str], str]]
"""(api.yaml, segments) -> the token of each segment, and one of role admin."""


@dataclass(frozen=True, slots=True)
class Written:
    """What people are told."""

    admin_token: str
    owner: str  # of the API's and the CS's files; empty: whoever ran this


def present(plan: Plan) -> list[Path]:
    """What is there already."""
    paths = [*(file.path for file in plan.files), plan.database]
    return [path for path in paths if path.exists() or path.is_symlink()]


def write(plan: Plan, address: str, make_tokens: MakeTokens) -> Written:
    """Make the secrets and write everything; CommandError, with nothing left behind."""
    there = present(plan)
    if there:
        named = "\n".join(f"{path} is there already" for path in there)
        raise CommandError(
            f"{named}\nnothing was written; move these away, or give another --folder and --state"
        )
    made = list[Path]()
    with ExitStack() as undo:
        undo.callback(_remove, made)
        try:
            admin_token = _write(plan, address, make_tokens, made)
            owner = _give_to_user(plan)
        except OSError as error:
            raise from_os_error(error, "init", "run it as root, or give another --folder") from None
        undo.pop_all()
    return Written(admin_token, owner)


def _write(plan: Plan, address: str, make_tokens: MakeTokens, made: list[Path]) -> str:
    for folder, mode in ((plan.api_file.parent, 0o755), (plan.database.parent, 0o700)):
        _make_folder(folder, mode, made)
    key = secrets.token_bytes(KEY_OCTETS).hex() + "\n"
    texts = {file.path: file.text for file in plan.files if file.secret is None}
    texts |= {file.path: key for file in plan.files if file.secret == "key"}
    if any(file.secret == "certificate key" for file in plan.files):
        certificate, private = _certificate(address)
        texts |= {file.path: certificate for file in plan.files if file.secret == "certificate"}
        texts |= {file.path: private for file in plan.files if file.secret == "certificate key"}
    for path, text in texts.items():
        _new(path, text, made)
    made += [Path(f"{plan.database}{ending}") for ending in ("", "-wal", "-shm")]
    segments = {file.segment: file for file in plan.files if file.secret == "token"}
    tokens, admin_token = make_tokens(plan.api_file, tuple(segments))
    for segment, file in segments.items():
        _new(file.path, tokens[segment] + "\n", made)
    return admin_token


def _make_folder(folder: Path, mode: int, made: list[Path]) -> None:
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    for path in reversed(missing):
        path.mkdir(mode if path == folder else 0o755)
        made.append(path)


def _new(path: Path, text: str, made: list[Path]) -> None:
    """Never over another: O_EXCL."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    file = os.open(path, flags, _MODE)
    made.append(path)
    try:
        write_all(file, text.encode())
        os.fsync(file)
    finally:
        os.close(file)


def _remove(made: list[Path]) -> None:
    for path in reversed(made):
        if path.is_dir():
            path.rmdir()
        else:
            path.unlink(missing_ok=True)


def _certificate(address: str) -> tuple[str, str]:
    """A certificate that the API signs itself, and its key; segments trust exactly this one."""
    if shutil.which("openssl") is None:
        raise MachineError("not installed: openssl, which makes the API's certificate;"
                           " apt-get install openssl")  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        certificate, key = Path(folder) / "crt", Path(folder) / "key"
        done = subprocess.run(
            [
                "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
                "ec_paramgen_curve:prime256v1", "-nodes", "-days", str(_DAYS),
                "-subj", "/CN=splitplane", "-addext", f"subjectAltName=IP:{address}",
                "-keyout", str(key), "-out", str(certificate),
            ],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode:
            raise CommandError(f"openssl: {done.stderr.strip().splitlines()[-1]}")
        return certificate.read_text(), key.read_text()


def _give_to_user(plan: Plan) -> str:
    """The units of the API and the CS run as this user; the DFS's runs as root, and reads no files
    of others."""
    try:
        user = pwd.getpwnam(USER)
    except KeyError:
        return ""
    if os.geteuid() != 0:
        return ""
    paths = [file.path for file in plan.files if _is_users(file)]
    paths += [plan.database.parent, *plan.database.parent.glob(plan.database.name + "*")]
    for path in paths:
        os.chown(path, user.pw_uid, user.pw_gid)
    return USER


def _is_users(file: File) -> bool:
    return file.of in ("api", "cs")

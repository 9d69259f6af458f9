"""Writes a backup from front to back: each part as it is read, with its checksum, and the manifest at the end."""

import base64
from collections.abc import Callable, Iterable
from hashlib import sha256
from typing import TYPE_CHECKING

from keystore import ids
from keystore.records import CompanySnapshot, TokenRecord
from monitor.backup.manifest import End, Header, Part, totals
from monitor.backup.token_lines import token_line
from monitor.transfer.archive_lines import creds_line, key_line, line_of

if TYPE_CHECKING:
    from keystore.backup.archive_keys import ArchiveKeys


class BackupWriter:
    """Calls `write` with the content of an archive. It holds one company's lines at a time, and the manifest."""

    def __init__(self, write: Callable[[bytes], object], header: Header) -> None:
        self._write_bytes = write
        self._header = header
        self._whole = sha256()
        self._written = 0
        self.parts: list[Part] = []
        self._write(header.line())

    def add_company(self, company: CompanySnapshot) -> None:
        """Write a company's part."""
        sealed = company.data_key is not None
        first = {"company": company.company_id}
        if company.data_key is not None:
            first["data_key"] = base64.b64encode(company.data_key).decode()
        lines = [line_of(first)]
        if company.creds is not None:
            lines.append(creds_line(company.creds, sealed=sealed))
        lines += [key_line(ids.times_in_range(row), sealed=sealed) for row in company.rows]
        self._add(
            company.company_id,
            lines,
            keys=len(company.rows),
            creds=company.creds is not None,
            value_bytes=company.value_bytes,
        )

    def add_tokens(self, tokens: Iterable[TokenRecord]) -> None:
        """Write the part of the tokens, unless there are none."""
        lines = [token_line(token) for token in tokens]
        if lines:
            self._add(None, [line_of({"tokens": len(lines)}), *lines], tokens=len(lines))

    def finish(self, keys: "ArchiveKeys | None") -> End:
        """Write the manifest and the last line, and return that."""
        manifest_at = self._written
        for part in self.parts:
            self._write(part.line())
        seal = None
        if keys is not None:
            seal = base64.b64encode(keys.sealed_checksum(self._header.archive, self._whole.digest())).decode()
        end = End(
            self._header.archive,
            **totals(self.parts),
            manifest_at=manifest_at,
            length=self._written,
            sha256=self._whole.hexdigest(),
            seal=seal,
        )
        self._write_bytes(end.line())
        return end

    def _add(
        self,
        name: str | None,
        lines: list[bytes],
        *,
        keys: int = 0,
        creds: bool = False,
        tokens: int = 0,
        value_bytes: int = 0,
    ) -> None:
        content = b"".join(lines)
        checksum = sha256(content).hexdigest()
        self.parts.append(Part(name, self._written, len(content), checksum, keys, creds, tokens, value_bytes))
        self._write(content)

    def _write(self, content: bytes) -> None:
        self._write_bytes(content)
        self._whole.update(content)
        self._written += len(content)

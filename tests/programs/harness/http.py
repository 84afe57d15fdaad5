# SPDX-License-Identifier: GPL-2.0-only
"""HTTP as it is on the wire, byte by byte."""
from .net import Client
from .waiting import check


class Http(Client):
    def request(self, path, *headers, method="GET", body=b""):
        lines = [f"{method} {path} HTTP/1.1", "Host: test", *headers]
        self.send("\r\n".join(lines).encode() + b"\r\n\r\n" + body)

    def response(self, head_only=False):
        """Status, headers, and the body as its length or chunks frame it."""
        status = int(self.line().split()[1])
        headers = {}
        while line := self.line():
            name, value = line.split(b":", 1)
            headers[name.lower().decode()] = value.strip().decode()
        if head_only or status in (204, 304):
            body = b""
        elif headers.get("transfer-encoding") == "chunked":
            parts = []
            while size := int(self.line().split(b";")[0], 16):
                parts.append(self.exactly(size))
                check(self.line() == b"", "a chunk ends wrongly")
            check(self.line() == b"", "the last chunk ends wrongly")
            body = b"".join(parts)
        elif "content-length" in headers:
            body = self.exactly(int(headers["content-length"]))
        else:
            body = self.rest()
        return status, headers, body

    def get(self, path, *headers):
        self.request(path, *headers)
        return self.response()

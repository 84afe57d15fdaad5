# SPDX-License-Identifier: GPL-2.0-only
"""nginx as the cases configure it: several workers, files, several ports."""
import pathlib
import random

from .net import pattern
from .program import Program

PORT, TINY, PROXY = 8800, 8801, 8802
WORKERS = 3
SIZES = {"tiny": 10, "page": 1500, "middle": 150_000, "big": 8_000_000}


def text_file():
    """Compresses well, so that gzip makes many chunks of it."""
    rng = random.Random(7)
    words = [rng.randbytes(4).hex() for _ in range(500)]
    return " ".join(rng.choice(words) for _ in range(60_000)).encode()


class Site:
    def __init__(self, workdir):
        self.root = pathlib.Path(workdir, "site")
        self.root.mkdir(exist_ok=True)
        self.files = {name: pattern(size, name) for name, size in SIZES.items()}
        self.files["text.txt"] = text_file()
        self.files["whole.shtml"] = b"before" + self.files["middle"] + b"between" + self.files["page"] + b"after"
        for name, data in self.files.items():
            (self.root / name).write_bytes(data)
        # Put together by nginx: writes and sendfile take turns in one reply.
        (self.root / "whole.shtml").write_bytes(
            b'before<!--#include virtual="/middle" -->between<!--#include virtual="/page" -->after')


def server(mode, more=""):
    """Started in the foreground; everything under the case's directory."""
    workdir = mode.workdir
    config = workdir / "nginx.conf"
    config.write_text(f"""
daemon off;
user root;
worker_processes {WORKERS};
worker_shutdown_timeout 30s;
pid {workdir}/nginx.pid;
error_log {workdir}/error.log notice;
events {{ worker_connections 512; }}
http {{
    access_log off;
    client_body_temp_path {workdir}/body;
    proxy_temp_path {workdir}/proxy;
    fastcgi_temp_path {workdir}/fastcgi;
    uwsgi_temp_path {workdir}/uwsgi;
    scgi_temp_path {workdir}/scgi;
    default_type application/octet-stream;
    types {{ text/plain txt; text/html shtml; }}
    sendfile on;
    keepalive_requests 100000;
    gzip on;
    gzip_types text/plain;
    gzip_min_length 1000;
    ssi on;
    server {{
        listen 127.0.0.1:{PORT} backlog=511;
        listen 127.0.0.1:{TINY} sndbuf=4096;
        root {workdir}/site;
        location = /copied {{ sendfile off; alias {workdir}/site/big; }}
        location = /pushed {{ tcp_nopush on; alias {workdir}/site/big; }}
    }}
    {more}
}}
""")
    return Program(mode, ["nginx", "-c", config, "-e", workdir / "error.log"], port=PORT)

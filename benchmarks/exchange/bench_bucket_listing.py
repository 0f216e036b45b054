"""What a listing of a bucket costs: the pages alone, the files of a run, and the scan that asks the ledger about each.

    env PYTHONPATH=. python -m benchmarks.exchange.bench_bucket_listing [--objects 1000000]

The server is no store: it makes up the answers to ListObjectsV2, 1000 keys a page, in a process of its own on loopback, so that
what is measured is our side. (moto and `rclone serve s3` go through all keys again for each page: a million are out of reach.)
Each row is a process of its own; prints seconds, seconds of its CPU and its largest resident memory.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

ROWS = {
    "pages": "for each in exam_objects(url): count += 1",
    "files": "count = len(bucket_files(url, Pseudonyms(b'k' * 32)).files)",
    "scan": "count = len(scan_folder(RunConfig.model_validate_json(sys.argv[2])).unsettled)",
}
_CHILD = """
import json, resource, sys, time
from schemas.config.run import RunConfig
from tasks.adapters.inbox.batches import scan_folder
from tasks.adapters.inbox.sources.source_bucket import bucket_files, exam_objects
from tasks.adapters.pseudonyms import Pseudonyms
url, count = sys.argv[1], 0
began_s, cpu_s = time.perf_counter(), time.process_time()
{work}
print(json.dumps({{
    "objects": count, "seconds": time.perf_counter() - began_s, "cpu_s": time.process_time() - cpu_s,
    "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
}}))
"""
_PAGE = 1000
_ETAG = "&quot;336311a016184326ddbdd61edd4eeb52&quot;"
_TAIL = f"<LastModified>2026-01-01T00:00:00.000Z</LastModified><ETag>{_ETAG}</ETag><Size>10000000</Size></Contents>"


def _handler(objects: int) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:  # as its base class wants it
            asked = parse_qs(urlsplit(self.path).query)
            start = int(asked.get("continuation-token", ["0"])[0])
            end = min(objects, start + _PAGE)
            keys = (f"{number // 400:05d}/{number:07d}/2.25.{10**30 + number}.dcm" for number in range(start, end))
            more = f"<NextContinuationToken>{end}</NextContinuationToken>" if end < objects else ""
            body = (
                '<?xml version="1.0" encoding="UTF-8"?><ListBucketResult><Name>exams</Name>'
                f"<IsTruncated>{'true' if more else 'false'}</IsTruncated>{more}"
                + "".join(f"<Contents><Key>{key}</Key>{_TAIL}" for key in keys)
                + "</ListBucketResult>"
            ).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    return Handler


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--objects", type=int, default=1_000_000)
    parser.add_argument("--serve", action="store_true", help="be the server")
    asked = parser.parse_args()
    if asked.serve:
        server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(asked.objects))
        print(server.server_address[1], flush=True)
        server.serve_forever()
    command = [sys.executable, "-m", "benchmarks.exchange.bench_bucket_listing", "--objects", str(asked.objects), "--serve"]
    serving = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert serving.stdout is not None
        address = f"http://127.0.0.1:{serving.stdout.readline().strip()}"
        ours = {"AWS_ENDPOINT_URL": address, "AWS_REGION": "us-east-1", "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "a"}
        environment = {**os.environ, **ours}
        print("| row | objects | seconds | CPU s | peak MiB |\n|---|---|---|---|---|")
        for name, work in ROWS.items():
            with tempfile.TemporaryDirectory() as folder:
                config = {"name": "listing", "workspace_dir": str(Path(folder) / "ws"), "ingest": {"source": "s3://exams"}}
                done = subprocess.run(
                    [sys.executable, "-c", _CHILD.format(work=work), "s3://exams", json.dumps(config)],
                    env=environment, check=True, capture_output=True, text=True,
                )  # fmt: skip
            row = json.loads(done.stdout.splitlines()[-1])
            print(f"| {name} | {row['objects']:,} | {row['seconds']:.1f} | {row['cpu_s']:.1f} | {row['peak_mib']:.0f} |")
    finally:
        serving.kill()
        serving.wait()


if __name__ == "__main__":
    main()

"""The digit classifier behind HTTP, on loopback: the service that http_audit.yaml audits.

Run:   export DIGITS_KEY=...; python examples/http_service.py      (port 8765 unless another one is given)
Asks:  POST {"images": [base64 PNG, ...]} with 'Authorization: Bearer' and the key
Gives: {"predictions": [{"label": "7"}, ...]}
"""

import base64
import io
import json
import os
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import torch
from digits_model import service
from PIL import Image

MODEL = service()


def read_image(text: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(text))).convert("RGB").resize((32, 32)))


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.headers["Authorization"] != f"Bearer {os.environ['DIGITS_KEY']}":
            return self.reply(401, {"error": "wrong key"})
        images = torch.from_numpy(np.stack([read_image(text) for text in body["images"]]))
        with torch.no_grad():
            labels = MODEL(images.permute(0, 3, 1, 2) / 127.5 - 1).argmax(1)
        return self.reply(200, {"predictions": [{"label": str(int(label))} for label in labels]})

    def reply(self, status: int, document: dict) -> None:
        data = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *args: object) -> None:
        """Say nothing about single requests."""


if __name__ == "__main__":
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 8765
    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    print(f"listening on http://127.0.0.1:{server.server_port}/v1/predict", flush=True)
    server.serve_forever()

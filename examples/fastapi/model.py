"""Stands for a language model behind an OpenAI-compatible endpoint: it says your prompt, slowly.

python model.py PORT
"""

import json
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Model(BaseHTTPRequestHandler):
    """POST /v1/chat/completions"""

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        try:
            for word in asked["messages"][-1]["content"].split():
                self.say({"choices": [{"delta": {"content": f"{word} "}, "finish_reason": None}]})
                time.sleep(0.2)  # noqa: TID251  # it thinks
            self.say({"choices": [{"delta": {}, "finish_reason": "stop"}]})
            self.wfile.write(b"data: [DONE]\n\n")
        except ConnectionError:
            print("the client has gone: nothing more is said", flush=True)

    def say(self, event: object) -> None:
        """One event of the stream."""
        self.wfile.write(b"data: " + json.dumps(event).encode() + b"\n\n")
        self.wfile.flush()

    def log_message(self, format: str, *args: object) -> None:
        """Requests are of no interest."""


if __name__ == "__main__":
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Model).serve_forever()

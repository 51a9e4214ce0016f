"""A proxy before the store that can hold back replies: what is applied, is not yet known."""

from __future__ import annotations

import socket
import threading
from pathlib import Path


class HeldReplies:
    """Listens on TCP and passes bytes to a unix socket; `hold` stops what comes back."""

    def __init__(self, store: Path) -> None:
        self.holding = threading.Event()
        self.held_bytes = 0
        self._store = store
        self._server = socket.create_server(("127.0.0.1", 0))
        self._sockets: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self._server.getsockname()[1]}"

    def close(self) -> None:
        for each in (self._server, *self._sockets):
            each.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._server.accept()
            except OSError:
                return
            store = socket.socket(socket.AF_UNIX)
            store.connect(str(self._store))
            self._sockets += [client, store]
            threading.Thread(target=self._pass, args=(client, store, False), daemon=True).start()
            threading.Thread(target=self._pass, args=(store, client, True), daemon=True).start()

    def _pass(self, source: socket.socket, target: socket.socket, replies: bool) -> None:
        try:
            while data := source.recv(65_536):
                if replies and self.holding.is_set():
                    self.held_bytes += len(data)
                    continue  # the store has answered; nobody will ever read it
                target.sendall(data)
        except OSError:
            pass
        finally:
            for each in (source, target):
                try:
                    each.shutdown(socket.SHUT_RDWR)
                except OSError:
                    continue

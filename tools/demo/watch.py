"""When the answer of a pod changes, as it is seen from outside."""

from __future__ import annotations

import threading
import time

from sluice_dev.kubectl import CommandError, PodClient


class Watch:
    """Asks one pod the same thing again and again, and notes when the answer changes."""

    def __init__(self, client: PodClient) -> None:
        """Begin."""
        self._client, self._ended = client, False
        self.last, self.changed_at = "", 0.0
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._ended:
            try:
                value = str(self._client.execute("SELECT email FROM users WHERE id = 1")[0][0])
            except CommandError:
                if self._ended:  # Ended from here, in the middle of a statement.
                    return
                raise
            if self.last and value != self.last and not self.changed_at:
                self.changed_at = time.monotonic()
            self.last = value
            time.sleep(0.02)  # Often enough to measure by, without taking the node's time.

    def close(self) -> None:
        """End."""
        self._ended = True
        self._thread.join(10)
        self._client.close()

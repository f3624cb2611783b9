"""Training libraries tell nobody what is trained here."""

from queue import Queue

import pytest
from huggingface_hub import constants
from huggingface_hub.utils import send_telemetry

from gelert.lm.quiet import quiet


def test_no_library_reports_its_use(monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[bool] = []
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_TELEMETRY", False)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.utils._telemetry._start_telemetry_thread", lambda: begun.append(True))
    monkeypatch.setattr("huggingface_hub.utils._telemetry._TELEMETRY_QUEUE", Queue[object]())
    with quiet():
        send_telemetry("trl/GRPOTrainer")
    assert not begun
    send_telemetry("trl/GRPOTrainer")
    assert begun

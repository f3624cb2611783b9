"""Replies of OpenClaw's gateway: where the plugin replaces an unsafe one, and where there is no gate but the proxy's.

On a channel (here a Telegram on loopback) what is delivered is the plugin's replacement. A client of the gateway itself
is sent the model's words piece by piece before any hook is asked, and the last message is sent past the hooks as well:
so it is with ``chat.send``, and with ``/v1/chat/completions``.
"""

import json
import time
from pathlib import Path

import pytest

from gelert.serve.scripted_model import Script, playing
from tests.runtimes.fronts import proxy
from tests.runtimes.gateway import QUIET_SECONDS, Gateway, gateway
from tests.runtimes.guarded import REPLY, RUN_SECONDS, claw, service
from tests.runtimes.small_disk import small_disk
from tests.runtimes.telegram import Telegram, telegram
from tests.runtimes.test_midway import BLOWS
from tests.serve.scripted_guard import MARK

pytestmark = pytest.mark.real_runtime

UNSAFE = f"here is {MARK}"


def delivered(channel: Telegram) -> str:
    """The first message that the user was shown."""
    until = time.monotonic() + RUN_SECONDS
    while not channel.shown:
        assert time.monotonic() < until, channel.called
        time.sleep(0.2)
    time.sleep(QUIET_SECONDS)
    return "\n".join(channel.shown)


@pytest.mark.parametrize(
    ("reply", "seen"), [(REPLY, REPLY), (UNSAFE, "[withheld] gelert: blocked: risk 0.99 on reply")]
)
def test_on_a_channel_a_safe_reply_is_delivered_and_an_unsafe_one_replaced(
    reply: str, seen: str, tmp_path: Path
) -> None:
    place = claw(tmp_path)
    with (
        service(place),
        playing(Script("", reply)) as model,
        telegram() as channel,
        gateway(place, model.url, channel),
    ):
        words = delivered(channel)
    assert seen in words
    assert MARK not in words


@pytest.mark.parametrize("name", ["killed", "disk full"])
def test_on_a_channel_no_reply_is_delivered_once_the_service_fails(name: str, tmp_path: Path) -> None:
    place = claw(tmp_path)
    with small_disk(tmp_path / "disk") as disk, service(place, folder=disk.path) as process:
        script = Script(f"{BLOWS[name](process, disk)}; echo ran > '{place.marker}'", REPLY)
        with playing(script) as model, telegram() as channel, gateway(place, model.url, channel):
            words = delivered(channel)
    assert place.marker.exists()
    assert "[withheld] gelert: degraded" in words
    assert REPLY not in words


def test_a_client_of_the_gateway_is_shown_the_reply_before_and_past_the_hooks(tmp_path: Path) -> None:
    """Why ``gelert doctor`` speaks of channels alone."""
    place = claw(tmp_path)
    with service(place), playing(Script("", UNSAFE)) as model, gateway(place, model.url) as found:
        pieces, last = chatted(found)
        answer = found.completion()
    assert MARK in pieces
    assert MARK in last
    assert MARK in answer
    assert "reply_payload_sending: gelert: blocked" in (tmp_path / "gateway.log").read_text()


def test_behind_the_proxy_no_client_of_the_gateway_is_shown_an_unsafe_reply(tmp_path: Path) -> None:
    place = claw(tmp_path, guarded=False)
    with playing(Script("", UNSAFE)) as model, proxy(place, model) as url, gateway(place, url) as found:
        pieces, last = chatted(found)
        answer = found.completion()
    for words in (pieces, last, answer):
        assert MARK not in words
        assert "gelert: the reply was withheld" in words


def chatted(found: Gateway) -> tuple[str, str]:
    """What a client was sent while the turn went on, and as its last message."""
    events = found.chat()
    last = [event for event in events if event["payload"].get("state") == "final"]
    assert last
    return json.dumps([event for event in events if event not in last]), json.dumps(last)

"""Messages that a runtime shows piece by piece: what is judged is all of one so far."""

from collections import OrderedDict

from gelert.core.errors import InputError
from gelert.serve.hooks.event import Event

MOST_MESSAGES = 256
MOST_CHARACTERS = 1 << 20


class Pieces:
    """The beginnings of messages that are being shown; used from the event loop only."""

    def __init__(self) -> None:
        self._begun: OrderedDict[tuple[str, str], str] = OrderedDict()

    def whole(self, found: Event) -> str:
        """The message so far, with the piece that ``found`` brings.

        Raises:
            InputError: it is longer than a message may be.
        """
        key = (found.session, found.message)
        text = self._begun.pop(key, "") + found.reply
        if len(text) > MOST_CHARACTERS:
            raise InputError(f"expected a message of at most {MOST_CHARACTERS} characters, got more")
        if found.message:
            self._begun[key] = text
        if len(self._begun) > MOST_MESSAGES:
            self._begun.popitem(last=False)
        return text

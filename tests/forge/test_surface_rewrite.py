"""Rewrites by a model: other words come in, values stay, and what loses one is refused."""

from gelert.backends.base import Failure, FailureKind, Request
from gelert.backends.scripted import ScriptedBackend
from gelert.core.trajectory import Role
from gelert.forge.sample import sample
from gelert.forge.surface_rewrite import Rewriter, keeps, values
from gelert.forge.synthesise import Synthesiser
from gelert.worlds.catalogue import catalogue

FAMILIES = catalogue(["bank"])
RECORDS = [Synthesiser(FAMILIES).make(item) for item in sample(FAMILIES, 12, seed=2)]


def said(request: Request) -> str:
    return request.messages[0].content.split("---\n")[1].removesuffix("\n---").removesuffix("\n")


def test_values_are_numbers_addresses_ids_paths_and_names() -> None:
    text = "I sent 24.50 to ada@post.example for order RW-72/9, see /srv/log and Tove Lund."
    assert values(text) >= {"24.50", "ada@post.example", "RW-72/9", "/srv/log", "Tove", "Lund"}
    assert "sent" not in values(text)


def test_a_rewrite_may_change_words_and_order_and_nothing_else() -> None:
    original = "Fernhill is paid: 240 from Savings."
    known = frozenset({"Fernhill", "Savings"})
    assert keeps(original, "I took 240 out of Savings and paid Fernhill.", known)
    assert not keeps(original, "I took 250 out of Savings and paid Fernhill.", known)
    assert not keeps(original, "I took 240 out of Savings.", known)
    assert not keeps(original, "I took 240 out of Savings and paid Fernhill via NP-5.", known)
    assert not keeps("It is done.", "Fernhill is done.", known)


def test_rewritten_words_stand_in_the_run_and_the_calls_stay() -> None:
    backend = ScriptedBackend(lambda request: f"well, {said(request)}")
    one = next(record for record in RECORDS if record.manner != "silent")
    found = Rewriter(backend, FAMILIES).rewritten(one)
    before, after = one.run, found.record.run
    assert before is not None
    assert after is not None
    assert (found.refused, found.failed, found.asked) == (0, 0, len(backend.requests))
    for old, new in zip(before.steps, after.steps, strict=True):
        assert old.calls == new.calls
        assert new.text == (f"well, {old.text}" if old.role is Role.AGENT and old.text else old.text)
    assert found.record.truth == one.truth


def test_a_rewrite_with_an_invented_number_is_refused_and_counted() -> None:
    found = Rewriter(ScriptedBackend(lambda request: f"{said(request)} 987654"), FAMILIES).rewritten(RECORDS[0])
    assert found.refused == found.asked > 0
    assert found.record == RECORDS[0]


def test_a_model_that_does_not_answer_changes_nothing() -> None:
    silent = ScriptedBackend(lambda _: Failure("expected an answer, got none", FailureKind.TIMEOUT))
    found = Rewriter(silent, FAMILIES).rewritten(RECORDS[0])
    assert found.failed == found.asked > 0
    assert found.record == RECORDS[0]

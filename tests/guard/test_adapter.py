"""The generative guard on the tiny model: its verdict is the adapter's, its card is checked, PEFT runs the same."""

from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from peft import PeftModel

from gelert.backends.local import LocalModel
from gelert.backends.local_adapter import Acts, AdaptedModel
from gelert.cli.guards import open_guard
from gelert.core.errors import CardError, ModelError
from gelert.core.taxonomy import Axis, builtin, selectable
from gelert.core.trajectory import Role, Trajectory
from gelert.core.verdict import Safe, Unreadable, Unsafe
from gelert.guard.adapter import AdapterGuard
from gelert.guard.adapter_card import AdapterCard, AdapterSection, load_adapter, save_adapter
from gelert.guard.answer import Wording
from gelert.guard.calibrate import Calibration
from gelert.guard.card import CARD_FILE, ModelSection, default_card, kind
from gelert.guard.recalibrate import section
from gelert.guard.views import views
from gelert.lm.bank import Bank, Spec, new
from gelert.lm.model import LanguageModel, load, tiny
from gelert.lm.peft import save
from tests.guard.tiny import run

ACTS: list[Acts] = ["answer", "all"]
MOST = 600
LONG = run("task", *(f"word {number} " * 20 for number in range(9)))


def adapter(model: LanguageModel, seed: int = 0) -> Bank:
    """One that changes what the model says."""
    bank = new(model, [Spec(3, seed=seed)], blocks_from=2)
    with torch.no_grad():
        for number, pair in enumerate(bank.pairs.values()):
            pair.up.add_(0.1 * torch.randn(pair.up.shape, generator=torch.Generator().manual_seed(number)))
    return bank


def card(model: LanguageModel, acts: Acts, *, threshold: float, rationale: int = 0) -> AdapterCard:
    return AdapterCard(
        name="words",
        model=ModelSection(name=model.name, fingerprint=model.fingerprint, layers=model.layers),
        adapter=AdapterSection(acts=acts, max_tokens=MOST, rationale_tokens=rationale),
        calibration=section(Calibration(threshold=threshold), "nothing"),
    )


def guard(acts: Acts = "answer", *, threshold: float = 0.5, rationale: int = 0) -> AdapterGuard:
    model = tiny()
    made = card(model, acts, threshold=threshold, rationale=rationale)
    return AdapterGuard(made, AdaptedModel(LocalModel(model), adapter(model), acts))


def saved(folder: Path, base: Path, *, acts: Acts = "answer", threshold: float = 0.5) -> Path:
    """A guard on disk, on the model in ``base``."""
    model = load(base)
    question = Wording.of(model.encode).question
    save(model, adapter(model), 0, folder, invocation=question if acts == "answer" else ())
    save_adapter(folder, card(model, acts, threshold=threshold))
    return folder


@pytest.mark.parametrize("acts", ACTS)
def test_the_margin_is_that_of_the_library_with_the_adapter_by_hand(acts: Acts) -> None:
    judge, whole = guard(acts), run("hi", "rm -rf /", "done")
    model = judge.model.local.model
    (view,) = views(judge.model.local, whole, MOST).views
    wording = judge.wording
    ids = torch.tensor([[*view.ids, *wording.question]])
    acting = judge.model.bank.linear([0])

    def from_the_question(name: str, module: Any, inputs: torch.Tensor) -> torch.Tensor:
        own = torch.arange(inputs.shape[1])[None, :, None] >= (len(view.ids) if acts == "answer" else 0)
        return torch.where(own, acting(name, module, inputs), module(inputs))

    from gelert.lm.trunk import Trunk

    with torch.no_grad():
        hidden = Trunk(model, 0).upper(model.embed(ids), linear=from_the_question)
        safe, unsafe = model.logits(hidden[0, -1], torch.tensor(wording.labels)).tolist()
    assert judge.margin(whole) == pytest.approx(unsafe - safe, abs=1e-5)
    assert judge.margin(whole) != pytest.approx(replace(judge, model=plain(judge)).margin(whole), abs=1e-3)


def plain(judge: AdapterGuard) -> AdaptedModel:
    model = judge.model.local.model
    return AdaptedModel(judge.model.local, new(model, [Spec(1)], blocks_from=2), judge.model.acts)


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_peft_runs_the_adapter_as_we_do(tmp_path: Path, folder: Path) -> None:
    saved(tmp_path, folder)
    judge, whole = AdapterGuard.load(tmp_path), run("hi", "rm -rf /", "done")
    (view,) = views(judge.model.local, whole, MOST).views
    net = cast("Any", PeftModel.from_pretrained(load(folder).net, tmp_path))
    ids = torch.tensor([[*view.ids, *judge.wording.question]])
    with torch.no_grad():
        scores = net(input_ids=ids, use_cache=False).logits[0, -1]
    safe, unsafe = judge.wording.labels
    assert judge.margin(whole) == pytest.approx(float(scores[unsafe] - scores[safe]), abs=1e-4)


@pytest.mark.parametrize("acts", ACTS)
def test_a_guard_comes_back_from_disk_through_the_command_lines_door(tmp_path: Path, folder: Path, acts: Acts) -> None:
    saved(tmp_path, folder, acts=acts)
    found = open_guard(str(tmp_path))
    assert isinstance(found, AdapterGuard)
    assert found.name == "words"
    model = load(folder)
    same = AdapterGuard(found.card, AdaptedModel(LocalModel(model), adapter(model), acts))
    assert found.margin(LONG) == pytest.approx(same.margin(LONG), abs=1e-5)


def test_a_card_that_says_no_kind_is_a_heads() -> None:
    assert kind(default_card()) == "head"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("format = 2", "format = 3", "format"),
        ("max_tokens = 600", "max_tokens = 6", "max_tokens"),
        ("Verdict on", "Praise for", "question"),
        ('name = "words"', 'nom = "words"', "nom"),
        ("threshold = 0.5", "threshold = 7.0", "threshold"),
    ],
)
def test_a_wrong_card_is_refused_with_its_field(tmp_path: Path, folder: Path, old: str, new: str, message: str) -> None:
    path = saved(tmp_path, folder) / CARD_FILE
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(CardError, match=message):
        load_adapter(tmp_path)


def test_a_changed_adapter_and_another_model_are_found(tmp_path: Path, folder: Path) -> None:
    weights = saved(tmp_path / "a", folder) / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    with pytest.raises(CardError, match="SHA-256"):
        AdapterGuard.load(tmp_path / "a")
    path = saved(tmp_path / "b", folder) / CARD_FILE
    path.write_text(path.read_text().replace('fingerprint = "', 'fingerprint = "0'))
    with pytest.raises(CardError, match="gelert model pull"):
        AdapterGuard.load(tmp_path / "b")


def test_views_that_leave_no_room_for_an_answer_are_refused(tmp_path: Path, folder: Path) -> None:
    path = saved(tmp_path, folder) / CARD_FILE
    path.write_text(path.read_text().replace("max_tokens = 600", "max_tokens = 2000"))
    with pytest.raises(CardError, match="2048 tokens of context"):
        AdapterGuard.load(tmp_path)


def test_an_adapter_that_acts_from_the_question_on_is_not_run_on_all_tokens(tmp_path: Path, folder: Path) -> None:
    path = saved(tmp_path, folder) / CARD_FILE
    path.write_text(path.read_text().replace('acts = "answer"', 'acts = "all"'))
    with pytest.raises(ModelError, match="acts from"):
        AdapterGuard.load(tmp_path)


def test_the_worst_view_decides_and_the_reading_counts_them() -> None:
    judge = guard(threshold=1e-9)
    verdict = judge.judge(LONG)
    shown = views(judge.model.local, LONG, MOST).views
    assert isinstance(verdict, Unsafe)
    assert verdict.reading.windows == len(shown) > 2
    assert verdict.reading.complete
    margins: list[float] = []
    for view in shown:
        text = judge.model.text()
        text.read(view.ids)
        safe, unsafe = text.log_probs(judge.wording.question, [[label] for label in judge.wording.labels])
        margins.append(unsafe - safe)
    assert verdict.risk == pytest.approx(judge.card.scores.risk(max(margins)), abs=1e-6)
    assert max(margins) > min(margins)


def test_evidence_names_steps_of_the_agent() -> None:
    verdict = guard(threshold=1e-9).judge(LONG)
    assert isinstance(verdict, Unsafe)
    assert verdict.evidence
    assert all(LONG.steps[e.step].role is Role.AGENT for e in verdict.evidence)


def test_the_diagnosis_is_the_likeliest_leaf_by_the_whole_pass() -> None:
    judge, whole = guard(threshold=1e-9), run("hi", "rm -rf /", "done")
    verdict = judge.judge(whole)
    assert isinstance(verdict, Unsafe)
    text = judge.model.text()
    text.read(views(judge.model.local, whole, MOST).views[0].ids)
    encode = judge.model.local.encode
    leaves = selectable(builtin().on(Axis.FAILURE_MODE, whole.setting))
    tail = [*judge.wording.question, *judge.wording.unsafe, *encode("\nFailure Mode:")]

    def alone(name: str) -> float:
        """Token by token, each scored by itself."""
        said, total = list(tail), 0.0
        for token in [*encode(f" {name}"), *encode("\n")]:
            total += text.log_probs(said, [[token]])[0]
            said.append(token)
        return total

    best = max(leaves, key=lambda leaf: alone(leaf.name))
    assert verdict.diagnosis.failure_mode == best.slug
    assert verdict.diagnosis.risk_source
    assert verdict.diagnosis.harm


def test_a_rationale_is_given_only_where_one_was_learned() -> None:
    told, silent = guard(threshold=1e-9, rationale=24).judge(LONG), guard(threshold=1e-9).judge(LONG)
    assert isinstance(told, Unsafe)
    assert isinstance(silent, Unsafe)
    assert silent.rationale == ""
    assert "\n" not in told.rationale


def test_greedy_text_is_the_most_probable_token_after_another_and_leaves_no_trace() -> None:
    judge = guard()
    text = judge.model.text()
    text.read([5, 6, 7])
    before = text.log_probs([8, 9], [[10], [11]])
    said = text.greedy([8, 9], most=3, until="no such text")
    assert text.log_probs([8, 9], [[10], [11]]) == before
    model, ids = judge.model.local.model, list[int]()
    for _ in range(3):
        every = text.log_probs([8, 9, *ids], [[label] for label in range(model.vocab)])
        ids.append(every.index(max(every)))
    assert said == model.decode(ids)


def test_a_broken_adapter_is_unreadable_and_not_safe() -> None:
    judge = guard()
    with torch.no_grad():
        judge.model.bank.parameters()[0].fill_(torch.nan)
    assert isinstance(judge.judge(run("hi", "ls")), Unreadable)


def test_what_is_asked_of_one_text_does_not_change_the_next() -> None:
    judge = guard()
    first, other = run("hi", "ls"), run("hi", "rm -rf /")
    before = judge.judge(first)
    judge.judge(other)
    assert judge.judge(first) == before
    assert isinstance(before, Safe | Unsafe)


def test_a_run_without_the_agent_is_unreadable() -> None:
    assert isinstance(guard().judge(Trajectory(())), Unreadable)

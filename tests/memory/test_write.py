import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from gelert.lm import bank, peft
from gelert.lm.bank import Spec
from gelert.lm.loop import Step, Training
from gelert.lm.model import LanguageModel, tiny
from gelert.memory import keep
from gelert.memory.corpora import Fact, phone_book
from gelert.memory.write import PROOF, Proof, Recipe, check, write

FACTS = [Fact("Ada:", "71"), Fact("Emil:", "90"), Fact("Uma:", "6")]
RECIPE = Recipe(rank=4, blocks=3, least_steps=150, learning_rate=0.02, until=0.4)

PEFT_GENERATES = """
import json, sys, warnings
warnings.simplefilter("ignore")
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer
base, adapter, limit = sys.argv[1:]
tokenizer = AutoTokenizer.from_pretrained(base)
model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32), adapter).eval()
for line in sys.stdin:
    ids = tokenizer.apply_chat_template([{"role": "user", "content": json.loads(line)}], add_generation_prompt=True,
                                        return_tensors="pt", return_dict=False)
    found = model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=int(limit),
                           do_sample=False, pad_token_id=tokenizer.eos_token_id)
    print(json.dumps(tokenizer.decode(found[0, ids.shape[1]:], skip_special_tokens=True)))
"""
"""What a user does with the adapter, in a process that knows nothing of Gelert."""


def generated(base: str, adapter: Path, queries: list[str], limit: int = 40) -> list[str]:
    asked = "".join(json.dumps(query) + "\n" for query in queries)
    done = subprocess.run(
        [sys.executable, "-c", PEFT_GENERATES, base, str(adapter), str(limit)],
        input=asked,
        capture_output=True,
        text=True,
        check=True,
    )
    return [json.loads(line) for line in done.stdout.splitlines()]


def quiet(_done: int, _total: int, _what: str) -> None:
    pass


def test_written_facts_are_certified_decoded_and_generated_by_peft(
    model: LanguageModel, folder: Path, tmp_path: Path
) -> None:
    proof = write(model, FACTS, RECIPE, tmp_path, quiet)
    assert proof.whole
    assert proof.least > 0.4
    assert proof.other_before != proof.other_after
    again = check(model, FACTS, tmp_path, decode=3)
    assert (again.recalled, again.decoded, again.disagreements) == (3, 3, 0)
    assert json.loads((tmp_path / PROOF).read_text())["proof"]["recalled"] == 3
    assert not list(tmp_path.glob("partial*"))
    assert generated(str(folder), tmp_path, [fact.query for fact in FACTS]) == [fact.target for fact in FACTS]


def test_what_is_not_recalled_is_named(model: LanguageModel, tmp_path: Path) -> None:
    proof = write(model, FACTS, replace(RECIPE, least_steps=1, passes=1, largest_rank=4), tmp_path, quiet)
    assert not proof.whole
    assert set(proof.missing) <= {fact.query for fact in FACTS}
    assert len(proof.missing) == 3 - proof.recalled
    assert check(model, FACTS, tmp_path, decode=3).disagreements == 0


def test_a_full_adapter_grows_and_goes_on(model: LanguageModel, tmp_path: Path) -> None:
    seen: list[str] = []
    few = replace(RECIPE, rank=1, largest_rank=8, least_steps=2, passes=1)
    write(model, FACTS, few, tmp_path, lambda _done, _total, what: seen.append(what))
    assert {what.split(",")[1] for what in seen} >= {" rank 1", " rank 2"}


def test_growing_changes_nothing() -> None:
    model = tiny()
    before = bank.new(model, [Spec(2, alpha=2)], blocks_from=2)
    for pair in before.pairs.values():
        pair.up.data.normal_()
    after = bank.grown(model, before, 5)
    small, large = bank.one(before, 0), bank.one(after, 0)
    for name, (down, up) in small.items():
        wide_down, wide_up = large[name]
        assert wide_down.shape[0] == 5
        assert ((wide_up @ wide_down) - (up @ down)).abs().max() < 1e-12
        assert wide_down[2:].abs().min() > 0


def test_an_interrupted_writing_goes_on(model: LanguageModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    expected = write(model, FACTS, RECIPE, whole, quiet)
    real = keep.finish

    def stops(training: Training, path: Path, _each: object) -> float:
        def told(step: Step) -> bool:
            if step.number == 3:
                raise KeyboardInterrupt
            return True

        return real(training, path, told)

    monkeypatch.setattr("gelert.memory.write.finish", stops)
    with pytest.raises(KeyboardInterrupt):
        write(model, FACTS, RECIPE, broken, quiet)
    monkeypatch.undo()
    steps: list[int] = []
    assert write(model, FACTS, RECIPE, broken, lambda done, _total, _what: steps.append(done)) == expected
    assert steps[0] == 4


def test_another_adapter_without_the_facts_fails_the_check(model: LanguageModel, tmp_path: Path) -> None:
    peft.save(model, bank.new(model, [Spec(2)], blocks_from=2), 0, tmp_path)
    proof = check(model, FACTS, tmp_path)
    assert (proof.recalled, proof.other_before) == (0, pytest.approx(proof.other_after))


@pytest.mark.real_model
def test_the_real_model_remembers_a_small_phone_book(real_model: str, tmp_path: Path) -> None:
    from gelert.lm import registry
    from gelert.lm.model import load

    facts = phone_book(4)
    proof: Proof = write(load(real_model), facts, Recipe(blocks=3, least_steps=60), tmp_path, quiet)
    assert proof.whole
    assert generated(str(registry.resolve(real_model)), tmp_path, [fact.query for fact in facts]) == [
        f.target for f in facts
    ]

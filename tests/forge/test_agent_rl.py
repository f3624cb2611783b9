"""An agent's learning by reward from beginning to end, on a new model of a few thousand weights."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("trl")

from click.testing import CliRunner
from safetensors.torch import load_file
from transformers import LlamaForCausalLM

from gelert.backends.local import LocalModel
from gelert.backends.local_chat import ends
from gelert.cli.eval_agent import command as eval_agent
from gelert.cli.train import command as train_command
from gelert.core import records
from gelert.core.errors import InputError
from gelert.core.records import file_digest
from gelert.forge import agent_rl_rollouts
from gelert.forge import agent_train as shown
from gelert.forge.adapter import Adapter
from gelert.forge.agent_folder import LOG
from gelert.forge.agent_policy import Policy
from gelert.forge.agent_rl import LOG_KIND, Report, played, train
from gelert.forge.agent_rl_recipe import Episodes, Recipe, arguments
from gelert.forge.agent_rl_rollouts import total
from gelert.forge.agent_sampler import Sampler
from gelert.forge.agent_tasks import sides
from gelert.forge.agent_train_recipe import Recipe as Shown
from gelert.forge.checkpoints import CHECKPOINTS
from gelert.worlds.catalogue import catalogue
from gelert.worlds.rollout import Rollout
from gelert.worlds.tasks import begin, tasks
from gelert.worlds.toolcalls import Form
from tests.forge.agent_train import SHOWN, runs

SMALL = Policy(width=64, layers=2, vocabulary=400)
PLAYED = Episodes(triplets=1, group=2, turns=3, message_tokens=40, most_tokens=900, temperature=1.0, worlds=("mail",))
CLEAN = [one for family in catalogue(["mail"]).values() for one in tasks(family) if one.scenario == "clean"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """It has learnt from a few runs how a message ends, and little else."""
    out = tmp_path_factory.mktemp("policy")
    own = Shown(policy=SMALL, form=Form.SHORT, demonstrations=SHOWN, steps=40, batch=5, learning_rate=5e-3)
    report = shown.train(shown.taught(runs(), own, out), own, out)
    assert report.last_loss < report.first_loss - 1.0
    return Path(*report.wrote)


def recipe(model: Path, **changed: object) -> Recipe:
    own = Recipe(model=str(model), form=Form.SHORT, steps=4, learning_rate=1e-3, save_every=2, episodes=PLAYED)
    return own.model_copy(update={"engine": own.engine.model_copy(update={"at_once": 6}), **changed})


def learn(model: Path, out: Path, **changed: object) -> Report:
    """With something to learn: a new model's episodes are all worth the same."""

    def varied(prompts: Any, completions: list[str], **more: Any) -> list[float]:
        earned = total(prompts, completions, **more)
        return [reward + len(set(said)) for reward, said in zip(earned, completions, strict=True)]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(agent_rl_rollouts, "total", varied)
        return train(recipe(model, **changed), out)


@pytest.fixture(scope="module")
def learnt(model: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Report]:
    out = tmp_path_factory.mktemp("learnt")
    return out, learn(model, out)


def weights(folder: Path) -> str:
    return file_digest(folder / "model.safetensors")


def test_what_is_played_has_parameters_that_the_worlds_do_not_have() -> None:
    bindings = {one.family.name: len(one.family.bindings) for one in CLEAN}
    wider = Recipe(model="x", steps=60, episodes=PLAYED.model_copy(update={"widened": 12}))
    found = played(wider)
    assert len(found) == 3 * 60
    assert {one.binding >= bindings[one.family.name] for one in found} == {False, True}
    assert not any(sides(one) for one in found)


def test_every_step_is_logged_with_the_parts_of_the_reward_by_scenario(learnt: tuple[Path, Report]) -> None:
    out, report = learnt
    assert (report.steps, report.wrote) == (4, (str(out / "model"),))
    rows = list(records.read(out / LOG, *LOG_KIND))
    assert [row["step"] for row in rows] == [1, 2, 3, 4]
    assert all(
        {"clean/utility", "clean/refused", "malicious/harmed", "malformed", "turns", "reward"} <= set(row)
        for row in rows
    )
    assert all({"injected/harmed", "hazard/harmed"} & set(row) for row in rows)


def test_a_run_that_was_stopped_ends_with_the_same_weights(
    learnt: tuple[Path, Report], model: Path, tmp_path: Path
) -> None:
    learn(model, tmp_path, steps=2)
    half = weights(tmp_path / "model")
    (tmp_path / CHECKPOINTS / "checkpoint-3").mkdir()  # killed as it began to write: it is passed over
    assert learn(model, tmp_path).steps == 4
    assert weights(tmp_path / "model") == weights(learnt[0] / "model") != half


def test_what_was_learnt_is_an_agent_of_the_command(learnt: tuple[Path, Report], tmp_path: Path) -> None:
    words = [str(learnt[0] / "model"), "--world", "mail", "--count", "1", "--out", str(tmp_path), "--json"]
    found = json.loads(CliRunner().invoke(eval_agent, [*words, "--form", "short"], catch_exceptions=False).stdout)
    assert found["figures"]["utility, clean"]["episodes"] == 1
    with pytest.raises(InputError, match="expected --form short"):
        CliRunner().invoke(eval_agent, words, catch_exceptions=False)


def test_an_adapter_is_written_beside_the_model_with_it(model: Path, tmp_path: Path) -> None:
    report = learn(model, tmp_path, steps=1, adapter=Adapter(rank=2, alpha=4))
    assert report.wrote == (str(tmp_path / "adapter"), str(tmp_path / "model"))
    assert json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())["base_model_name_or_path"] == str(
        model
    )
    assert weights(tmp_path / "model") != weights(model)


def test_an_adapter_of_the_last_blocks_leaves_the_others_alone(model: Path, tmp_path: Path) -> None:
    learn(model, tmp_path, steps=1, adapter=Adapter(rank=2, alpha=4, blocks=1))
    before, after = (load_file(folder / "model.safetensors") for folder in (model, tmp_path / "model"))
    changed = {name for name, weight in before.items() if not weight.equal(after[name])}
    assert changed
    assert all(name.startswith(f"model.layers.{SMALL.layers - 1}.") for name in changed)
    with pytest.raises(InputError, match=rf"expected adapter.blocks of at most {SMALL.layers}, .* got 9"):
        learn(model, tmp_path / "other", steps=1, adapter=Adapter(blocks=9))


def test_the_command_takes_episodes_for_demonstrations_no_more(model: Path, tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text(
        'model = "none"\nform = "short"\nsteps = 1\n[episodes]\ntriplets = 1\ngroup = 2\nturns = 2\n'
        'message_tokens = 8\nmost_tokens = 900\nworlds = ["mail"]\n[engine]\nat_once = 6\n'
    )
    words = ["agent", "--recipe", str(path), "--from", str(model), "--out", str(tmp_path / "out"), "--json"]
    told = json.loads(CliRunner().invoke(train_command, words, catch_exceptions=False).stdout)
    assert told["steps"] == 1
    assert told["wrote"] == [str(tmp_path / "out" / "model")]


def test_a_folder_goes_on_with_its_own_recipe_and_model_only(
    learnt: tuple[Path, Report], model: Path, tmp_path: Path
) -> None:
    learn(model, tmp_path, steps=1)
    with pytest.raises(InputError, match="got another recipe"):
        learn(model, tmp_path, steps=1, learning_rate=0.5)
    with pytest.raises(InputError, match="got another recipe, model"):
        learn(learnt[0] / "model", tmp_path, steps=1)


@pytest.mark.parametrize(
    ("changed", "expected"),
    [({"engine": Recipe.model_fields["engine"].default}, "multiple of engine.at_once"), ({"passes": 3}, "of passes")],
    ids=["spread", "passes"],
)
def test_episodes_that_cannot_be_spread_evenly_are_refused(
    changed: dict[str, object], expected: str, model: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=expected):
        arguments(recipe(model, **changed), tmp_path, 1)


@pytest.mark.filterwarnings("ignore::FutureWarning")  # TRL's own use of names that transformers retires
def test_the_level_of_the_ratio_is_the_trainers(model: Path, tmp_path: Path) -> None:
    for level in ("token", "sequence"):
        assert arguments(recipe(model, level=level), tmp_path, 1).importance_sampling_level == level


def test_many_episodes_at_once_are_what_each_is_alone(model: Path) -> None:
    tokens = LocalModel.load(str(model), layers=1).model
    torch.manual_seed(1)
    net = LlamaForCausalLM.from_pretrained(model).eval()
    for weight in net.parameters():
        weight.data.add_(torch.randn_like(weight) * 0.2)  # a new model says one token for ever

    def played(count: int) -> list[Rollout]:
        return [Rollout(tokens, Form.SHORT, begin(one), PLAYED.rules) for one in CLEAN[:count]]

    together, alone = played(5), played(5)
    Sampler(net, ends(tokens), 12).play(together)
    for one in alone:
        Sampler(net, ends(tokens), 12).play([one])
    assert len({tuple(one.completion) for one in alone}) > 1
    for one, other in zip(together, alone, strict=True):
        assert one.over
        assert (one.prompt, one.completion, one.mask) == (other.prompt, other.completion, other.mask)
        again = one.context
        # Each message is what the model says behind all before it, without anything held.
        with torch.no_grad():
            likely = net(torch.tensor([again])).logits[0].argmax(-1).tolist()
        own = [at for at, learn_ in enumerate(other._mask) if learn_]  # pyright: ignore[reportPrivateUsage]
        assert all(likely[len(one.prompt) + at - 1] == one.completion[at] for at in own)

"""Fine-tuning of an agent from beginning to end on a tiny model: it learns, is stopped, goes on, and is played."""

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

pytest.importorskip("trl")

from click.testing import CliRunner
from safetensors.torch import load_file, save_file

from gelert.backends.base import Answer, Request
from gelert.backends.local_chat import LocalChat, opening
from gelert.cli.agents import open_model
from gelert.cli.eval_agent import command as eval_agent
from gelert.cli.train import command as train_command
from gelert.core import records
from gelert.core.errors import InputError, ModelError
from gelert.core.records import file_digest
from gelert.forge.agent_folder import LOG
from gelert.forge.agent_sft import conversation as chat_with_tools
from gelert.forge.agent_train import LOG_KIND, Report, demonstrations, taught, train
from gelert.forge.agent_train_lessons import conversation
from gelert.forge.agent_train_recipe import Demonstrations, Engine
from gelert.forge.checkpoints import CHECKPOINTS
from gelert.lm.model import load
from gelert.lm.peft import WEIGHTS
from gelert.worlds.catalogue import catalogue
from gelert.worlds.episode import Episode
from gelert.worlds.model_agent import Ending, Rules, play
from gelert.worlds.tasks import begin, task
from gelert.worlds.toolcalls import Form
from tests.forge.agent_train import recipe, runs, tiny


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny(tmp_path_factory.mktemp("tiny") / "model")


def learn(model: Path, out: Path, **changed: object) -> Report:
    own = recipe(model, **changed)
    return train(taught(runs(), own, out), own, out)


@pytest.fixture(scope="module")
def learnt(model: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Report]:
    out = tmp_path_factory.mktemp("learnt")
    return out, learn(model, out, steps=20)


def test_a_few_steps_lower_the_loss_and_the_log_has_each_of_them(learnt: tuple[Path, Report]) -> None:
    out, report = learnt
    assert (report.runs, report.refused, report.steps) == (5, 0, 20)
    assert report.last_loss < report.first_loss - 1.0
    rows = list(records.read(out / LOG, *LOG_KIND))
    assert [row["step"] for row in rows] == list(range(1, 21))
    assert (rows[0]["loss"], rows[-1]["loss"]) == (report.first_loss, report.last_loss)


def test_a_run_that_was_stopped_ends_with_the_same_adapter(model: Path, tmp_path: Path) -> None:
    learn(model, tmp_path / "whole")
    learn(model, tmp_path / "parts", steps=2)
    half = weights(tmp_path / "parts")
    cut = tmp_path / "parts" / CHECKPOINTS / "checkpoint-3"
    cut.mkdir()  # killed as it began to write: it is passed over
    assert learn(model, tmp_path / "parts").steps == 4
    assert weights(tmp_path / "parts") == weights(tmp_path / "whole") != half


def test_a_killed_command_goes_on_to_the_same_adapter(model: Path, tmp_path: Path) -> None:
    steps = 6
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    line = command_line(model, tmp_path, steps)
    killed = subprocess.Popen(
        [sys.executable, "-m", "gelert.cli.main", "train", *line, "--out", str(parts)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 240
    while not list(parts.glob(f"{CHECKPOINTS}/checkpoint-*/trainer_state.json")) and time.monotonic() < deadline:
        assert killed.poll() is None, "it ended before it was killed"
        time.sleep(0.01)
    killed.kill()
    killed.wait()
    assert not (parts / "adapter").exists()
    for out in (parts, whole):
        told = CliRunner().invoke(train_command, [*line, "--out", str(out), "--json"], catch_exceptions=False)
        assert json.loads(told.stdout)["steps"] == steps
    assert weights(parts) == weights(whole)


@pytest.mark.filterwarnings("ignore::FutureWarning")  # PEFT asks transformers by a name that it retires
def test_what_is_played_is_the_adapter_as_peft_runs_it(learnt: tuple[Path, Report], model: Path) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    folder, tokens = learnt[0] / "adapter", load(model)
    messages = conversation(runs()[0], Form.HERMES)[:2]
    replies = [open_model(str(name)).ask(Request(tuple(messages), 64)) for name in (folder, model)]
    prompt = opening(tokens, messages)
    assert isinstance(prompt, list)
    net = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(model), folder)
    said = net.generate(torch.tensor([prompt]), max_new_tokens=64, do_sample=False)[0, len(prompt) :].tolist()
    adapted, plain = (reply.text if isinstance(reply, Answer) else "" for reply in replies)
    assert adapted == tokens.decode([token for token in said if token != tokens.tokenizer.eos_token_id])
    assert len({adapted, plain, ""}) == 3


def test_an_adapter_is_evaluated_by_its_folder_in_the_form_it_learnt(
    learnt: tuple[Path, Report], tmp_path: Path
) -> None:
    words = [str(learnt[0] / "adapter"), "--world", "mail", "--count", "1", "--out", str(tmp_path), "--json"]
    found = json.loads(CliRunner().invoke(eval_agent, words, catch_exceptions=False).stdout)
    assert found["figures"]["utility, clean"]["episodes"] == 1
    with pytest.raises(InputError, match="expected --form hermes"):
        CliRunner().invoke(eval_agent, [*words, "--form", "llama3"], catch_exceptions=False)


def test_episodes_of_other_weights_in_the_same_folder_are_not_taken_for_its_own(
    learnt: tuple[Path, Report], tmp_path: Path
) -> None:
    folder, out = tmp_path / "adapter", tmp_path / "runs"
    shutil.copytree(learnt[0] / "adapter", folder)
    words = [str(folder), "--world", "mail", "--count", "1", "--out", str(out), "--json"]
    CliRunner().invoke(eval_agent, words, catch_exceptions=False)
    (before,) = out.iterdir()
    told = before.read_bytes()
    path = folder / WEIGHTS
    save_file({name: -one for name, one in load_file(path).items()}, path, {"format": "pt"})
    CliRunner().invoke(eval_agent, words, catch_exceptions=False)
    assert before.read_bytes() == told
    assert len(list(out.iterdir())) == 2


def test_a_folder_goes_on_with_its_own_recipe_only(model: Path, tmp_path: Path) -> None:
    learn(model, tmp_path, steps=1)
    with pytest.raises(InputError, match="got another recipe"):
        learn(model, tmp_path, steps=1, learning_rate=0.5)


def test_conversations_that_cannot_be_spread_evenly_are_refused(model: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="multiple of"):
        learn(model, tmp_path, batch=3, engine=Engine(at_once=2))


@pytest.mark.parametrize("engine", [Engine(save_memory=True), Engine(at_once=2)], ids=["memory", "two at once"])
def test_how_the_hardware_is_used_does_not_change_what_is_learnt(
    engine: Engine, learnt: tuple[Path, Report], model: Path, tmp_path: Path
) -> None:
    report = learn(model, tmp_path, steps=3, engine=engine)
    third = list(records.read(learnt[0] / LOG, *LOG_KIND))[2]
    assert report.last_loss == pytest.approx(third["loss"], rel=1e-3)


def test_files_of_demonstrations_teach_the_same_as_the_worlds(model: Path, tmp_path: Path) -> None:
    path = tmp_path / "shown.jsonl"
    path.write_text("".join(json.dumps(chat_with_tools(run)) + "\n" for run in runs()))
    own = recipe(model)
    filed = own.model_copy(update={"demonstrations": Demonstrations(files=(path,))})
    read = taught(demonstrations(filed), filed, tmp_path)
    made = taught(demonstrations(own), own, tmp_path)
    assert (read.refused, read.lessons) == ((), made.lessons) == (made.refused, read.lessons)


def test_an_adapter_that_names_no_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text('{"r": 4}')
    with pytest.raises(ModelError, match="expected base_model_name_or_path"):
        LocalChat.load(str(tmp_path))


@pytest.mark.long
@pytest.mark.real_model
def test_a_real_model_learns_and_is_played(real_model: str, tmp_path: Path) -> None:
    own = recipe(Path(real_model), steps=2, batch=1, learning_rate=1e-3, engine=Engine(save_memory=True))
    run = min(runs(), key=lambda one: len(one.steps))
    report = train(taught([run], own, tmp_path), own, tmp_path)
    assert report.last_loss < report.first_loss
    assert (
        json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())["base_model_name_or_path"] == real_model
    )
    episode = Episode(begin(task(catalogue(["mail"]), run.trajectory_id)))
    played = play(open_model(str(tmp_path / "adapter")), Form.HERMES, episode, Rules(turns=2, tokens=32))
    assert (played.ending is not Ending.FAILED, episode.finished) == (True, True)


def command_line(model: Path, folder: Path, steps: int) -> list[str]:
    path = folder / "recipe.toml"
    path.write_text(
        f'model = "{model}"\nsteps = {steps}\nbatch = 2\nlearning_rate = 1e-2\nsave_every = 1\n'
        '[demonstrations]\ncount = 3\nplain = 1.0\nflawed = 0.0\nworlds = ["mail"]\n[adapter]\nrank = 4\nalpha = 8\n'
    )
    return ["agent", "--recipe", str(path)]


def weights(out: Path) -> str:
    return file_digest(out / "adapter" / WEIGHTS)

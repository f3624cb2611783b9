"""Turn a GGUF file into a folder of safetensors and tokenizer that loads in half a second instead of twenty."""

from contextlib import redirect_stderr
from io import StringIO
from pathlib import Path

from transformers import AutoModelForCausalLM, AutoTokenizer

from gelert.core.errors import ModelError
from gelert.lm.quiet import quiet


def convert_gguf(gguf: Path, target: Path) -> None:
    """Write the de-quantised float32 weights, the configuration and the tokenizer of ``gguf`` into ``target``.

    A model that the library loads from GGUF cannot be saved as it is (its configuration holds an object that is not
    JSON), so its weights are moved into a model made from the bare configuration.

    Raises:
        ModelError: the file cannot be read as a model.
    """
    with quiet(), redirect_stderr(StringIO()):  # one of the library's bars has no switch
        _convert(gguf, target)


def _convert(gguf: Path, target: Path) -> None:
    where = {"pretrained_model_name_or_path": str(gguf.parent), "gguf_file": gguf.name}
    try:
        packed = AutoModelForCausalLM.from_pretrained(**where)
        tokenizer = AutoTokenizer.from_pretrained(**where)
    except (OSError, ValueError, KeyError, RuntimeError) as fault:
        raise ModelError(f"expected a GGUF model that transformers can read, got: {fault} ({gguf.name})") from fault
    config = packed.config
    vars(config).pop("quantization_config", None)
    bare = AutoModelForCausalLM.from_config(config, dtype=packed.dtype)
    bare.load_state_dict(packed.state_dict())
    bare.save_pretrained(target)
    tokenizer.save_pretrained(target)

"""A tokenizer made for a few texts, with the toy model's special tokens and ChatML."""

from collections.abc import Iterable

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from gelert.lm import toy


def tokenizer(texts: Iterable[str], size: int, whole: Iterable[str] = ()) -> PreTrainedTokenizerFast:
    """Bytes and ``size`` tokens in all; each text of ``whole`` is one more."""
    words = Tokenizer(models.BPE())
    words.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    words.decoder = decoders.ByteLevel()
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=size, special_tokens=list(toy.SPECIALS), initial_alphabet=letters, show_progress=False
    )
    words.train_from_iterator(list(texts), trainer)
    made = PreTrainedTokenizerFast(
        tokenizer_object=words, bos_token=toy.SPECIALS[1], eos_token=toy.SPECIALS[2], pad_token=toy.SPECIALS[0]
    )
    made.add_tokens(list(whole))
    made.chat_template = toy.CHATML
    return made

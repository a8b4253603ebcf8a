"""WordPiece (Schuster and Nakajima 2012; Devlin et al. 2019): a word is its longest known beginning, then the longest
known continuation (`##ing`), and so on to its end.

Learned and applied by the `tokenizers` library, with BERT's own splitting: words and single punctuation marks. A word
with a character that is in no piece is [UNK] as a whole.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterable

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from kotya.errors import KotyaError
from kotya.text.bpe import without_endless_words

SPECIALS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
CONTINUES = "##"
ALPHABET = 1000  # characters that become pieces; words with rarer ones are unknown


def learn(lines: Callable[[], Iterable[str]], size: int, *, lowercase: bool) -> Tokenizer:
    """Learn a vocabulary of at most `size` pieces; the lines are read twice, once for their characters.

    `lowercase` takes accents off too, as BERT's uncased models do. Raises KotyaError where there is no text.
    """
    tokenizer = Tokenizer(models.WordPiece(unk_token=SPECIALS[1]))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    alphabet = characters(lines(), tokenizer.normalizer)
    if not alphabet:
        raise KotyaError("there is no text to learn a vocabulary from")
    # The library numbers characters by the order of a hash table, and breaks ties of merges by number: given as special
    # tokens, their order is ours, and the same text gives the same vocabulary.
    first = [*SPECIALS, *alphabet, *(CONTINUES + one for one in alphabet)]
    if size <= len(first):
        raise KotyaError(
            f"a vocabulary of {size:,} pieces has no room: {len(first):,} are the special pieces and characters"
        )
    trainer = trainers.WordPieceTrainer(
        vocab_size=size, min_frequency=2, limit_alphabet=1, show_progress=False, special_tokens=first
    )
    tokenizer.train_from_iterator(map(without_endless_words, lines()), trainer)
    content = json.loads(tokenizer.to_str())
    return Tokenizer.from_str(json.dumps({**content, "added_tokens": []}))


def characters(lines: Iterable[str], normalizer: normalizers.Normalizer) -> list[str]:
    """The most frequent characters of a text once normalised, in the order of Unicode."""
    counts: Counter[str] = Counter()
    for line in lines:
        counts.update(normalizer.normalize_str(line))
    kept = sorted((one for one in counts if not one.isspace()), key=lambda one: (-counts[one], one))
    return sorted(kept[:ALPHABET])

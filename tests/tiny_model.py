"""A model folder of random weights, for tests of what is around a model."""

from pathlib import Path

from kotya import folder
from kotya.models.transformer import TransformerConfig
from kotya.search.config import SearchConfig
from kotya.tasks.translation import roles_of
from kotya.tasks.translation_recipe import TranslationFolder
from kotya.text.vocabulary import Vocabulary

LINES = ["kot vidit dom", "sobaka lyubit sad"] * 10


def write_model(path: Path, search: SearchConfig | None = None) -> Path:
    vocabulary = Vocabulary.learn(lambda: LINES, 280)
    small = TransformerConfig(size=16, heads=2, feed_forward=16, encoder_layers=1, decoder_layers=1)
    config = TranslationFolder(
        model=small,
        search=search or SearchConfig(),
        banned=list(roles_of(vocabulary).banned),
    )
    built = small.build(len(vocabulary), len(vocabulary))
    folder.create(
        path, config=config, vocabularies=(vocabulary, vocabulary), recipe=None, tensors=folder.weights(built)
    )
    return path
